"""The step prune on whole models: what becomes zero, what stays as it was, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kleiber.compress.calibration import Calibration
from kleiber.compress.prune import Prune
from kleiber.compress.subject import Subject
from kleiber.data import Batch
from kleiber.errors import RecipeError
from kleiber.models import build
from kleiber.models.family import FamilyModule
from kleiber.models.gpt import GPTSpec
from kleiber.models.resnet import ResNetSpec
from kleiber.models.rnn import RNNSpec
from kleiber.models.stored import LowRank, Masked, Quantized
from kleiber.runs import Recipe

TOKENS = Calibration(
    tuple(Batch({"tokens": one}, 4) for one in np.random.default_rng(0).integers(0, 64, (3, 4, 17))),
    "made", 12, 0, "0",
)  # fmt: skip
IMAGES = Calibration(
    (Batch({"images": np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)}, 4),),
    "made", 4, 0, "0",
)  # fmt: skip


def subject_of(module: FamilyModule, **changes: Any) -> Subject:
    """Return a subject of which a step that prunes reads no data."""
    unread: Any = None
    spec: Any = module.spec
    return Subject(module, spec, Recipe(), data=unread, task=unread, **changes)


def filled(module: FamilyModule) -> FamilyModule:
    """Return the module with weights like those of a trained one: none of them zero, inputs of layers that hang together."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
    return module.eval()


def gpt(**size: Any) -> FamilyModule:
    return filled(
        build(GPTSpec.from_dial({"depth": 2, "width": 32, **size}, vocab_size=64, context=16), seed=0)
    )


def resnet() -> FamilyModule:
    return filled(build(ResNetSpec.of_size({"depth": 8, "width": 8}, ResNetSpec.example_shape)))


def prune(subject: Subject, calibration: Calibration = TOKENS, **settings: Any) -> Subject:
    return Prune.of(settings, "prune", RecipeError).apply(subject, calibration)


def zero_frac(subject: Subject) -> float:
    kept = torch.cat(
        [form.is_kept_RC.flatten() for form in subject.forms.values() if isinstance(form, Masked)]
    )
    return 1 - float(kept.double().mean())


def require_sound(before: Subject, after: Subject) -> None:
    """Check that weights are zero exactly where masks say, and untouched where there is none."""
    old, new = before.module.state_dict(), after.module.state_dict()
    for name, weight in new.items():
        form = after.forms.get(name)
        if isinstance(form, Masked):
            assert torch.equal(weight.flatten(1) != 0, form.is_kept_RC), name
        else:
            assert torch.equal(weight, old[name]), name


METHODS = [
    {"method": "magnitude"}, {"method": "magnitude", "scope": "layer"}, {"method": "magnitude", "scope": "row"},
    {"method": "wanda"}, {"method": "wanda", "scope": "layer"}, {"method": "wanda", "scope": "global"},
    {"method": "sparsegpt"},
]  # fmt: skip


@pytest.mark.parametrize("settings", METHODS, ids=str)
def test_half_of_the_hidden_layers_of_a_gpt_becomes_zero(settings: dict[str, str]) -> None:
    before = subject_of(gpt())
    state = {name: one.clone() for name, one in before.module.state_dict().items()}
    after = prune(before, ratio=0.5, **settings)
    require_sound(before, after)
    assert zero_frac(after) == pytest.approx(0.5, abs=1e-3)
    parts = ("qkv", "attn_out", "gate_up", "mlp_down")
    assert set(after.forms) == {f"blocks.{i}.{part}" for i in (0, 1) for part in parts}
    assert all(torch.equal(before.module.state_dict()[name], one) for name, one in state.items())
    assert before.forms == {}


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
def test_two_of_four_neighbours_stay(method: str) -> None:
    before = subject_of(gpt())
    after = prune(before, pattern="2:4", method=method)
    require_sound(before, after)
    for form in after.forms.values():
        assert isinstance(form, Masked)
        assert form.pattern == (2, 4)
        assert set(form.is_kept_RC.view(-1, 4).sum(1).tolist()) == {2}


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("amount", [{"ratio": 0.5}, {"pattern": "2:4"}], ids=str)
def test_convolutions_are_pruned_over_channels_and_pixels(method: str, amount: dict[str, Any]) -> None:
    before = subject_of(resnet())
    after = prune(before, IMAGES, method=method, **amount)
    require_sound(before, after)
    assert zero_frac(after) == pytest.approx(0.5, abs=0.01)
    stem = after.forms["stem.conv.weight"]
    assert isinstance(stem, Masked)
    assert stem.is_kept_RC.shape == (8, 27)
    assert "head.weight" not in after.forms


def changed(before: Subject, after: Subject, calibration: Calibration) -> float:
    """Return how far the outputs moved."""
    from kleiber.compress.uses import run_batch  # noqa: PLC0415 - of this measure only

    return sum(
        float((run_batch(before.module, batch) - run_batch(after.module, batch)).square().mean())
        for batch in calibration.batches
    )


def test_of_a_layer_whose_inputs_differ_magnitude_loses_most_and_sparsegpt_least() -> None:
    module = gpt(depth=1, is_tied=False)
    with torch.no_grad():  # gains as those of trained models: a few features much larger than others
        module.get_parameter("blocks.0.mlp_norm").copy_(torch.exp(torch.linspace(-2, 2, 32)))
    before = subject_of(module)
    only = {"layers": "blocks.0.gate_up", "ratio": 0.5}
    magnitude, wanda, sparsegpt = (
        changed(before, prune(before, method=method, **only), TOKENS)
        for method in ("magnitude", "wanda", "sparsegpt")
    )
    assert sparsegpt < wanda < magnitude
    together = changed(before, prune(before, method="wanda", scope="global", **only), TOKENS)
    assert sparsegpt < together < magnitude


def test_wanda_sees_the_inputs_that_pruned_layers_give() -> None:
    before = subject_of(gpt(depth=1))
    whole = prune(before, ratio=0.6, method="wanda")
    first = prune(
        before, ratio=0.6, method="wanda", layers=["blocks.0.qkv", "blocks.0.attn_out", "blocks.0.gate_up"]
    )
    then = prune(first, ratio=0.6, method="wanda", layers="blocks.0.mlp_down")
    alone = prune(before, ratio=0.6, method="wanda", layers="blocks.0.mlp_down")
    down = [one.module.get_parameter("blocks.0.mlp_down") != 0 for one in (whole, then, alone)]
    assert torch.equal(down[0], down[1])
    assert not torch.equal(down[0], down[2])


@pytest.mark.parametrize("settings", METHODS, ids=str)
def test_what_is_zero_stays_zero_when_more_goes(settings: dict[str, str]) -> None:
    before = subject_of(gpt())
    half = prune(before, ratio=0.5, **settings)
    most = prune(half, ratio=0.75, **settings)
    require_sound(half, most)
    assert zero_frac(most) == pytest.approx(0.75, abs=1e-3)
    for name, form in half.forms.items():
        after = most.forms[name]
        assert isinstance(form, Masked)
        assert isinstance(after, Masked)
        assert not bool((after.is_kept_RC & ~form.is_kept_RC).any())


def test_layers_may_have_ratios_of_their_own() -> None:
    settings = {"ratio": 0.5, "scope": "layer", "layer_ratios": {"*.qkv": 0.25, "*.mlp_down": 0}}
    after = prune(subject_of(gpt()), **settings)
    fracs = {
        name.split(".")[2]: 1 - float(form.is_kept_RC.double().mean()) for name, form in after.forms.items()
    }
    assert fracs == {"qkv": 0.25, "attn_out": 0.5, "gate_up": 0.5}


def test_embedding_and_head_are_treated_when_asked() -> None:
    before = subject_of(gpt(is_tied=False))
    assert {"embedding", "head"} <= set(prune(before, ratio=0.5, has_embedding=True, has_head=True).forms)
    after = prune(before, ratio=0.5, method="wanda", has_embedding=True)
    assert "embedding" not in after.forms
    assert after.notes == ("Kept as it is, because calibration gave it no inputs: embedding.",)
    with pytest.raises(RecipeError, match=r"wanda needs what a weight is multiplied by.*Got \['embedding'\]"):
        prune(before, ratio=0.5, method="wanda", layers="embedding")


def test_what_cannot_be_pruned_is_kept_and_said_once() -> None:
    spec = RNNSpec.of_size({"depth": 1, "width": 32}, RNNSpec.example_shape)
    before = subject_of(filled(build(spec)))
    once = prune(before, ratio=0.5, has_head=True)
    assert len(once.notes) == 1
    assert "recurrence.weight_ih_l0, recurrence.weight_hh_l0" in once.notes[0]
    assert prune(once, ratio=0.6, has_head=True).notes == once.notes
    with pytest.raises(RecipeError, match="no layer is left to treat"):
        prune(before, ratio=0.5)


def test_a_layer_that_loses_all_is_said() -> None:
    module = gpt()
    with torch.no_grad():
        module.get_parameter("blocks.1.attn_out").mul_(1e-6)
    assert prune(subject_of(module), ratio=0.5).notes == (
        "Nothing is left of blocks.1.attn_out: all of its entries were among the least.",
    )


def test_a_diverged_model_is_refused_by_the_name_of_its_tensor() -> None:
    module = gpt()
    with torch.no_grad():
        module.get_parameter("blocks.1.gate_up")[3, 4] = torch.nan
    with pytest.raises(RecipeError, match=r"the weight blocks.1.gate_up holds 1 numbers that are NaN"):
        prune(subject_of(module), ratio=0.5)


def test_few_bits_and_factors_cannot_be_pruned_and_other_layers_can() -> None:
    module = gpt()
    shape = module.get_parameter("blocks.0.qkv").shape
    few_bits = Quantized(
        torch.zeros(shape, dtype=torch.uint8), torch.ones(96, 1), torch.zeros(96, 1, dtype=torch.uint8), 4
    )
    factors = LowRank(torch.zeros(96, 2), torch.zeros(2, 32))
    quantized = subject_of(module, forms={"blocks.0.qkv": few_bits})
    with pytest.raises(RecipeError, match=r"prune cannot follow quantize: the scales of blocks.0.qkv"):
        prune(quantized, ratio=0.5)
    with pytest.raises(
        RecipeError, match=r"prune cannot follow factorize: blocks.0.qkv is stored as two factors"
    ):
        prune(subject_of(module, forms={"blocks.0.qkv": factors}), ratio=0.5)
    after = prune(quantized, ratio=0.5, keep="blocks.0.qkv")
    assert after.forms["blocks.0.qkv"] is few_bits
    assert len(after.forms) == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "either a ratio or a pattern, got None and None"),
        ({"ratio": 0.5, "pattern": "2:4"}, "either a ratio or a pattern, got 0.5 and 2:4"),
        ({"ratio": 1.0}, "less than 1"),
        ({"ratio": 0.0}, "greater than 0"),
        ({"pattern": "4:2"}, "pattern must be N:M with 0 < N < M <= 32, such as 2:4, got 4:2"),
        ({"pattern": "2:40"}, "pattern must be N:M"),
        ({"pattern": "half"}, "pattern must be N:M"),
        ({"pattern": "2:4", "scope": "row"}, "scope has no effect on a pattern"),
        ({"ratio": 0.5, "scope": "row", "method": "sparsegpt"}, "scope has no effect on sparsegpt"),
        ({"ratio": 0.5, "layer_ratios": {"a": 0.5}}, "layer_ratios have no effect on a global scope"),
        ({"pattern": "2:4", "layer_ratios": {"a": 0.5}}, "layer_ratios have no effect on a pattern"),
        ({"ratio": 0.5, "metod": "wanda"}, "unknown key 'metod'. Did you mean 'method'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Prune.of(settings, "prune", RecipeError)


def test_patterns_of_names_that_match_nothing_are_refused() -> None:
    for key, value in (("keep", "qkv"), ("layers", "qkv")):
        with pytest.raises(RecipeError, match="no layer's name matches 'qkv'"):
            prune(subject_of(gpt()), ratio=0.5, **{key: value})
    with pytest.raises(RecipeError, match="no layer's name matches 'embedding'"):
        prune(subject_of(gpt()), ratio=0.5, scope="row", layer_ratios={"embedding": 0.5})
    with pytest.raises(RecipeError, match="no layer is left to prune: every ratio is 0"):
        prune(subject_of(gpt()), ratio=0.5, scope="row", layer_ratios={"*": 0})


def test_a_pattern_is_what_was_typed_though_yaml_reads_a_time() -> None:
    # 2:4 in YAML 1.1 is 2 minutes and 4 seconds.
    for value, expected in ((124, "2:4"), ("2:4", "2:4"), (76, "1:16"), (248, "4:8")):
        assert Prune.of({"pattern": value}, "prune", RecipeError).pattern == expected
