from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from kleiber.errors import RecipeError
from kleiber.models.foreign.losses import find_loss, main_output

automatic = find_loss(None)[0]


def test_the_modules_own_loss_comes_first() -> None:
    own = torch.tensor(3.25)
    logits = torch.zeros(4, 5)
    assert automatic(SimpleNamespace(loss=own, logits=logits)) is own
    assert automatic({"loss": own, "logits": logits}) is own
    assert automatic(own) is own


@pytest.mark.parametrize("size", [(4, 5), (4, 7, 5)])
def test_scores_of_classes_give_cross_entropy(size: tuple[int, ...]) -> None:
    # Equal scores: every class has the probability 1/5, whichever is drawn.
    assert automatic(torch.zeros(size)).item() == pytest.approx(math.log(5))


def test_other_outputs_give_the_mean_square() -> None:
    # Targets of variance 1 around outputs of 0.
    assert automatic(torch.zeros(50, 3, 20, 20)).item() == pytest.approx(1, rel=0.05)


def test_a_named_loss_is_taken_whatever_the_shape() -> None:
    output = torch.full((4, 5), 2.0)
    assert find_loss("mean")[0](output).item() == 2
    assert find_loss("cross_entropy")[0](torch.zeros(2, 3, 4, 6)).item() == pytest.approx(math.log(6))
    assert find_loss("mse")[0](torch.zeros(100, 100)).item() == pytest.approx(1, rel=0.1)


def test_images_matched_with_texts_minimize_the_contrastive_loss() -> None:
    output = SimpleNamespace(logits_per_image=torch.zeros(6, 6), loss=None)
    assert automatic(output).item() == pytest.approx(math.log(6))


def test_the_main_output_of_a_recurrent_layer_is_its_first_tensor() -> None:
    values = torch.zeros(2, 3)
    assert main_output((values, (torch.ones(1), torch.ones(1)))) is values
    assert main_output({"ids": torch.ones(2, dtype=torch.int64), "features": values}) is values
    assert main_output(SimpleNamespace(logits=values, loss=None)) is values


@pytest.mark.parametrize("output", [None, torch.ones(2, dtype=torch.int64), "text", ()])
def test_an_output_without_numbers_cannot_be_minimized(output: object) -> None:
    with pytest.raises(
        RecipeError, match=r"no tensor of floating point.*nothing to minimize.*\n  try: --mode infer"
    ):
        automatic(output)


def test_cross_entropy_needs_classes() -> None:
    with pytest.raises(RecipeError, match=r"needs an output of samples and classes\. Got \(4,\)"):
        find_loss("cross_entropy")[0](torch.zeros(4))


def test_an_unknown_loss_is_named_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"unknown loss 'cross-entropy'\. Did you mean 'cross_entropy'\?"):
        find_loss("cross-entropy")
