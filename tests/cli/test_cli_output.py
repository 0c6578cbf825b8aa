"""People read one stream, programs the last line of the other."""

from __future__ import annotations

import json

import pytest

from kleiber.cli.output import Output, finite


def test_for_people_everything_goes_to_stdout(capsys):
    out = Output(is_json=False)
    out.say("a [bold]line[/bold]")
    out.document({"a": 1})
    captured = capsys.readouterr()
    assert captured.out == "a [bold]line[/bold]\n"
    assert captured.err == ""


def test_for_programs_stdout_is_one_json_line(capsys):
    out = Output(is_json=True)
    out.say("for people")
    out.table(["x", "y"], [["[1]", "2"]])
    out.document({"a": float("inf"), "é": [1.5, (float("nan"),)]})
    captured = capsys.readouterr()
    assert captured.out == '{"a": null, "é": [1.5, [null]]}\n'
    assert "for people" in captured.err
    assert "[1]" in captured.err


def test_emoji_codes_stay_as_they_were_written(capsys):
    Output(is_json=False).say("d[1:end:2], :smile: :warning:")
    assert capsys.readouterr().out == "d[1:end:2], :smile: :warning:\n"


def test_a_models_text_cannot_steer_the_terminal(capsys):
    Output(is_json=False).write("a\x1b[2J\tb\n\x07é\r")
    assert capsys.readouterr().out == "a[2J\tb\né"


def test_long_lines_are_not_broken(capsys):
    Output(is_json=False).say("x" * 500)
    assert capsys.readouterr().out == "x" * 500 + "\n"


def test_notices_go_to_stderr(capsys):
    Output(is_json=False).notice("a checkpoint was passed over.")
    assert capsys.readouterr().err == "note: a checkpoint was passed over.\n"


def test_progress_is_silent_away_from_a_terminal(capsys):
    with Output(is_json=False).progress() as bar:
        bar.update(bar.add_task("run", total=2, note="loss 3"), completed=1)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("value", [None, True, 3, "x", [1, 2.5], {"a": {"b": []}}])
def test_finite_leaves_json_as_it_is(value):
    assert json.loads(json.dumps(finite(value))) == value
