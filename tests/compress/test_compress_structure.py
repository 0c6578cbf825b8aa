from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from kleiber.compress.calibration import Calibration
from kleiber.compress.structure import Shrink
from kleiber.compress.structure.families import skeleton_of
from kleiber.compress.structure.sizes import Target, solved_sizes
from kleiber.compress.subject import Subject
from kleiber.compress.uses import inputs_of
from kleiber.data import Batch, Data
from kleiber.errors import RecipeError
from kleiber.models import FAMILIES, Spec, build, load, resolve_spec, save
from kleiber.models.gpt import GPTSpec
from kleiber.models.hf import HFSpec
from kleiber.models.resnet.spec import ResNetSpec
from kleiber.models.stored import LowRank, Masked, Quantized
from kleiber.runs import DataShape, Recipe
from kleiber.tasks import Task

TEXT = DataShape(inputs="tokens", vocab_size=50, context=12)
TEXTS = TEXT.model_copy(update={"num_outputs": 3})
IMAGES = DataShape(inputs="images", channels=3, height=16, width=16, num_outputs=4)
FEATURES = DataShape(inputs="features", num_features=9, num_outputs=3)

CASES: dict[str, tuple[str, dict[str, Any], DataShape]] = {
    "gpt": ("gpt", {"depth": 3, "width": 64, "num_kv_heads": 2}, TEXT),
    "gpt untied": ("gpt", {"depth": 2, "width": 32, "is_tied": False}, TEXT),
    "encoder": ("encoder", {"depth": 3, "width": 64}, TEXTS),
    "vit": ("vit", {"depth": 2, "width": 64, "patch_size": 4}, IMAGES),
    "resnet": ("resnet", {"stage_depths": "2x2", "width": 8}, IMAGES),
    "bottleneck": ("resnet", {"stage_depths": "2x1", "width": 8, "block": "bottleneck"}, IMAGES),
    "projected": ("resnet", {"stage_depths": "2x1", "width": 8, "shortcut": "projection"}, IMAGES),
    "convnet": ("convnet", {"depth": 3, "width": 16, "dense_widths": [24]}, IMAGES),
    "inception": ("inception", {"depth": 2, "width": 64}, IMAGES),
    "mlp": ("mlp", {"depth": 3, "width": 32, "norm": "batch"}, FEATURES),
    "llama": ("hf", {}, TEXT),
    "bert": ("hf", {}, TEXTS),
}
SMALL: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 32,
}  # fmt: skip
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(num_key_value_heads=2, **SMALL),
    "bert": lambda: transformers.BertConfig(**SMALL),
}
FOUND_BY_GRAPH = ("resnet", "bottleneck", "projected", "convnet", "inception", "mlp")
every_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("configs")
    for name, config in CONFIGS.items():
        config().save_pretrained(folder / name)
    return folder


def spec_of(name: str, configs: Path) -> Spec:
    if name in FOUND_BY_GRAPH:
        pytest.importorskip("torch_pruning")
    family, size, shape = CASES[name]
    return FAMILIES[family].of_size(size or {"path": str(configs / name)}, shape)


def calibration_of(shape: DataShape) -> Calibration:
    rng = np.random.default_rng(0)
    labels = {"labels": np.zeros(8, np.int64)}
    arrays: dict[str, Any]
    if shape.inputs == "images":
        arrays = {"images": rng.standard_normal((8, 3, 16, 16)).astype(np.float32), **labels}
    elif shape.inputs == "features":
        arrays = {"features": rng.standard_normal((8, 9)).astype(np.float32), **labels}
    else:
        more = 0 if shape.num_outputs else 1
        arrays = {"tokens": rng.integers(1, 50, (8, 12 + more)), **(labels if shape.num_outputs else {})}
    return Calibration((Batch(arrays, 8),), "a test", 8, 0, "hash")


def subject_of(spec: Spec) -> Subject:
    module = build(spec)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():  # no weight of 0, no gain of 1
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.get_buffer("running_var").uniform_(0.5, 2, generator=generator)
    return Subject(module.eval(), spec, Recipe(), cast("Data", None), cast("Task", None))


def case_of(name: str, configs: Path) -> tuple[Subject, Calibration]:
    return subject_of(spec_of(name, configs)), calibration_of(CASES[name][2])


@torch.no_grad()
def outputs(subject: Subject, calibration: Calibration) -> Tensor:
    found: Tensor = subject.module(*inputs_of(calibration.batches[0]))
    return found


def silence_(subject: Subject, calibration: Calibration, part: float) -> dict[str, int]:
    """Make the last units of every axis inside a block give 0, and return how many are left of each kind."""
    skeleton = skeleton_of(subject.module, subject.spec)
    kinds = {kind.name: kind for kind in skeleton.kinds}
    left: dict[str, int] = {}
    state = subject.module.state_dict()
    for axis in skeleton.axes:
        if not axis.is_inner:
            continue
        kind = kinds[axis.kind]
        num = max(1, round(axis.num_units * part))
        left[axis.kind] = kind.num * num // axis.num_units
        units = torch.arange(num, axis.num_units)
        for place in axis.places:
            if place.dim == 0 and not place.name.endswith(("running_mean", "running_var")):
                state[place.name][place.entries(units)] = 0
    return left


@every_case
def test_nothing_changes_where_nothing_goes(name: str, configs: Path) -> None:
    subject, calibration = case_of(name, configs)
    same = Shrink(params=1.0).apply(subject, calibration)
    assert not same.is_cut
    assert torch.equal(outputs(same, calibration), outputs(subject, calibration))
    assert same.spec.count() == subject.spec.count()


@pytest.mark.parametrize("is_refitted", [False, True])
@pytest.mark.parametrize("name", ["gpt", "gpt untied", "resnet", "bottleneck", "convnet", "llama"])
def test_units_that_gave_nothing_are_not_missed(name: str, is_refitted: bool, configs: Path) -> None:
    subject, calibration = case_of(name, configs)
    left = silence_(subject, calibration, 0.5)
    before = outputs(subject, calibration)
    named = {kind: number for kind, number in left.items() if "." not in kind}
    asked: dict[str, Any] = named or {"channels": 0.5}
    small = Shrink(**asked, is_refitted=is_refitted, multiple=1).apply(subject, calibration)
    assert small.spec.count().total < subject.spec.count().total
    assert torch.allclose(outputs(small, calibration), before, atol=2e-5)


@pytest.mark.parametrize("importance", ["activation", "contribution"])
def test_units_that_gave_something_are_missed(importance: Any, configs: Path) -> None:
    subject, calibration = case_of("gpt", configs)
    left = silence_(subject, calibration, 0.5)
    before = outputs(subject, calibration)
    fewer = Shrink(mlp_width=left["mlp_width"] - 8, importance=importance).apply(subject, calibration)
    assert not torch.allclose(outputs(fewer, calibration), before, atol=1e-3)


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_features_that_were_always_0_leave_the_stream_unnoticed(name: str, configs: Path) -> None:
    # A norm over 64 features of which 24 are 0 does to the others what one over 40 does whose gain is sqrt(64 / 40) smaller.
    subject, calibration = case_of(name, configs)
    skeleton = skeleton_of(subject.module, subject.spec)
    stream = next(axis for axis in skeleton.axes if axis.kind == "width")
    silent = torch.arange(64)[torch.randperm(64, generator=torch.Generator().manual_seed(2))[:24]]
    state, readers = subject.module.state_dict(), {place.name for place in stream.readers}
    for place in stream.places:
        tied_table = place.name in {"embedding", "model.model.embed_tokens.weight"}
        if place.dim == 0 or tied_table or place.name not in readers:
            state[place.name].index_fill_(place.dim, place.entries(silent), 0)
    gains = [norm.gain for norm in skeleton.norms]
    for gain in gains:  # 0 by the loop above, and of no effect on what is 0 anyway
        state[gain][silent] = 1
    before = outputs(subject, calibration)
    small = Shrink(width=40).apply(subject, calibration)
    # What is left is the norms' eps, which is not divided by the width.
    assert torch.allclose(outputs(small, calibration), before, atol=1e-3)


@pytest.mark.parametrize("name", ["resnet", "bottleneck", "projected"])
def test_channels_that_were_always_0_leave_the_blocks_unnoticed(name: str, configs: Path) -> None:
    subject, calibration = case_of(name, configs)
    state, generator = subject.module.state_dict(), torch.Generator().manual_seed(2)
    stream = [axis for axis in skeleton_of(subject.module, subject.spec).axes if axis.kind == "width"]
    for axis in stream:
        silent = torch.randperm(axis.num_units, generator=generator)[: axis.num_units * 3 // 8]
        for place in axis.places:
            if place.dim == 0 and not place.name.endswith(("running_mean", "running_var")):
                state[place.name][place.entries(silent)] = 0
    before = outputs(subject, calibration)
    small = Shrink(width=5).apply(subject, calibration)
    assert isinstance(small.spec, ResNetSpec)
    assert small.spec.width == 5
    assert small.spec.count().total < 0.85 * subject.spec.count().total
    assert torch.allclose(outputs(small, calibration), before, atol=2e-5)


@every_case
def test_a_target_is_met_and_the_model_is_stored(name: str, configs: Path, tmp_path: Path) -> None:
    subject, calibration = case_of(name, configs)
    small = Shrink(params=0.5, multiple=4).apply(subject, calibration)
    assert small.is_cut
    num_params = sum(parameter.numel() for parameter in small.module.parameters())
    assert num_params == small.spec.count().total
    part = num_params / subject.spec.count().total
    assert (0.2 if name == "inception" else 0.42) < part <= 0.5
    assert type(small.module) is type(subject.module)
    save(small.module, small.spec, tmp_path)
    back, spec = load(tmp_path)
    again = dataclasses.replace(small, module=back.eval(), spec=spec)
    assert torch.allclose(outputs(again, calibration), outputs(small, calibration), atol=1e-6)
    data = small.recipe.data.model_copy(update={"shape": CASES[name][2]})
    assert resolve_spec(small.recipe.model_copy(update={"data": data})) == small.spec


@pytest.mark.parametrize("name", ["gpt", "encoder", "resnet", "llama", "bert"])
def test_a_target_of_operations_is_met(name: str, configs: Path) -> None:
    subject, calibration = case_of(name, configs)
    small = Shrink(macs=0.5, multiple=4).apply(subject, calibration)
    assert 0.4 < small.spec.flops(1).forward / subject.spec.flops(1).forward <= 0.5


def test_what_is_kept_takes_over_what_went(configs: Path) -> None:
    def lost(is_refitted: bool) -> float:
        subject, calibration = case_of("gpt", configs)
        small = Shrink(mlp_width=96, is_refitted=is_refitted).apply(subject, calibration)
        error = outputs(small, calibration) - outputs(subject, calibration)
        return float(error.square().mean())

    assert lost(is_refitted=True) < 0.8 * lost(is_refitted=False)


def test_the_block_that_changes_nothing_is_dropped(configs: Path) -> None:
    subject, calibration = case_of("gpt", configs)
    with torch.no_grad():
        for name in ("attn_out", "mlp_down"):
            subject.module.get_parameter(f"blocks.1.{name}").zero_()
    before = outputs(subject, calibration)
    small = Shrink(depth=2).apply(subject, calibration)
    assert torch.allclose(outputs(small, calibration), before, atol=1e-6)
    assert re.fullmatch(r"Dropped blocks: blocks\.1 \(influence -?\d.*\)\.", small.notes[0])
    assert torch.equal(
        small.module.get_parameter("blocks.1.qkv"), subject.module.get_parameter("blocks.2.qkv")
    )


def test_blocks_of_a_residual_network_go_but_the_first_of_a_stage(configs: Path) -> None:
    subject, calibration = case_of("resnet", configs)
    small = Shrink(depth=2).apply(subject, calibration)
    assert small.spec.stage_depths == (1, 1)
    with pytest.raises(RecipeError, match="depth must be between 2 and 4, the blocks of this resnet"):
        Shrink(depth=1).apply(subject, calibration)


@pytest.mark.parametrize(("params", "is_kept"), [(0.6, True), (0.2, False)])
def test_the_stream_is_the_last_to_become_narrower(params: float, is_kept: bool, configs: Path) -> None:
    subject, calibration = case_of("gpt", configs)
    small = Shrink(params=params, multiple=4).apply(subject, calibration)
    before, after = cast("GPTSpec", subject.spec), cast("GPTSpec", small.spec)
    assert after.mlp_width < before.mlp_width
    assert (after.width == before.width) is is_kept


@pytest.mark.parametrize(
    ("params", "heads", "mlp_width"),
    # With 1 head and 312 neurons 0.498 would be left, with 2 and 104 exactly 0.4: as near, and one size suffers.
    [(0.5, 2, 224), (0.4, 1, 184)],
)
def test_no_size_is_cut_much_more_than_the_others(params: float, heads: int, mlp_width: int) -> None:
    spec = GPTSpec(
        vocab_size=4096, context=256, width=256, depth=6,
        num_heads=4, num_kv_heads=4, head_dim=64, mlp_width=688,
    )  # fmt: skip
    sizes = solved_sizes(skeleton_of(build(spec), spec), {}, Target(spec, params), 8)
    assert sizes == {"heads": heads, "mlp_width": mlp_width, "width": 256}


def test_depth_and_a_target_together(configs: Path) -> None:
    subject, calibration = case_of("llama", configs)
    small = Shrink(depth=1, params=0.4).apply(subject, calibration)
    assert small.spec.depth == 1
    assert small.spec.count().total <= 0.4 * subject.spec.count().total


@pytest.mark.parametrize(("width", "heads", "kv_heads"), [(32, 4, 2), (48, 6, 2), (24, 3, 1), (36, 6, 3)])
def test_every_target_of_a_small_llama_has_sizes_that_fit(
    width: int, heads: int, kv_heads: int, tmp_path: Path
) -> None:
    numbers = {"hidden_size": width, "intermediate_size": 2 * width}
    config = transformers.LlamaConfig(
        **{**SMALL, **numbers, "num_attention_heads": heads}, num_key_value_heads=kv_heads
    )
    config.save_pretrained(tmp_path)
    spec = FAMILIES["hf"].of_size({"path": str(tmp_path)}, TEXT)
    skeleton = skeleton_of(build(spec), spec)
    for percent in range(25, 100, 5):
        target = Target(spec, percent / 100)
        sizes = solved_sizes(skeleton, {}, target, 8)
        assert sizes["width"] % sizes["heads"] == sizes["heads"] % (heads // kv_heads) == 0
        assert target.is_met(skeleton.spec_of(sizes, range(len(skeleton.blocks))))


def test_heads_give_way_to_a_width_that_was_asked(configs: Path) -> None:
    subject, calibration = case_of("llama", configs)
    small = Shrink(width=32, params=0.3, multiple=4).apply(subject, calibration)
    assert dict(cast("HFSpec", small.spec).sizes)["hidden_size"] == 32
    assert small.spec.count().total <= 0.3 * subject.spec.count().total


def test_masks_are_cut_as_the_weights_are(configs: Path) -> None:
    subject, calibration = case_of("gpt", configs)
    name = "blocks.0.mlp_down"
    weight = subject.module.get_parameter(name)
    is_kept = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    with torch.no_grad():
        weight.mul_(is_kept)
    masked = dataclasses.replace(subject, forms={name: Masked(is_kept, (2, 4))})
    small = Shrink(mlp_width=80).apply(masked, calibration)
    form = cast("Masked", small.forms[name])
    assert form.is_kept_RC.shape == (64, 80)
    assert form.pattern is None
    assert not bool(small.module.get_parameter(name)[~form.is_kept_RC].any())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gpt", {"params": 0.01}, "narrower layers alone do not meet params=0.01: the narrowest leave"),
        ("gpt", {"heads": 3}, "heads must be at most 4 and a multiple of 2"),
        ("gpt", {"mlp_width": 1000}, "mlp_width must be at most 176"),
        ("gpt", {"depth": 4}, "depth must be between 1 and 3"),
        ("gpt", {"channels": 0.5}, "gpt has no channels to make fewer"),
        ("encoder", {"width": 40}, r"width must be heads x 16"),
        ("encoder", {"width": 32, "heads": 3}, r"width must be heads x 16"),
        ("llama", {"width": 30}, "width must be a multiple of the 4 heads"),
        ("convnet", {"heads": 2}, r"convnet has no heads .*\n  try: one of params, macs, channels$"),
        ("convnet", {"depth": 2}, "convnet has no blocks that the others could do without"),
    ],
)
def test_what_cannot_be(name: str, settings: dict[str, Any], message: str, configs: Path) -> None:
    subject, calibration = case_of(name, configs)
    with pytest.raises(RecipeError, match=f"shrink: .*{message}"):
        Shrink(**settings).apply(subject, calibration)


@pytest.mark.parametrize(
    ("family", "size", "shape", "message"),
    [
        ("rnn", {"depth": 1, "width": 16}, TEXTS, "a spec of rnn has no sizes for what would be left"),
        ("gpt", {"depth": 1, "width": 32, "num_experts": 2}, TEXT, "too few tokens to tell its neurons"),
        ("resnet", {"depth": 8, "width": 8, "norm": "group"}, IMAGES, "norm group goes over all channels"),
    ],
)
def test_families_that_have_no_smaller_spec(
    family: str, size: dict[str, Any], shape: DataShape, message: str
) -> None:
    subject = subject_of(FAMILIES[family].of_size(size, shape))
    with pytest.raises(RecipeError, match=message):
        Shrink(params=0.5).apply(subject, calibration_of(shape))


def test_architectures_of_transformers_that_are_not_known(tmp_path: Path) -> None:
    transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64, vocab_size=50).save_pretrained(
        tmp_path
    )
    subject = subject_of(FAMILIES["hf"].of_size({"path": str(tmp_path)}, TEXT))
    with pytest.raises(RecipeError, match="where heads and neurons of GPT2LMHeadModel lie is not known"):
        Shrink(params=0.5).apply(subject, calibration_of(TEXT))


def test_it_comes_before_quantize_and_factorize(configs: Path) -> None:
    subject, calibration = case_of("gpt", configs)
    codes = torch.zeros(1, 1, dtype=torch.uint8)
    forms = {
        "is quantized": Quantized(codes, torch.ones(1, 1), codes, 4),
        "in two factors": LowRank(torch.ones(1, 1), torch.ones(1, 1)),
    }
    for reason, form in forms.items():
        other = dataclasses.replace(subject, forms={"blocks.0.qkv": form})
        with pytest.raises(RecipeError, match=f"blocks.0.qkv .*{reason}"):
            Shrink(params=0.5).apply(other, calibration)


def test_a_weight_that_is_not_finite_is_named(configs: Path) -> None:
    subject, calibration = case_of("gpt", configs)
    with torch.no_grad():
        subject.module.get_parameter("blocks.1.qkv")[0, 0] = float("nan")
    with pytest.raises(RecipeError, match=re.escape("blocks.1.qkv")):
        Shrink(params=0.5).apply(subject, calibration)


def test_something_must_be_asked() -> None:
    with pytest.raises(RecipeError, match=r"one of params, macs, heads, .* is needed, such as params=0\.5"):
        Shrink.of({}, "shrink", RecipeError)
