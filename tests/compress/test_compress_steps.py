"""Steps as they are typed and shown: what is shown can be typed again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.compress import parse_step, typed_step
from kleiber.compress.prune import Prune
from kleiber.compress.quantize import Quantize
from kleiber.errors import RecipeError

patterns = st.from_regex(r"[a-z*][a-z0-9_.*]{0,12}", fullmatch=True)
ratios = st.floats(0, 0.99).map(lambda value: round(value, 4))


@given(st.dictionaries(patterns, ratios, min_size=1, max_size=4), st.lists(patterns, max_size=3))
def test_ratios_of_layers_are_typed_as_they_are_shown(by_layer: dict[str, float], keep: list[str]) -> None:
    step = Prune(ratio=0.5, method="wanda", layer_ratios=by_layer, keep=tuple(keep))
    assert parse_step(typed_step(step)) == step


@pytest.mark.parametrize("name", ["nan", "null", "1.5", "true", ".inf"])
def test_a_layer_may_be_called_what_reads_as_a_number(name: str) -> None:
    step = parse_step(f"quantize:bits=8,keep={name}+head")
    assert isinstance(step, Quantize)
    assert step.keep == (name, "head")


def test_a_list_is_divided_by_plus() -> None:
    step = parse_step("quantize:bits=4,group_size=32,keep=head+blocks.0.*")
    assert isinstance(step, Quantize)
    assert step.keep == ("head", "blocks.0.*")


@pytest.mark.parametrize("typed", ["0.4", "blocks.0.*:0.3+0.4", ":0.4"])
def test_a_ratio_without_a_layer_is_refused(typed: str) -> None:
    wrong = typed.rsplit("+", maxsplit=1)[-1]
    message = (
        f"What layers have of their own is written LAYER:NUMBER\\+LAYER:NUMBER; '{wrong}' is not LAYER:NUMBER"
    )
    with pytest.raises(RecipeError, match=message):
        parse_step(f"prune:ratio=0.5,layer_ratios={typed}")


def test_a_layers_ratio_that_is_no_number_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"layer_ratios\.head: input should be a valid number"):
        parse_step("prune:ratio=0.5,layer_ratios=head:half")
