import math

import pytest
import torch

from kleiber.data import open_data
from kleiber.errors import RecipeError
from kleiber.models import build, resolve_spec
from kleiber.runs import Recipe
from kleiber.study.tuning.coordinates import MAX_SLOPE, check_coordinates, movements
from kleiber.train.state import TrainState

WIDTHS, DEPTHS = (32, 64, 128), (2, 4, 8)


@pytest.fixture
def recipe(small_text):
    """A gpt of depth 2 and width 32 on text, at rates that move it well."""
    values = [
        "model.depth=2", "model.width=32", "model.head_dim=16", f"data.source=text:{small_text}", "data.vocab_size=300",
        "data.context=32", "data.val_frac=0.2", "data.val_tokens=1024", "train.batch_size=4",
        "train.optimizer.lr=0.01", "train.optimizer.matrix_lr=0.004",
    ]  # fmt: skip
    return Recipe().with_values(values)


def slopes(recipe, rule, optimizer):
    changes = [f"train.optimizer.name={optimizer}", f"train.parametrization.name={rule}"]
    if rule == "completep":
        changes += ["train.parametrization.base_width=32", "train.parametrization.base_depth=2"]
    found = check_coordinates(recipe.with_values(changes), widths=WIDTHS, depths=DEPTHS)
    assert found.rule == rule
    return {(row.axis, row.what): row.slope for row in found.rows}, found


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_completep_moves_activations_alike_at_all_sizes_and_the_standard_rule_does_not(recipe, optimizer):
    standard, _ = slopes(recipe, "standard", optimizer)
    completep, found = slopes(recipe, "completep", optimizer)
    assert max(abs(slope) for slope in completep.values()) < MAX_SLOPE
    assert found.is_flat
    assert standard["width", "logits"] > MAX_SLOPE
    assert standard["depth", "all blocks"] > 0.6


def test_movements_are_what_the_first_batch_gives_before_and_after(recipe):
    data = open_data(recipe.data, seed=0, task=recipe.task)
    found = movements(recipe, data, 1)
    batch = next(data.batches("train", 0, 4))
    inputs, targets = torch.from_numpy(batch.tokens[:, :-1]), torch.from_numpy(batch.tokens[:, 1:])
    state = TrainState.start(recipe, resolve_spec(recipe))
    fresh = build(resolve_spec(recipe), seed=0)
    loss = torch.nn.functional.cross_entropy(state.module(inputs).flatten(0, 1), targets.flatten())
    loss.backward()
    state.optimizer.clip_(1.0)
    state.optimizer.step(1.0)
    with torch.no_grad():
        moved = (state.module(inputs) - fresh(inputs)).square().mean().sqrt()
        embedded = (state.module.embedding[inputs] - fresh.embedding[inputs]).square().mean().sqrt()
    assert found["logits"] == pytest.approx(float(moved), rel=1e-4)
    assert found["embeddings"] == pytest.approx(float(embedded), rel=1e-4)
    # Projections back into the stream start at 0: in one step they move, and nothing was there before.
    assert found["half of the blocks"] > found["embeddings"]


def test_what_does_not_move_has_no_slope(recipe):
    still = recipe.with_values(["train.optimizer.lr=1e-30", "train.optimizer.matrix_lr=1e-30"])
    found = check_coordinates(still, widths=(16, 32), depths=(), num_steps=1)
    assert {row.axis for row in found.rows} == {"width"}
    assert any(math.isnan(row.slope) and not row.is_flat for row in found.rows)
    assert not found.is_flat


def test_another_family_is_refused(recipe):
    other = recipe.model_copy(
        update={
            "model": Recipe().with_values(["model.family=encoder", "model.depth=1", "model.width=16"]).model
        }
    )
    with pytest.raises(RecipeError, match="known of gpt alone"):
        check_coordinates(other, widths=(16, 32), depths=())
