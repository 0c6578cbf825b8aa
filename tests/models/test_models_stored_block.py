from __future__ import annotations

from typing import Any

import pytest
import torch
from stored_examples import rounded

from kleiber.errors import RunFolderError
from kleiber.models.stored import Activations, Masked, Quantized
from kleiber.models.stored.block import OwnKeys, block_of, own_keys_of, packing_of

WEIGHT = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))


def groups(*targets: tuple[str, int]) -> dict[str, Any]:
    """Return a block of other tools, which name layers by expression or kind."""
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {
            f"group_{index}": {"targets": [target], "weights": {"num_bits": num_bits}}
            for index, (target, num_bits) in enumerate(targets)
        },
    }


def test_plain_weights_have_no_block() -> None:
    assert block_of({}, {}, Activations()) is None


def test_layers_of_the_same_bits_and_groups_stand_together() -> None:
    four = rounded(WEIGHT, num_groups=4, is_symmetric=True)
    forms = {
        "a.q.weight": four,
        "a.k.weight": four,
        "head.weight": rounded(WEIGHT, num_bits=8),
        "table": rounded(WEIGHT, num_groups=4),
    }
    block = block_of(forms, {}, Activations())
    assert block is not None
    found = [
        (
            group["targets"],
            [group["weights"][key] for key in ("num_bits", "symmetric", "strategy", "group_size")],
        )
        for group in block["config_groups"].values()
    ]
    assert found == [
        (["a.q", "a.k"], [4, True, "group", 5]),
        (["head"], [8, False, "channel", None]),
        (["table"], [4, False, "group", 5]),
    ]
    assert (block["quant_method"], block["format"]) == ("compressed-tensors", "pack-quantized")
    assert [packing_of(name, block, "here")[0] for name in forms] == [4, 4, 8, 4]


def test_a_package_takes_the_block() -> None:
    quantization = pytest.importorskip("compressed_tensors.quantization")
    block = block_of({"a.weight": rounded(WEIGHT, num_bits=3, num_groups=4)}, {}, Activations())
    scheme = quantization.QuantizationConfig.model_validate(block).config_groups["group_0"]
    assert (scheme.weights.num_bits, scheme.weights.group_size, scheme.weights.symmetric) == (3, 5, False)


def test_masks_of_one_pattern_say_it() -> None:
    some, half = Masked(WEIGHT > 0), Masked(WEIGHT > 0, (2, 4))
    for forms, structure in (({"a": half, "b": half}, "2:4"), ({"a": half, "b": some}, "unstructured")):
        block = block_of(forms, {}, Activations())
        assert block is not None
        assert (block["sparsity_config"]["sparsity_structure"], block["format"]) == (structure, "dense")
        assert own_keys_of(block, "here").patterns == {
            name: form.pattern for name, form in forms.items() if form.pattern
        }


def test_our_own_keys_come_back() -> None:
    activations = Activations(input_ranges={"qkv": (-1.5, 2.0)}, has_dynamic_inputs=True, cache_bits=8)
    block = block_of({}, {"a": "b_right"}, activations)
    assert block is not None
    assert own_keys_of(block, "here") == OwnKeys(activations=activations, right_factors={"a": "b_right"})


def test_the_group_that_names_a_layer_goes_before_its_kind() -> None:
    block = groups(("Linear", 4), ("re:.*down_proj$", 8))
    assert packing_of("layers.0.down_proj.weight", block, "here")[0] == 8
    assert packing_of("layers.0.up_proj.weight", block, "here")[0] == 4


def test_a_packed_tensor_that_no_group_names_is_refused() -> None:
    with pytest.raises(
        RunFolderError, match="here: quantization_config has no group with up among its targets"
    ):
        packing_of("up.weight", groups(("down", 4)), "here")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"quant_method": "gptq"}, r"quant_method must be compressed-tensors\. Got 'gptq'"),
        ({"format": "float-quantized"}, r"format must be dense or pack-quantized\. Got 'float-quantized'"),
        (
            {"sparsity_config": {"format": "sparse-24-bitmask"}},
            r"sparsity_config must be dense or sparse-bitmask\. Got 'sparse-24-bitmask'",
        ),
        ({"kleiber": {"pattern": {}}}, r"kleiber: unknown key 'pattern'\. Did you mean 'patterns'"),
    ],
)
def test_layouts_that_are_not_read_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(RunFolderError, match=f"config.json: quantization_config: {message}"):
        own_keys_of(groups(("Linear", 4)) | changed, "config.json")


def test_a_last_group_that_is_shorter_keeps_its_size_in_the_block() -> None:
    codes = torch.zeros(2, 20, dtype=torch.uint8)
    ones = torch.ones(2, 3)
    form = Quantized(codes, ones, ones.byte(), 4, group_size=8)
    block = block_of({"up.weight": form}, {}, Activations())
    assert block is not None
    assert packing_of("up.weight", block, "here") == (4, 8)
    with pytest.raises(ValueError, match="20 columns in groups of 16 have no 3 scales a row"):
        Quantized(codes, ones, ones.byte(), 4, group_size=16)
