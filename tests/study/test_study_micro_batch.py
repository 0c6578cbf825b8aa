"""The micro-batch that fits: the largest that does, refused where none does, and the same gradient."""

from __future__ import annotations

import pytest

from kleiber.errors import RecipeError
from kleiber.models import resolve_spec
from kleiber.runs import Recipe, free_memory_bytes
from kleiber.study.micro_batch import fit_micro_batch
from kleiber.study.recipe_cost import recipe_cost

GPT = Recipe().with_values(["model.depth=2", "train.batch_size=12", "train.fits_memory=true"])


def peak(recipe):
    return 1.5 * recipe_cost(recipe, resolve_spec(recipe), "fp32").memory.summary().peak


def test_what_fits_whole_stays_whole():
    chosen, says = fit_micro_batch(GPT)
    assert chosen == GPT
    assert says.startswith("Micro-batches of 12, 1 a step: ")


@pytest.mark.parametrize("accumulation", [2, 3, 4, 6, 12])
def test_the_largest_that_fits_is_taken(accumulation):
    limit = peak(GPT.with_values([f"train.accumulation={accumulation}"]))
    chosen, _ = fit_micro_batch(GPT, limit_bytes=limit)
    assert chosen.train.accumulation == accumulation
    assert peak(chosen) <= limit


def test_freed_blocks_that_are_given_back_leave_more_room():
    lean = GPT.with_values(["parallel.keeps_freed_memory=false"])
    limit = peak(GPT) / 1.5
    assert fit_micro_batch(lean, limit_bytes=limit)[0].train.accumulation == 1
    assert fit_micro_batch(GPT, limit_bytes=limit)[0].train.accumulation > 1


def test_what_fits_in_no_parts_is_refused():
    with pytest.raises(RecipeError, match=r"does not fit: one sample at a time takes .* of 1\.00 kB free"):
        fit_micro_batch(GPT, limit_bytes=1000)


def test_samples_are_asked_for_their_shape(monkeypatch, tmp_path):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path))
    digits = [
        "model.family=mlp",
        "model.depth=1",
        "model.width=64",
        "task.name=classification",
        "data.source=digits",
    ]
    recipe = Recipe().with_values([*digits, "train.batch_size=1000", "train.fits_memory=true"])
    whole, _ = fit_micro_batch(recipe, limit_bytes=1e9)
    assert whole.data.shape is not None
    parts, _ = fit_micro_batch(recipe, limit_bytes=0.7 * peak(whole))
    assert parts.train.accumulation > 1


def test_a_full_batch_is_the_split_before_it_is_parted(monkeypatch, tmp_path):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path))
    digits = [
        "model.family=mlp",
        "model.depth=1",
        "model.width=64",
        "task.name=classification",
        "data.source=digits",
    ]
    recipe = Recipe().with_values([*digits, "train.is_full_batch=true", "train.fits_memory=true"])
    chosen, says = fit_micro_batch(recipe, limit_bytes=1e9)
    assert chosen.train.batch_size > 1600
    assert says.startswith(f"Micro-batches of {chosen.train.batch_size}, 1 a step: ")


def test_free_memory_is_some():
    assert 10**8 < free_memory_bytes() < 10**14
