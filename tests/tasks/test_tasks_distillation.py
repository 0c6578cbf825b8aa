import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kleiber.data import Batch
from kleiber.errors import RecipeError
from kleiber.models import build, parse_size, resolve_spec
from kleiber.runs import DataMeta, DataShape, Recipe, RecoverRecipe, TaskRecipe
from kleiber.tasks import task_of
from kleiber.tasks.attention_maps import Attention, RecordedAttention, attention_loss
from kleiber.tasks.block_features import BlockFeatures, blocks_in, matched, recorded_blocks
from kleiber.tasks.distillation import Distillation
from kleiber.tasks.divergences import divergence

TOKENS = DataShape(inputs="tokens", vocab_size=40, context=8)


def data_meta(shape=TOKENS):
    return DataMeta(
        source="s", shape=shape, corpus_hash="c", python_version="3", eval_hash="e", num_documents=1, num_train_tokens=9,
        num_val_tokens=8, class_counts=(1,) * (shape.num_outputs or 0),
    )  # fmt: skip


def model(size, shape=TOKENS, seed=0):
    recipe = Recipe(model=parse_size(size)).with_shape(shape)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"shape": shape})})
    module = build(resolve_spec(recipe), seed=seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for param in module.parameters():
            if param.ndim > 1:
                param.add_(torch.randn_like(param) * 0.2)
    return module


def batch_of(shape=TOKENS, num=3, **arrays):
    draw = np.random.default_rng(0)
    return Batch({"tokens": draw.integers(0, 40, (num, (shape.context or 0) + 1)), **arrays}, num)


def distilled(student, teacher, batch=None, task=None, shape=TOKENS, **recipe):
    task = task or TaskRecipe()
    return Distillation(
        task_of(task, data_meta(shape)), teacher, student, recipe=RecoverRecipe(model="m", teacher="t", **recipe),
        task_recipe=task, meta=data_meta(shape), example=batch or batch_of(),
    )  # fmt: skip


logits = st.lists(st.floats(-8, 8), min_size=3, max_size=3)


@settings(max_examples=50)
@given(logits, logits, st.sampled_from(["forward", "reverse", "skew"]), st.floats(0.5, 5))
def test_a_divergence_is_never_negative_and_none_from_itself(ours, theirs, name, temperature):
    ours, theirs = torch.tensor([ours]), torch.tensor([theirs])
    assert divergence(ours, theirs, name, temperature=temperature).item() >= -1e-5
    assert divergence(ours, ours, name, temperature=temperature).item() == pytest.approx(0, abs=1e-5)


def test_divergences_by_hand():
    p, q = torch.tensor([[0.75, 0.25]]), torch.tensor([[0.5, 0.5]])
    forward = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    reverse = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    mixed = 0.2 * p + 0.8 * q
    skewed = float((p * (p / mixed).log()).sum())
    assert divergence(q.log(), p.log()).item() == pytest.approx(forward)
    assert divergence(q.log(), p.log(), "reverse").item() == pytest.approx(reverse)
    assert divergence(q.log(), p.log(), "skew", skew=0.2).item() == pytest.approx(skewed, rel=1e-5)
    soft = divergence(2 * q.log(), 2 * p.log(), temperature=2.0).item()
    assert soft == pytest.approx(4 * forward)


def test_the_loss_weighs_the_teacher_and_the_task():
    student, teacher, batch = model("gpt:depth=1,width=16"), model("gpt:depth=2,width=32", seed=1), batch_of()
    tokens = torch.from_numpy(batch.tokens)
    ours, theirs = student(tokens[:, :-1]).flatten(0, 1), teacher(tokens[:, :-1]).flatten(0, 1)
    apart = F.kl_div(ours.log_softmax(-1), theirs.log_softmax(-1), log_target=True, reduction="batchmean")
    own = F.cross_entropy(ours, tokens[:, 1:].flatten())
    assert distilled(student, teacher).loss(student, batch).item() == pytest.approx(apart.item(), rel=1e-5)
    half = distilled(student, teacher, teacher_weight=0.25).loss(student, batch).item()
    assert half == pytest.approx(0.25 * apart.item() + 0.75 * own.item(), rel=1e-5)


def test_a_student_equal_to_its_teacher_has_no_loss_and_the_teacher_no_gradient():
    student, teacher = model("gpt:depth=2,width=16"), model("gpt:depth=2,width=16")
    task = distilled(student, teacher, feature_weight=1.0, attention_weight=1.0)
    loss = task.loss(student, batch_of())
    assert loss.item() == pytest.approx(0, abs=1e-5)
    loss.backward()
    assert all(param.grad is None for param in teacher.parameters())
    assert not list(task.maps.parameters())


def test_features_of_another_width_go_through_a_map_that_is_learnt():
    student, teacher, batch = model("gpt:depth=1,width=16"), model("gpt:depth=2,width=32", seed=1), batch_of()
    task = distilled(student, teacher, feature_weight=1.0)
    (weight,) = task.maps.parameters()
    assert weight.shape == (32, 16)
    task.loss(student, batch).backward()
    assert weight.grad.abs().sum() > 0
    without = distilled(student, teacher).loss(student, batch)
    with recorded_blocks(student.blocks) as ours, recorded_blocks(teacher.blocks) as theirs:
        tokens = torch.from_numpy(batch.tokens[:, :-1])
        student(tokens), teacher(tokens)
    added = (ours[0] @ weight.T - theirs[1]).square().mean() / theirs[1].square().mean()
    assert task.loss(student, batch).item() == pytest.approx((without + added).item(), rel=1e-5)


def test_attention_is_compared_as_it_is_computed():
    torch.manual_seed(0)
    q, k = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8)
    for options in ({"is_causal": True}, {"attn_mask": torch.ones(5, 5, dtype=torch.bool).tril(1)}):
        with RecordedAttention() as mode:
            # With one-hot values attention returns its own probabilities.
            eye = torch.eye(5).expand(2, 2, 5, 5)
            probs = F.scaled_dot_product_attention(q, k, eye, enable_gqa=True, **options)
        (call,) = mode.calls
        torch.testing.assert_close(call.log_probs().exp(), probs, atol=1e-6, rtol=1e-5)


def test_a_mask_that_is_added_counts_too():
    added = torch.zeros(5, 5).masked_fill(torch.ones(5, 5, dtype=torch.bool).triu(1), -torch.inf)
    q, k = torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4)
    ours, theirs = Attention(q, k, added, False, None), Attention(q, k, None, True, None)
    torch.testing.assert_close(ours.log_probs().exp(), theirs.log_probs().exp())


def test_other_numbers_of_heads_are_compared_by_their_mean():
    q = torch.randn(1, 4, 3, 8)
    four = Attention(q, q, None, False, None)
    one = Attention(torch.zeros(1, 1, 3, 8), torch.zeros(1, 1, 3, 8), None, False, None)
    mean = four.log_probs().exp().mean(1)
    want = (mean * (mean.log() - math.log(1 / 3))).sum(-1).mean()
    assert attention_loss([one], [four]).item() == pytest.approx(want.item(), rel=1e-4)


def test_blocks_are_matched_by_how_far_they_are():
    assert matched(3, 12) == (3, 7, 11)
    assert blocks_in(model("gpt:depth=3,width=16"))[0].__class__.__name__ == "Block"
    with pytest.raises(RecipeError, match=r"no repeated blocks .* Got 'Linear'"):
        blocks_in(nn.Linear(2, 2))


def test_a_network_of_pixels_is_learnt_from_by_classes_and_features():
    shape = DataShape(inputs="images", channels=1, height=8, width=8, num_outputs=3)
    student, teacher = (
        model("convnet:depth=2,width=4", shape),
        model("convnet:depth=2,width=8", shape, seed=1),
    )
    batch = Batch(
        {"images": np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32), "labels": np.array([0, 1, 2, 0])},
        4,
    )  # fmt: skip
    task = distilled(
        student, teacher, batch, TaskRecipe(name="classification"), shape, feature_weight=1.0, temperature=3.0
    )
    loss = task.loss(student, batch)
    loss.backward()
    assert loss.item() > 0
    assert all(param.grad is not None for param in task.maps.parameters())


def test_classes_that_are_asked_one_by_one_are_compared_one_by_one():
    shape = DataShape(inputs="features", num_features=4, num_outputs=2)
    student, teacher = model("mlp:depth=1,width=4", shape), model("mlp:depth=1,width=8", shape, seed=1)
    inputs = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    batch = Batch({"features": inputs, "labels": np.array([0, 1, 1, 0])}, 4)
    task = TaskRecipe(name="classification", loss="binary_cross_entropy")
    loss = distilled(student, teacher, batch, task, shape).loss(student, batch)
    ours, theirs = (one(torch.from_numpy(inputs)) for one in (student.eval(), teacher))
    q, p = ours.sigmoid(), theirs.sigmoid()
    want = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    assert loss.item() == pytest.approx(want.item(), rel=1e-4)


def test_padding_of_targets_does_not_count():
    shape = DataShape(inputs="pairs", vocab_size=40, context=8)
    student, teacher = (
        model("seq2seq:depth=1,width=16", shape),
        model("seq2seq:depth=1,width=16", shape, seed=1),
    )
    student.eval()
    draw = np.random.default_rng(0)
    source, target = draw.integers(1, 40, (2, 8)), draw.integers(1, 40, (2, 8))
    target[:, 0], target[0, 4:] = 0, 0
    batch = Batch({"source": source, "target": target}, 2)
    task = distilled(student, teacher, batch, TaskRecipe(name="seq2seq"), shape)
    first = task.loss(student, batch).item()
    inputs = torch.from_numpy(source), torch.from_numpy(target[:, :-1])
    each = divergence(student(*inputs), teacher(*inputs)).view(2, 7)
    assert first == pytest.approx(((each[0, :4].sum() + each[1].sum()) / 11).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (TaskRecipe(name="regression"), r"recover\.teacher: .* the task regression has values, not likelihoods\. Got 't'"),
        (TaskRecipe(name="contrastive"), r"recover\.teacher: .* the task contrastive has"),
    ],
)  # fmt: skip
def test_tasks_without_likelihoods_are_refused(task, message):
    with pytest.raises(RecipeError, match=message):
        distilled(nn.Linear(1, 1), nn.Linear(1, 1), task=task)


def test_a_teacher_of_another_vocabulary_is_refused():
    wider = DataShape(inputs="tokens", vocab_size=50, context=8)
    with pytest.raises(
        RecipeError, match=r"answers in another shape than the model\. Got \(\(8, 40\), \(8, 50\)\)"
    ):
        distilled(model("gpt:depth=1,width=16"), model("gpt:depth=1,width=16", wider))


def test_what_cannot_be_compared_is_refused_before_the_first_step():
    gpt = model("gpt:depth=2,width=16")
    with pytest.raises(RecipeError, match=r"attention_weight: the model calls no attention"):
        distilled(model("rnn:cell=gru,depth=1,width=16"), gpt, attention_weight=1.0)
    with pytest.raises(RecipeError, match=r"attend to other numbers of tokens\. Got \(\(3, 3\), \(4, 4\)\)"):
        attention_loss(
            *([Attention(q, q, None, False, None)] for q in (torch.ones(1, 1, n, 2) for n in (3, 4)))
        )
    with pytest.raises(RecipeError, match=r"return other numbers of places\. Got \(\(3,\), \(4,\)\)"):
        BlockFeatures([torch.ones(1, 3, 2)], [torch.ones(1, 4, 2)])
