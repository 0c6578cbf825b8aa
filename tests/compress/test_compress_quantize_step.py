"""`quantize` on whole models: what each method does, what composes, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from kleiber.compress.calibration import Calibration
from kleiber.compress.quantize import Quantize
from kleiber.compress.subject import Subject
from kleiber.data import Batch
from kleiber.errors import RecipeError, UsageError
from kleiber.models import build, resolve_spec
from kleiber.models.stored import Form, LowRank, Masked, Quantized
from kleiber.runs import DataShape, ModelRecipe, Recipe, TaskRecipe
from kleiber.tasks import task_of

SIZES: dict[str, dict[str, Any]] = {
    "gpt": {"depth": 2, "width": 32},
    "untied": {"depth": 2, "width": 32, "is_tied": False},
    "mlp": {"depth": 2, "width": 24},
    "resnet": {"depth": 8, "width": 4},
}
IMAGES = DataShape(inputs="images", channels=3, height=8, width=8, num_outputs=5)


def subject_of(kind: str, forms: dict[str, Form] | None = None) -> tuple[Subject, Calibration]:
    """Return a model with random weights everywhere and data that it is calibrated on."""
    family = "gpt" if kind in {"gpt", "untied"} else kind
    shape = DataShape(inputs="tokens", vocab_size=64, context=32) if family == "gpt" else IMAGES
    task = TaskRecipe(name="lm" if family == "gpt" else "classification")
    recipe = Recipe(model=ModelRecipe(family=family, **SIZES[kind]), task=task).with_shape(shape)
    spec = resolve_spec(recipe)
    module = build(spec).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(
                    torch.randn(parameter.shape, generator=generator) * parameter[0].numel() ** -0.5
                )
            elif name.endswith(("attn_norm", "mlp_norm")):
                parameter.copy_(0.3 + torch.rand(parameter.shape, generator=generator) ** 4 * 6)
        for name, form in (forms or {}).items():
            parameter = module.get_parameter(name)
            parameter.copy_(
                parameter * form.is_kept_RC.view_as(parameter) if isinstance(form, Masked) else form.dense()
            )
    if family == "gpt":
        arrays = {"tokens": torch.randint(64, (16, 33), generator=generator).numpy()}
    else:
        arrays = {
            "images": torch.randn(16, 3, 8, 8, generator=generator).numpy(),
            "labels": torch.randint(5, (16,), generator=generator).numpy(),
        }
    batches = tuple(
        Batch({role: array[start : start + 8] for role, array in arrays.items()}, start + 8)
        for start in (0, 8)
    )
    data: Any = None  # quantize looks at calibration alone
    subject = Subject(module, spec, recipe, data, task_of(task), forms=forms or {})
    return subject, Calibration(batches, "random", 16, 0, "0")


def logits(subject: Subject, calibration: Calibration) -> Tensor:
    role = "tokens" if "tokens" in calibration.batches[0].arrays else "images"
    inputs = torch.cat([torch.from_numpy(batch.arrays[role]) for batch in calibration.batches])
    with torch.no_grad():
        outputs: Tensor = subject.module(inputs[:, :-1] if role == "tokens" else inputs)
    return outputs


def change(kind: str, **settings: Any) -> float:
    """Return how far the logits move, as a part of their size."""
    subject, calibration = subject_of(kind)
    before, after = (
        logits(subject, calibration),
        logits(Quantize(**settings).apply(subject, calibration), calibration),
    )
    return float((after - before).square().mean() / before.var())


def same_as_forms(subject: Subject) -> bool:
    params = dict(subject.module.named_parameters())
    return all(
        isinstance(form, Masked) or torch.equal(params[name].flatten(1), form.dense())
        for name, form in subject.forms.items()
    )


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq", "hqq"])
@pytest.mark.parametrize("kind", SIZES)
def test_every_method_on_every_kind_of_model(kind: str, method: str) -> None:
    subject, calibration = subject_of(kind)
    before = parameters_to_vector(subject.module.parameters()).clone()
    found = Quantize(bits=4, group_size=16, method=method).apply(subject, calibration)
    assert torch.equal(before, parameters_to_vector(subject.module.parameters()))  # its own is left as it was
    assert same_as_forms(found)
    bits = {name: form.num_bits for name, form in found.forms.items() if isinstance(form, Quantized)}
    matrices = {name for name, parameter in found.module.named_parameters() if parameter.ndim > 1}
    assert bits.keys() == matrices
    outer = {name for name in matrices if name.startswith(("embedding", "head"))}
    assert {bits[name] for name in outer} == {8}
    assert {bits[name] for name in matrices - outer} == {4}
    moved = (logits(found, calibration) - logits(subject, calibration)).square().mean()
    assert 0 < moved < 0.1 * logits(subject, calibration).var()


def test_more_bits_change_less() -> None:
    changes = [change("gpt", bits=bits, group_size=16) for bits in (8, 6, 4, 3, 2)]
    assert changes == sorted(changes)
    assert changes[0] < 1e-3


@pytest.mark.parametrize("kind", ["gpt", "resnet"])
def test_gptq_changes_logits_less_than_rounding(kind: str) -> None:
    settings = {"bits": 3, "embedding_bits": None, "head_bits": None}
    assert change(kind, method="gptq", **settings) < 0.8 * change(kind, **settings)


def test_awq_changes_logits_less_than_rounding() -> None:
    settings = {"bits": 3, "group_size": 16, "embedding_bits": None, "head_bits": None}
    rounded = change("gpt", **settings)
    assert change("gpt", method="awq", **settings) < 0.9 * rounded
    assert change("gpt", method="awq", clipping="mse", **settings) < 0.9 * rounded


def test_eight_bits_a_row_by_default() -> None:
    subject, calibration = subject_of("untied")
    for form in Quantize().apply(subject, calibration).forms.values():
        assert isinstance(form, Quantized)
        assert form.num_bits == 8
        assert form.scale_RG.shape[1] == 1
        assert (form.zero_RG == 128).all()


def test_what_is_kept_and_what_is_named() -> None:
    subject, calibration = subject_of("untied")
    kept = Quantize(keep="blocks.0.*", embedding_bits=None, head_bits=None).apply(subject, calibration)
    assert set(kept.forms) == {f"blocks.1.{name}" for name in ("qkv", "attn_out", "gate_up", "mlp_down")}
    only = Quantize(layers=["*.qkv", "head"], bits=4).apply(subject, calibration)
    assert {name: form.num_bits for name, form in only.forms.items()} == {
        "blocks.0.qkv": 4, "blocks.1.qkv": 4, "head": 8,
    }  # fmt: skip


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq", "hqq"])
def test_what_was_pruned_stays_zero(method: str) -> None:
    is_kept_RC = torch.rand(24, 24, generator=torch.Generator().manual_seed(3)) > 0.5
    name = "layers.1.linear.weight"
    subject, calibration = subject_of("mlp", {name: Masked(is_kept_RC)})
    found = Quantize(bits=3, method=method, group_size=12, clipping="mse").apply(subject, calibration)
    form = found.forms[name]
    assert isinstance(form, Quantized)
    assert (form.dense()[~is_kept_RC] == 0).all()
    assert same_as_forms(found)


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq"])
def test_both_factors_of_a_low_rank_weight_are_quantized(method: str) -> None:
    name = "blocks.0.mlp_down"
    generator = torch.Generator().manual_seed(2)
    columns = subject_of("gpt")[0].module.get_parameter(name).shape[1]
    factors = LowRank(
        torch.randn(32, 6, generator=generator) / 6, torch.randn(6, columns, generator=generator) / 8
    )
    subject, calibration = subject_of("gpt", {name: factors})
    found = Quantize(bits=6, method=method, group_size=16).apply(subject, calibration)
    form = found.forms[name]
    assert isinstance(form, LowRank)
    assert isinstance(form.left_RK, Quantized)
    assert isinstance(form.right_KC, Quantized)
    assert same_as_forms(found)
    assert (form.dense() - factors.dense()).square().mean() < 0.02 * factors.dense().var()


def test_static_and_dynamic_inputs() -> None:
    subject, calibration = subject_of("gpt")
    found = Quantize(inputs="static", input_clipping="mse").apply(subject, calibration)
    assert set(found.activations.input_ranges) == set(found.forms)  # the tied head multiplies as well
    assert all(low <= 0 <= high and low < high for low, high in found.activations.input_ranges.values())
    assert not found.activations.has_dynamic_inputs
    seen = Quantize(inputs="static").apply(*subject_of("resnet"))
    assert seen.activations.input_ranges["head.weight"][0] == 0  # after ReLU
    dynamic = Quantize(inputs="dynamic").apply(subject, calibration)
    assert dynamic.activations.has_dynamic_inputs
    assert not dynamic.activations.input_ranges


def test_the_cache() -> None:
    assert Quantize(cache_bits=8).apply(*subject_of("gpt")).activations.cache_bits == 8
    with pytest.raises(
        RecipeError, match=r"cache_bits is of language models.*Got 'a model of classification'"
    ):
        Quantize(cache_bits=8).apply(*subject_of("mlp"))


@pytest.mark.parametrize("sensitivity", ["loss", "outputs"])
def test_a_mean_of_bits(sensitivity: str) -> None:
    subject, calibration = subject_of("gpt")
    found = Quantize(mean_bits=4.2, sensitivity=sensitivity, group_size=16).apply(subject, calibration)
    sizes = {name: found.module.get_parameter(name).numel() for name in found.forms if name != "embedding"}
    bits = {name: form.num_bits for name, form in found.forms.items() if isinstance(form, Quantized)}
    assert bits.pop("embedding") == 8
    assert sum(bits[name] * sizes[name] for name in sizes) <= 4.2 * sum(sizes.values())
    assert len(set(bits.values())) > 1
    assert same_as_forms(found)


def test_bytes_of_the_whole_file_are_within_the_budget(tmp_path: Any) -> None:
    from safetensors import safe_open  # noqa: PLC0415 - of this test alone

    from kleiber.models import save  # noqa: PLC0415 - of this test alone
    from kleiber.models.stored import write_forms  # noqa: PLC0415 - of this test alone

    subject, calibration = subject_of("untied")
    found = Quantize(max_bytes=20_000, group_size=16, sensitivity="outputs").apply(subject, calibration)
    save(found.module, found.spec, tmp_path)
    write_forms(tmp_path, found.module, found.forms)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    stored = sum(tensor.nbytes for name, tensor in tensors.items() if not name.endswith("_shape"))
    assert 0.9 * 20_000 < stored <= 20_000


@pytest.mark.parametrize("form", ["whole", "factor"])
def test_a_quantized_model_is_refused(form: str) -> None:
    subject, calibration = subject_of("gpt")
    found = Quantize(bits=4, keep="embedding").apply(subject, calibration)
    if form == "factor":
        code = found.forms["blocks.0.qkv"]
        assert isinstance(code, Quantized)
        found = dataclasses.replace(found, forms={"blocks.0.qkv": LowRank(torch.ones(3, 96), code)})
    with pytest.raises(RecipeError, match=r"not quantized yet.*Got 'blocks\.0\.qkv in 4 bits'"):
        Quantize().apply(found, calibration)


def test_weights_that_are_not_finite_are_named() -> None:
    subject, calibration = subject_of("mlp")
    with torch.no_grad():
        subject.module.get_parameter("layers.1.linear.weight")[0, 0] = torch.nan
    with pytest.raises(
        UsageError, match=r"the weight layers\.1\.linear\.weight holds 1 numbers that are NaN or infinite"
    ):
        Quantize().apply(subject, calibration)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (
            "gpt",
            {"embedding_bits": 4},
            r"embedding_bits and head_bits must be the same: embedding is both\. Got \(4, 8\)",
        ),
        (
            "untied",
            {"layers": ["head"], "head_bits": None},
            r"layers names head, which head_bits keeps as it is",
        ),
        (
            "untied",
            {"layers": ["emb*"], "embedding_bits": None},
            r"layers names embedding, which embedding_bits keeps",
        ),
        (
            "untied",
            {"layers": ["head"], "mean_bits": 4},
            r"a budget of bits needs hidden layers to share it\. Got \['head'\]",
        ),
        ("mlp", {"keep": ["nothing"]}, r"no layer's name matches 'nothing'"),
        ("gpt", {"mean_bits": 3, "bit_widths": [4, 8]}, r"mean_bits must be at least 4"),
        ("gpt", {"max_bytes": 1000}, r"max_bytes cannot be met"),
    ],
)
def test_what_does_not_go_with_the_model(kind: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Quantize(**settings).apply(*subject_of(kind))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 4, "mean_bits": 3.5}, r"one of bits, mean_bits and max_bytes says how many bits there are"),
        ({"inputs": "static", "bits": 4}, r"inputs=static goes with weights of 8 bits and one scale a row"),
        (
            {"inputs": "dynamic", "group_size": 64},
            r"inputs=dynamic goes with weights of 8 bits and one scale a row",
        ),
        ({"bits": 1}, r"bits: input should be greater than or equal to 2"),
        ({"method": "best"}, r"method: input should be 'rtn', 'gptq', 'awq' or 'hqq'"),
        ({"cache_bits": 4}, r"cache_bits: input should be 8"),
        ({"percentile": 99}, r"percentile has no effect without clipping=percentile, got 99"),
        ({"input_clipping": "mse"}, r"input_clipping has no effect without inputs=static, got mse"),
        (
            {"inputs": "static", "input_percentile": 99},
            r"input_percentile has no effect without input_clipping=percentile",
        ),
        ({"has_act_order": False}, r"has_act_order has no effect without method=gptq, got False"),
        ({"bits": 4, "bit_widths": (4, 8)}, r"bit_widths has no effect without mean_bits or max_bytes"),
        ({"bitz": 4}, r"unknown key 'bitz'. Did you mean 'bits'\?"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Quantize.of(settings, "quantize", RecipeError)


def test_settings_survive_a_file() -> None:
    step = Quantize(mean_bits=3.5, keep="head", bit_widths=4, method="gptq")
    assert step.keep == ("head",)
    assert step.bit_widths == (4,)
    assert Quantize.of(step.model_dump(mode="json"), "quantize", RecipeError) == step


def test_what_a_reader_should_know() -> None:
    notes = Quantize(bits=4, method="awq", group_size=20).apply(*subject_of("gpt")).notes
    assert (
        "Groups of 20 columns do not divide 32: the last of a row has 12, which other readers of the file may refuse."
        in notes
    )
    awq = next(note for note in notes if note.startswith("AWQ"))
    assert awq.startswith("AWQ scaled 6 of 9 layers;")
    assert "blocks.0.attn_out" in awq
