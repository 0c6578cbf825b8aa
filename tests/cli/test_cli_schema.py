"""`kleiber schema`: what an editor checks is what the recipe checks."""

from __future__ import annotations

import json

import jsonschema
import pytest

from kleiber.models import FAMILIES
from kleiber.runs import Recipe


def is_valid(raw, schema) -> bool:
    return jsonschema.Draft202012Validator(schema).is_valid(raw)


@pytest.fixture
def schema(cli):
    return json.loads(cli("schema", "recipe").stdout)


def test_a_default_recipe_and_every_dial_are_valid(schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    assert is_valid({}, schema)
    raw = Recipe.model_validate({"model": {"family": "gpt", "depth": 3}}).model_dump(mode="json")
    assert is_valid(raw, schema)
    assert is_valid({"model": {"family": "gpt", "params": "124M", "is_tied": False}}, schema)


@pytest.mark.parametrize(
    "raw",
    [
        {"trian": {}},
        {"train": {"num_step": 3}},
        {"train": {"num_steps": 0}},
        {"model": {"family": "gpt", "dept": 3}},
        {"model": {"family": "gtp"}},
        {"model": {"vocab_size": 300}},
        {"task": {"name": "chess"}},
    ],
)
def test_what_the_recipe_refuses_the_schema_refuses(schema, raw):
    assert not is_valid(raw, schema)


def test_keys_are_described_for_the_editor(schema):
    assert "Optimizer steps" in schema["$defs"]["TrainRecipe"]["properties"]["num_steps"]["description"]
    families = schema["$defs"]["ModelRecipe"]["anyOf"]
    assert [one["properties"]["family"]["const"] for one in families] == list(FAMILIES)
    assert "description" in families[0]["properties"]["params"]


def test_the_ladder_has_one_too(cli):
    schema = cli("schema", "ladder", "--json").document
    assert schema["title"] == "Kleiber ladder"
    design = {
        "sizes": [{"family": "gpt", "depth": 1}],
        "horizons": [100],
        "target": {"model": {"family": "gpt", "depth": 2}, "num_steps": 5},
    }
    assert is_valid(design, schema)
    assert not is_valid(design | {"horizon": [1]}, schema)
    assert not is_valid(design | {"seeds": [-1]}, schema)
    for key in ("sizes", "target", "base"):
        misspelt = {"family": "gpt", "dept": 1}
        changed = {
            "sizes": [misspelt],
            "target": {"model": misspelt, "num_steps": 5},
            "base": {"model": misspelt},
        }
        assert not is_valid(design | {key: changed[key]}, schema), key


def test_json_is_one_line_of_the_same(cli, schema):
    ran = cli("schema", "--json")
    assert ran.stdout.count("\n") == 1
    assert ran.document == schema


def test_an_unknown_document(cli):
    ran = cli("schema", "law")
    assert ran.code == 2
    assert ran.stderr.startswith("error: Invalid value for '")
    assert "'law' is not one of 'recipe', 'ladder'." in ran.stderr
