"""The engine `compiled`: how it holds weights, that it says what the module says, and that its programs are kept."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.errors import RecipeError, UsageError
from kleiber.infer.compiled.compiler import has_compiler
from kleiber.infer.compiled.held import Codes, Dense, Factors, held
from kleiber.infer.compiled.predictor import CompiledPredictor
from kleiber.infer.compiled.products import Hollow, multiplied
from kleiber.infer.compiled.program import compiled_program
from kleiber.infer.decoding import open_decoder
from kleiber.infer.engines import open_predictor
from kleiber.infer.precision import in_precision
from kleiber.models import build
from kleiber.models.encoder import EncoderSpec
from kleiber.models.gpt import GPTSpec
from kleiber.models.stored import LowRank, Masked
from kleiber.models.stored.grid import Grid
from kleiber.models.stored.rounding import round_to_nearest
from kleiber.runs import DataShape

VOCAB, CONTEXT = 60, 24
needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler here")


def gpt():
    size = {"depth": 2, "width": 32, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8}
    module = build(GPTSpec.from_dial(size, vocab_size=VOCAB, context=CONTEXT), seed=0)
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
            parameter.add_(noise * 0.15)
    return module.eval().requires_grad_(requires_grad=False)


grids = st.builds(
    Grid,
    num_bits=st.integers(2, 8),
    group_size=st.integers(1, 20),
    is_symmetric=st.booleans(),
)


@given(grid=grids, rows=st.integers(1, 5), columns=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_codes_multiply_as_the_numbers_that_they_stand_for(grid, rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    form = round_to_nearest(torch.randn(rows, columns, generator=generator), grid)
    codes, dense, x = Codes(form), form.dense(), torch.randn(columns, generator=generator)
    assert torch.allclose(codes.one_row(x), dense @ x, atol=1e-4)
    assert torch.allclose(codes.rows_at(torch.arange(rows)), dense, atol=1e-6)
    x_NC = torch.randn(3, columns, generator=generator)
    assert torch.allclose(codes.many_rows(x_NC), x_NC @ dense.t(), atol=1e-4)


def test_few_bits_are_packed_two_a_byte():
    form = round_to_nearest(torch.randn(6, 64), Grid(4, group_size=16))
    assert Codes(form).codes_RGS.numel() == 6 * 32
    assert Codes(form).computed_in == "int4 weights"
    odd = Codes(round_to_nearest(torch.randn(6, 60), Grid(4, group_size=15)))
    assert odd.codes_RGS.numel() == 6 * 60
    assert odd.computed_in == "int8 weights"


def test_factors_and_masks():
    left, right = torch.randn(6, 2), torch.randn(2, 5)
    factors, x = held(left @ right, LowRank(left, right)), torch.randn(5)
    assert isinstance(factors, Factors)
    assert torch.allclose(factors.one_row(x), left @ (right @ x), atol=1e-5)
    assert torch.allclose(factors.many_rows(x[None]), (left @ (right @ x))[None], atol=1e-5)
    assert torch.allclose(factors.rows_at(torch.tensor([1, 4])), (left @ right)[[1, 4]], atol=1e-5)
    weight = torch.eye(3)
    assert isinstance(held(weight, Masked(weight.bool())), Dense)


def test_only_weights_that_are_multiplied_or_looked_up_are_held_apart():
    module = gpt()
    names = multiplied(module, lambda: module(torch.zeros(1, 2, dtype=torch.long)))
    assert names == {
        "embedding", *(f"blocks.{i}.{name}" for i in range(2) for name in ("qkv", "attn_out", "gate_up", "mlp_down"))
    }  # fmt: skip

    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(4, 4))

        def forward(self, x):
            return F.linear(x, self.weight) + self.weight.sum()

    twice = Twice()
    assert multiplied(twice, lambda: twice(torch.ones(1, 4))) == set()


def test_a_hollow_module_keeps_no_numbers_of_its_own_and_says_the_same():
    module = gpt()
    tokens = torch.arange(6)[None]
    hollow = Hollow(module, {}, multiplied(module, lambda: module(tokens)))
    assert hollow.module.embedding.numel() == 0
    assert hollow.module.final_norm is module.final_norm
    with hollow.using(rows="many") as used:
        assert torch.equal(used(tokens), module(tokens))
    with hollow.using(rows="one") as used:
        assert torch.allclose(used(tokens[:, :1]), module(tokens[:, :1]), atol=1e-5)


@needs_compiler
def test_it_decodes_as_the_module_does_and_opens_at_once_the_second_time(tmp_path, monkeypatch):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path))
    module = gpt()
    tokens = np.random.default_rng(0).integers(0, VOCAB, (2, CONTEXT))
    expected = module(torch.from_numpy(tokens)).numpy()
    decoder = open_decoder("compiled", module, num_threads=1)
    assert decoder.precision == "fp32"
    said = [decoder.prefill(tokens[:1, :1])] + [decoder.decode(tokens[:1, at]) for at in range(1, CONTEXT)]
    assert np.abs(np.stack(said, 1) - expected[:1]).max() < 1e-4
    decoder.rewind(5)
    assert np.abs(decoder.extend(tokens[:1, 5:9]) - expected[:1, 5:9]).max() < 1e-4
    assert np.abs(decoder.decode(tokens[:1, 9]) - expected[:1, 9]).max() < 1e-4
    both = [decoder.prefill(tokens[:, :3])] + [decoder.decode(tokens[:, at]) for at in range(3, 6)]
    assert np.abs(np.stack(both, 1) - expected[:, 2:6]).max() < 1e-4
    programs = list((tmp_path / "compiled").glob("*.pt2"))
    assert len(programs) == 1
    # Another model of the same sizes shares the program, with numbers of its own.
    other = gpt()
    other.load_state_dict(module.state_dict())
    with torch.no_grad():
        other.final_norm.mul_(2)
    again = open_decoder("compiled", other, num_threads=1)
    assert list((tmp_path / "compiled").glob("*.pt2")) == programs
    again.prefill(tokens[:1, :1])
    assert np.abs(again.decode(tokens[:1, 1]) - 2 * expected[:1, 1]).max() < 1e-3


@needs_compiler
def test_codes_decode_as_the_numbers_that_they_stand_for_but_for_the_rounding_of_inputs(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path))
    module = gpt()
    forms = in_precision(module, {}, "int4")
    tokens = np.random.default_rng(0).integers(0, VOCAB, (1, CONTEXT))
    expected = module(torch.from_numpy(tokens)).numpy()
    decoder = open_decoder("compiled", module, forms=forms, num_threads=1)
    assert decoder.precision == "int4 weights, int8 weights"
    said = [decoder.prefill(tokens[:, :1])] + [decoder.decode(tokens[:, at]) for at in range(1, CONTEXT)]
    assert (np.stack(said, 1) - expected).std() < 0.03 * expected.std()
    decoder.rewind(5)
    together = decoder.extend(tokens[:, 5:9])
    assert (together - expected[:, 5:9]).std() < 0.03 * expected.std()


def expected_of(module, tokens):
    with torch.no_grad():
        return module(torch.from_numpy(tokens.copy())).numpy()


@needs_compiler
def test_whole_inputs_of_any_batch_and_length(tmp_path, monkeypatch):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path))
    shape = DataShape(inputs="tokens", vocab_size=VOCAB, context=CONTEXT, num_outputs=3)
    module = build(EncoderSpec.of_size({"depth": 1, "width": 32}, shape), seed=0).eval()
    predictor = open_predictor("compiled", module, [torch.ones(1, 8, dtype=torch.long)], num_threads=1)
    assert isinstance(predictor, CompiledPredictor)
    tokens = np.random.default_rng(0).integers(1, VOCAB, (5, 11))
    assert np.abs(predictor(tokens) - expected_of(module, tokens)).max() < 1e-5
    assert (
        np.abs(predictor(tokens[1:4, 2:9][::-1]) - expected_of(module, tokens[1:4, 2:9][::-1])).max() < 1e-5
    )  # strides


def test_a_context_of_a_few_tokens_needs_no_program():
    module = build(GPTSpec.from_dial({"depth": 1, "width": 32}, vocab_size=VOCAB, context=4), seed=0).eval()
    tokens = np.array([[3, 1, 4, 1]])
    decoder = open_decoder("compiled", module, num_threads=1)
    said = [decoder.prefill(tokens[:, :1])] + [decoder.decode(tokens[:, at]) for at in range(1, 4)]
    with torch.no_grad():
        expected = module(torch.from_numpy(tokens)).numpy()
    assert np.abs(np.stack(said, 1) - expected).max() < 1e-5


def test_without_a_compiler_it_says_so(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(RecipeError, match="The engine compiled needs a C\\+\\+ compiler"):
        open_decoder("compiled", gpt())


def test_what_has_no_spec_of_a_family_is_refused():
    with pytest.raises(RecipeError, match=r"knows programs by the spec of their model; .* has none"):
        open_predictor("compiled", torch.nn.Linear(2, 2), [torch.zeros(1, 2)])


def test_llamacpp_answers_no_whole_inputs():
    with pytest.raises(UsageError, match="llamacpp runs nothing but language models"):
        open_predictor("llamacpp", gpt(), [torch.zeros(1, 2, dtype=torch.long)])


class Depends(torch.nn.Module):
    def forward(self, x):
        return x + 1 if bool(x.sum() > 0) else x


def test_a_missing_folder_of_programs_is_made_for_its_owner_alone(tmp_path, monkeypatch):
    if not has_compiler():
        pytest.skip("no C++ compiler here")
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path / "new"))
    with pytest.raises(RecipeError, match="cannot be compiled"):
        compiled_program(Depends(), (torch.ones(2),), ({},), {"program": "a test"}, num_threads=1)
    assert Path(tmp_path / "new" / "compiled").stat().st_mode & 0o777 == 0o700
