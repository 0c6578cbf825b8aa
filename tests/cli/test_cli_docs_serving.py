"""docs/serving.md: its tables are the code's, and its commands are commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from kleiber.cli.main import COMMANDS
from kleiber.serve import ServeSettings, create_app
from kleiber.serve.asked.chat import ChatBody
from kleiber.serve.asked.completion import CompletionBody
from kleiber.serve.asked.sampling import StreamOptions

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "serving.md").read_text(encoding="utf-8")


def first_cells(header):
    """Return the first column of the table whose header begins so."""
    table = PAGE.partition(f"| {header}")[2].partition("\n\n")[0]
    return re.findall(r"^\| `?([^`|]+?)`? \|", table, re.MULTILINE)[1:]


def test_routes_are_those_that_there_are():
    paths = create_app({}, ServeSettings()).openapi()["paths"]
    assert set(first_cells("route | is")) == {*paths, "/"} - {"/v1/models/{name}"}


def test_fields_beyond_openais_are_those_that_say_so():
    fields = CompletionBody.model_json_schema()["properties"]
    beyond = [
        name for name, field in fields.items() if field.get("description", "").startswith("Beyond OpenAI's")
    ]
    assert first_cells("field | beyond OpenAI's API") == beyond
    assert "continuous_usage_stats" in StreamOptions.model_fields


def test_every_field_that_is_refused_is_named():
    section = PAGE.partition("| field | is refused")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", section))
    refused = {*CompletionBody.unsupported, *ChatBody.unsupported}
    assert refused <= named
    assert named - refused <= {"repetition_penalty"}


def test_lines_are_commands_with_options_that_there_are():
    lines = re.findall(r"^kleiber (.*)$", PAGE, re.MULTILINE)
    assert len(lines) > 3
    reference = (DOCS / "commands.md").read_text(encoding="utf-8")
    section = reference.partition("### kleiber serve\n")[2].partition("\n### ")[0]
    options = set(re.findall(r"`(--[a-z-]+)`", section))
    for line in lines:
        name, *words = shlex.split(line)
        assert name in COMMANDS
        assert {word for word in words if word.startswith("--")} <= options
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= options
