from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stored_examples import assert_same, rounded

from kleiber.errors import RunFolderError
from kleiber.models.stored import Activations, Form, LowRank, Masked, Quantized, dense_of
from kleiber.models.stored.codec import decode, encode

WEIGHT = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
NAME = "layer.weight"


def encoded(form: Form, weight: torch.Tensor = WEIGHT) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    tensors, block = encode({NAME: weight}, {NAME: form}, Activations())
    assert block is not None
    return tensors, block


def test_the_tensors_are_those_of_compressed_tensors() -> None:
    # compressed-tensors 0.20 gave these of [[-0.5, 0.25, 1, 0.75, -1, 0.5], [2, -1, 0, 3, 1, -2]] in groups of 3.
    codes = [[5, 11, 15, 9, 2, 8], [9, 3, 5, 15, 12, 0]]
    form = Quantized(
        codes_RC=torch.tensor(codes).byte(),
        scale_RG=torch.tensor([[0.125, 0.25], [0.5, 0.25]]),
        zero_RG=torch.tensor([[9, 6], [5, 8]]).byte(),
        num_bits=4,
    )
    tensors, _ = encoded(form, form.dense())
    assert {name.removeprefix(NAME): tensor.tolist() for name, tensor in tensors.items()} == {
        "_packed": [[8560565], [849209]],
        "_scale": [[0.125, 0.25], [0.5, 0.25]],
        "_zero_point": [[89, 134]],
        "_shape": [2, 6],
    }
    assert form.dense().tolist() == [[-0.5, 0.25, 0.75, 0.75, -1, 0.5], [2, -1, 0, 1.75, 1, -2]]


def test_a_mask_is_stored_as_the_legacy_format_has_it() -> None:
    weight = torch.tensor([[0, 1.5, 0, 0, 2, 0, 0, 0, -3], [0.0] * 9, [1, 0, 0, 0, 0, 0, 0, 4, 0]])
    tensors, block = encoded(Masked(weight != 0), weight)
    # compressed-tensors 0.9.4 gave these.
    assert {name.removeprefix(NAME): tensor.tolist() for name, tensor in tensors.items()} == {
        ".shape": [3, 9],
        ".compressed": [1.5, 2.0, -3.0, 1.0, 4.0],
        ".bitmask": [[18, 1], [0, 0], [129, 0]],
        ".row_offsets": [0, 3, 3],
    }
    assert block["sparsity_config"]["global_sparsity"] == pytest.approx(22 / 27)


@st.composite
def quantized(draw: st.DrawFn) -> Quantized:
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 50))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    return rounded(
        torch.randn(rows, columns, generator=generator),
        num_bits=draw(st.integers(2, 8)),
        num_groups=draw(st.integers(1, min(6, columns))),
        is_symmetric=draw(st.booleans()),
    )


@given(quantized())
def test_quantized_weights_come_back(form: Quantized) -> None:
    weights, forms = decode(*encoded(form, form.dense()), "here")
    assert_same(forms[NAME], form)
    assert torch.equal(weights[NAME], form.dense())


@pytest.mark.parametrize(
    "form",
    [
        Masked(WEIGHT > 0, (2, 4)),
        LowRank(WEIGHT[:, :3], WEIGHT[:3]),
        LowRank(rounded(WEIGHT[:, :3], num_bits=8), rounded(WEIGHT[:3], num_bits=3, num_groups=2)),
        LowRank(WEIGHT[:, :3], rounded(WEIGHT[:3])),
    ],
)
@pytest.mark.parametrize("shape", [(6, 20), (6, 5, 2, 2)])
def test_other_forms_come_back(form: Form, shape: tuple[int, ...]) -> None:
    weight = WEIGHT * (WEIGHT > 0) if isinstance(form, Masked) else form.dense()
    tensors, block = encode(
        {NAME: weight.reshape(shape), "bias": WEIGHT[0]}, {NAME: form}, Activations(cache_bits=8)
    )
    assert block is not None
    weights, forms = decode(tensors, block, "here")
    assert weights.keys() == {NAME, "bias"}
    assert torch.equal(weights["bias"], WEIGHT[0])
    assert torch.equal(weights[NAME], weight.reshape(shape))
    assert_same(forms[NAME], form)


def test_a_zero_that_is_kept_stays_kept() -> None:
    weight = torch.tensor([[0.0, 1.0, 0.0]])
    mask = Masked(torch.tensor([[True, True, False]]))
    weights, forms = decode(*encoded(mask, weight), "here")
    assert_same(forms[NAME], mask)
    assert torch.equal(weights[NAME], weight)


def test_scales_are_halves_where_these_hold_them() -> None:
    form = rounded(WEIGHT)
    assert encoded(form)[0][f"{NAME}_scale"].dtype == torch.float16
    fine = Quantized(form.codes_RC, form.scale_RG * (1 + 1e-6), form.zero_RG, form.num_bits)
    tensors, block = encoded(fine)
    assert tensors[f"{NAME}_scale"].dtype == torch.float32
    assert torch.equal(decode(tensors, block, "here")[0][NAME], fine.dense())


def test_symmetric_weights_need_no_zeros() -> None:
    assert f"{NAME}_zero_point" not in encoded(rounded(WEIGHT, is_symmetric=True))[0]
    assert f"{NAME}_zero_point" in encoded(rounded(WEIGHT))[0]


def test_products_that_share_a_factor_store_it_once() -> None:
    right = WEIGHT[:2]
    weights = {f"{part}.weight": WEIGHT[:, :2] @ right for part in "qk"}
    forms: dict[str, Form] = {name: LowRank(WEIGHT[:, :2], right) for name in weights}
    tensors, block = encode(weights, forms, Activations())
    assert sorted(tensors) == [
        "k.weight_left", "k.weight_shape", "q.weight_left", "q.weight_right", "q.weight_shape",
    ]  # fmt: skip
    found = decode(tensors, block or {}, "here")[1]
    assert isinstance(found["q.weight"], LowRank)
    assert isinstance(found["k.weight"], LowRank)
    assert found["q.weight"].right_KC is found["k.weight"].right_KC


def test_a_package_reads_what_is_written() -> None:
    pack_quantized = pytest.importorskip("compressed_tensors.compressors.pack_quantized")
    quantization = pytest.importorskip("compressed_tensors.quantization")
    for is_symmetric in (True, False):
        form = rounded(WEIGHT, num_bits=3, num_groups=4, is_symmetric=is_symmetric)
        tensors, block = encoded(form)
        scheme = quantization.QuantizationConfig.model_validate(block).config_groups["group_0"]
        local = {name.removeprefix("layer."): tensor for name, tensor in tensors.items()}
        local["weight_scale"] = local["weight_scale"].float()
        compressor = pack_quantized.PackedQuantizationCompressor
        assert torch.equal(compressor.decompress(local, scheme)["weight"], dense_of(form))


@pytest.mark.parametrize("ending", ["_scale", "_shape", "_zero_point"])
def test_a_tensor_that_is_missing_or_of_another_shape_is_named(ending: str) -> None:
    tensors, block = encoded(rounded(WEIGHT, num_groups=4))
    name = f"{NAME}{ending}"
    cut = {**tensors, name: tensors[name][:-1] if ending != "_shape" else torch.tensor([6, 30])}
    with pytest.raises(RunFolderError, match=r"here: layer\.weight_\w+ must be \(\d+, \d+\)\. Got \("):
        decode(cut, block, "here")
    if ending != "_zero_point":  # without it the weight is symmetric
        del tensors[name]
        with pytest.raises(RunFolderError, match=rf"here: {name} is missing"):
            decode(tensors, block, "here")


def test_a_mask_that_does_not_fit_its_values_is_refused() -> None:
    tensors, block = encoded(Masked(WEIGHT > 0))
    num_kept = int((WEIGHT > 0).sum())
    tensors[f"{NAME}.compressed"] = tensors[f"{NAME}.compressed"][1:]
    with pytest.raises(
        RunFolderError, match=rf"compressed must be \({num_kept},\)\. Got \({num_kept - 1},\)"
    ):
        decode(tensors, block, "here")


@pytest.mark.parametrize("ending", ["_left", "_right", "_shape"])
def test_a_factor_that_is_missing_is_named(ending: str) -> None:
    tensors, block = encoded(LowRank(WEIGHT[:, :2], WEIGHT[:2]))
    del tensors[f"{NAME}{ending}"]
    with pytest.raises(RunFolderError, match=f"{NAME}{ending} is missing"):
        decode(tensors, block, "here")


def test_factors_that_do_not_go_together_are_refused() -> None:
    tensors, block = encoded(LowRank(WEIGHT[:, :2], WEIGHT[:2]))
    tensors[f"{NAME}_right"] = WEIGHT[:3]
    with pytest.raises(RunFolderError, match=r"layer\.weight_left must be \(6, 3\)\. Got \(6, 2\)"):
        decode(tensors, block, "here")
