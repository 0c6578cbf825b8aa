"""docs/transfer.md: its table of factors is what the rules give, and its recipe is one."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import yaml

from kleiber.models.gpt.module import build
from kleiber.models.gpt.spec import GPTSpec
from kleiber.runs import OptimizerRecipe, ParametrizationRecipe, Recipe, TrainRecipe
from kleiber.train.parametrization import scales_of

PAGE = (Path(__file__).parents[2] / "docs" / "transfer.md").read_text(encoding="utf-8")
WIDE, DEEP = 3.0, 2.0
NAMES = {
    "embedding and other tables": ("embedding", "blocks.1.value_table"),
    "hidden matrices": ("blocks.0.qkv", "blocks.2.experts.gate_up"),
    "those that end a branch": ("blocks.0.attn_out", "blocks.1.experts.down"),
    "gains of norms in blocks": ("blocks.0.attn_norm", "blocks.3.mlp_norm"),
    "gains of query and key heads": ("blocks.0.q_norm", "blocks.0.k_norm"),
    "two numbers of an x0 skip": ("blocks.0.skip_mix",),
    "gain before a tied head; a head of its own": ("final_norm", "head"),
    "a router's matrix": ("blocks.0.experts.router",),
}


def factors():
    """Return the rows of the table by what they are of, each with its factors by column."""
    lines = PAGE.split("| parameter |")[1].split("\n\n")[0].splitlines()
    columns = [cell.strip() for cell in lines[0].split("|") if cell.strip()]
    for line in lines[2:]:
        what, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        yield what, dict(zip(columns, cells, strict=True))


def value(text: str) -> float:
    """Return what `1/(sqrt(m) l)` is."""
    top, _, bottom = text.partition("/")
    return product(top) / product(bottom or "1")


def product(text: str) -> float:
    words = {"1": 1.0, "m": WIDE, "l": DEEP, "sqrt(m)": math.sqrt(WIDE)}
    inner = text[1:-1] if text.startswith("(") else text
    return math.prod(words[word] for word in inner.split())


@pytest.mark.parametrize("is_tied", [True, False])
def test_every_row_of_the_table_is_what_the_rule_gives(is_tied):
    size = {
        "depth": 4,
        "width": 48,
        "num_experts": 2,
        "value_embeddings": 4,
        "has_x0_skip": True,
        "is_tied": is_tied,
    }
    module = build(GPTSpec.from_dial(size, vocab_size=19, context=8))
    groups = module.param_groups()
    groups = dataclasses.replace(
        groups, transfer=dataclasses.replace(groups.transfer, is_fan_in_scaled=False)
    )
    rule = ParametrizationRecipe(name="completep", base_width=16, base_depth=2)
    scales = {
        name: scales_of(module, groups, rule, OptimizerRecipe(name=name)) for name in ("adamw", "muon", "sgd")
    }
    for what, cells in factors():
        for name in NAMES[what]:
            if name not in scales["adamw"] or (name == "final_norm" and not is_tied):
                continue
            for optimizer, by_name in scales.items():
                cell = cells[f"rate, {optimizer}"]
                expected = cells["rate, adamw"] if cell == "as adamw" else cell
                assert by_name[name].rate == pytest.approx(value(expected)), (name, optimizer)
            assert scales["adamw"][name].eps == pytest.approx(value(cells["eps"])), name
            assert scales["adamw"][name].init == pytest.approx(value(cells["at the start"])), name
    assert {what for what, _ in factors()} == NAMES.keys()


def test_the_pages_recipe_is_one():
    text = PAGE.split("```\ntrain:")[1].split("```")[0]
    recipe = Recipe.model_validate(yaml.safe_load("train:" + text))
    rule = recipe.train.parametrization
    assert (rule.name, rule.base_width, rule.base_depth, rule.base_tokens) == ("completep", 64, 2, 1.2e6)
    assert f"{TrainRecipe().parametrization.token_exponent:g} is what Bjorck" in PAGE
