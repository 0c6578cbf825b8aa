import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kleiber.errors import RecipeError
from kleiber.models import build, parse_size, resolve_spec
from kleiber.models.stored import LowRank, Masked, Quantized
from kleiber.runs import DataShape, OptimizerRecipe, Recipe, RecoverRecipe
from kleiber.train.optimizer import Optimizer
from kleiber.train.recover.kept_structure import KeptStructure
from kleiber.train.recover.rounding import LearnedRounding, storable
from kleiber.train.recover.trained_weights import Directions, trained_weight

SETTINGS = RecoverRecipe(model="m")


def quantized(codes, scale, zero, num_bits):
    return Quantized(
        torch.tensor(codes, dtype=torch.uint8), torch.tensor(scale), torch.tensor(zero, dtype=torch.uint8), num_bits
    )  # fmt: skip


@settings(max_examples=40)
@given(st.integers(2, 8), st.integers(1, 5), st.integers(1, 9), st.integers(1, 4), st.integers(0, 99))
def test_rounding_starts_as_the_codes_it_was_given(num_bits, R, C, size, seed):
    draw = torch.Generator().manual_seed(seed)
    top, G = 2**num_bits - 1, -(-C // size)
    size = -(-C // G)
    G = -(-C // size)
    codes = torch.randint(0, top + 1, (R, C), generator=draw, dtype=torch.uint8)
    zero = torch.randint(0, top + 1, (R, G), generator=draw, dtype=torch.uint8)
    form = Quantized(codes, storable(torch.rand(R, G, generator=draw) + 1e-3), zero, num_bits)
    made = trained_weight(form.dense(), form, None, keeps_zeros=False)
    assert torch.equal(made(), form.dense())
    assert torch.equal(made.stored().codes_RC, codes)
    assert torch.equal(made.stored().scale_RG, form.scale_RG)


def test_the_gradient_of_a_scale_is_that_of_lsq():
    """Of w / s = (0.4, -2.6, 9): the rounding within the range, -0.4 and -0.4, and the upper bound 3 beyond it."""
    rounding = LearnedRounding(quantized([[4, 1, 7]], [[0.5]], [[4]], 3))
    weight = torch.tensor([[0.2, -1.3, 4.5]], requires_grad=True)
    rounded = rounding(weight)
    assert rounded.tolist() == [[0.0, -1.5, 1.5]]
    rounded.sum().backward()
    assert weight.grad.tolist() == [[1.0, 1.0, 0.0]]
    by_scale = (0 - 0.4) + (-3 + 2.6) + 3
    # By the logarithm: times the scale; and times the size of its gradient, 1 / sqrt(3 weights x 7 codes).
    assert rounding.log_gain_RG.grad.item() == pytest.approx(by_scale * 0.5 / (3 * 7) ** 0.5, rel=1e-5)


def test_scales_that_are_trained_are_what_fp16_holds():
    rounding = LearnedRounding(quantized([[0, 3]], [[0.25]], [[2]], 2))
    with torch.no_grad():
        rounding.log_gain_RG.fill_(0.1)
    stored = rounding.stored(torch.tensor([[0.3, -0.3]]))
    assert stored.scale_RG.item() == torch.tensor(0.25 * torch.e**0.1).half().item()
    assert torch.equal(stored.dense(), rounding(torch.tensor([[0.3, -0.3]])))


def test_scales_that_fp16_does_not_hold_stay_as_they_are():
    form = quantized([[1, 3]], [[0.1]], [[2]], 2)
    assert torch.equal(trained_weight(form.dense(), form, None, keeps_zeros=True)(), form.dense())


@pytest.mark.parametrize("rank", [None, 2])
def test_zeros_stay_zero_whatever_is_learnt(rank):
    torch.manual_seed(0)
    directions = None if rank is None else Directions(rank, 8.0, torch.Generator().manual_seed(0))
    mask = torch.rand(4, 6) > 0.5
    weight = torch.randn(4, 6) * mask
    codes = torch.randint(0, 8, (4, 6), dtype=torch.uint8)
    form = Quantized(codes, torch.full((4, 2), 0.5), torch.full((4, 2), 4, dtype=torch.uint8), 3)
    for start, kind, is_zero in ((weight, Masked(mask), ~mask), (form.dense(), form, codes == 4)):
        made = trained_weight(start, kind, directions, keeps_zeros=True)
        with torch.no_grad():
            for param in made.parameters():
                param.add_(torch.randn_like(param))
        assert not made()[is_zero].any()
        assert not torch.equal(made(), start)
        # Not -0 either, whose bits are not those of a zero that is left out.
        assert not torch.signbit(made()[is_zero]).any()


def test_directions_have_the_rank_that_was_asked_for_and_nothing_to_begin_with():
    start = torch.randn(8, 6)
    made = trained_weight(start, None, Directions(2, 4.0, torch.Generator().manual_seed(0)), keeps_zeros=True)
    assert torch.equal(made(), start)
    with torch.no_grad():
        made.latent.out_of_RL.normal_()
    assert torch.linalg.matrix_rank(made() - start) == 2
    delta = 2.0 * made.latent.out_of_RL @ made.latent.into_LC  # alpha / rank
    torch.testing.assert_close(made() - start, delta, atol=1e-5, rtol=1e-4)


def test_factors_stay_factors_of_their_rank_with_directions_too():
    start = LowRank(torch.randn(8, 2), torch.randn(2, 6))
    for directions in (None, Directions(1, 1.0, torch.Generator().manual_seed(0))):
        made = trained_weight(start.dense(), start, directions, keeps_zeros=True)
        assert torch.equal(made(), start.dense())
        with torch.no_grad():
            for param in made.parameters():
                param.add_(torch.randn_like(param))
        assert torch.linalg.matrix_rank(made()) == 2
        assert torch.equal(made.stored().dense(), made())


IMAGES = DataShape(inputs="images", channels=1, height=8, width=8, num_outputs=3)
TEXT = DataShape(inputs="tokens", vocab_size=30, context=6)
FAMILIES = {
    "gpt:depth=2,width=16": TEXT,
    "gpt:depth=1,width=16,num_experts=4": TEXT,
    "rnn:cell=lstm,depth=1,width=8,is_tied=true": TEXT,
    "encoder:depth=1,width=16": DataShape(inputs="tokens", vocab_size=30, context=6, num_outputs=2),
    "vit:depth=1,width=16,patch_size=4": IMAGES,
    "resnet:depth=8,width=4": IMAGES,
    "convnet:depth=2,width=4": IMAGES,
    "seq2seq:depth=1,width=16": DataShape(inputs="pairs", vocab_size=30, context=6),
}


def model(size, shape):
    recipe = Recipe(model=parse_size(size))
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"shape": shape})})
    return build(resolve_spec(recipe), seed=1)


def inputs_of(shape):
    draw = torch.Generator().manual_seed(0)
    if shape.inputs == "images":
        return (torch.randn(2, 1, 8, 8, generator=draw),)
    tokens = torch.randint(0, 30, (2, 6), generator=draw)
    return (tokens, tokens) if shape.inputs == "pairs" else (tokens,)


@pytest.mark.parametrize("lora_rank", [None, 2])
@pytest.mark.parametrize("size", FAMILIES)
def test_every_family_is_trained_with_its_zeros(size, lora_rank):
    module, inputs = model(size, FAMILIES[size]).eval(), inputs_of(FAMILIES[size])
    in_cells = [n for path, part in module.named_modules() if isinstance(part, nn.RNNBase) for n, _ in part.named_parameters(path)]  # fmt: skip
    hidden = [matrix.name for matrix in module.param_groups().hidden if matrix.name not in in_cells]
    forms = {}
    with torch.no_grad():
        for name in hidden:
            param = module.get_parameter(name)
            param.normal_(std=0.2)
            forms[name] = Masked(torch.rand(param.flatten(1).shape) > 0.5)
            param.mul_(forms[name].is_kept_RC.view_as(param))
    want = module(*inputs)
    recipe = RecoverRecipe(model="m", lora_rank=lora_rank)
    if lora_rank and not hidden:
        with pytest.raises(
            RecipeError, match=r"lora_rank: the model has no matrix between embedding and head"
        ):
            KeptStructure(copy.deepcopy(module), forms, recipe)
        return
    kept = KeptStructure(copy.deepcopy(module), forms, recipe).eval()
    assert torch.equal(kept(*inputs), want)
    groups = kept.param_groups()
    trained = {name for name, param in kept.named_parameters() if param.requires_grad}
    assert sorted(groups.names) == sorted(trained)
    optimizer = Optimizer(kept, groups, OptimizerRecipe(name="adamw", lr=0.01))
    (
        kept(*inputs).square().mean() + 0 * sum(p.sum() for p in kept.parameters() if p.requires_grad)
    ).backward()
    assert any(kept.get_parameter(matrix.name).grad.abs().sum() > 0 for matrix in groups.hidden)
    optimizer.step(1.0)
    if lora_rank:  # directions begin at 0: what leads into them moves with the second step
        optimizer.zero_grad()
        kept(*inputs).square().mean().backward()
        optimizer.step(1.0)
    learnt = kept(*inputs).detach()
    assert not torch.equal(learnt, want)
    assert torch.equal(kept.merged()(*inputs), learnt)
    state = {name: value.clone() for name, value in kept.state_dict().items()}
    again = KeptStructure(copy.deepcopy(module), forms, recipe).eval()
    again.load_state_dict(state)
    assert torch.equal(again(*inputs), learnt)
    finished, kept_forms = kept.finished()
    assert kept_forms.keys() == forms.keys()
    assert finished.state_dict().keys() == module.state_dict().keys()
    assert {name for name, _ in finished.named_parameters()} == {
        name for name, _ in module.named_parameters()
    }
    assert torch.equal(finished(*inputs), learnt)
    for name, form in forms.items():
        assert not finished.get_parameter(name).flatten(1)[~form.is_kept_RC].any()


def test_weights_of_a_recurrent_cell_cannot_be_put_in():
    module = model("rnn:cell=gru,depth=1,width=8", TEXT)
    name = next(name for name, _ in module.named_parameters() if name.endswith("weight_ih_l0"))
    form = Masked(torch.ones(module.get_parameter(name).shape, dtype=torch.bool))
    with pytest.raises(RecipeError, match=r"stores .*weight_ih_l0 of a recurrent cell in few numbers"):
        KeptStructure(module, {name: form}, SETTINGS)


def test_a_tensor_of_no_part_is_refused():
    kept = KeptStructure(model("gpt:depth=1,width=16", TEXT), {}, SETTINGS)
    with pytest.raises(RuntimeError, match="unexpected tensors of elsewhere"):
        kept.load_state_dict({**kept.state_dict(), "elsewhere.weight": torch.zeros(1)})
