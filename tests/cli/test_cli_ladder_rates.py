"""`kleiber ladder tune` and `kleiber ladder check`: from a design to one whose rates carry over."""

from __future__ import annotations

import pytest

from kleiber.models.gpt import GPTSpec


@pytest.fixture
def ladder(small_text, tmp_path):
    """A design whose trials take a blink."""
    (tmp_path / "small.yaml").write_text(
        f"""
base:
  data: {{source: "text:{small_text}", vocab_size: 300, context: 32, val_frac: 0.2, val_tokens: 512}}
  train:
    batch_size: 2
    optimizer: {{name: adamw, lr: 0.02, matrix_lr: 0.01}}
    schedule: {{warmup_steps: 2, cooldown_frac: 0.25}}
sizes:
  - {{family: gpt, depth: 1, width: 16}}
  - {{family: gpt, depth: 1, width: 32}}
horizons: [8, 12]
target: {{model: {{family: gpt, depth: 1, width: 48}}, num_steps: 16}}
"""
    )
    return "small.yaml"


def test_tuned_rates_and_their_rule_go_into_a_design_that_can_be_checked(cli, ladder):
    result = cli("ladder", "tune", ladder, "-o", "tuned", "--max-trials", 6, "--json")
    assert result.code == 0
    found = result.document
    assert (found["design"], found["rule"], found["token_exponent"]) == (
        "tuned/ladder.yaml",
        "completep",
        0.32,
    )
    assert 5 <= len(found["trials"]) <= 6
    best = min(one["loss"] for one in found["trials"])
    assert found["best"][0]["loss"] == pytest.approx(best)
    assert found["best"][0]["num_tokens"] == 8 * 2 * 32
    spec = GPTSpec.from_dial({"depth": 1, "width": 16}, vocab_size=300, context=32)
    assert found["num_params"] == spec.count().total

    again = cli("ladder", "tune", ladder, "-o", "tuned", "--max-trials", 6)
    assert again.code == 0
    assert "kleiber ladder check tuned/ladder.yaml" in again.stdout
    assert f"lr {found['best'][0]['lr']:.3g}" in again.stdout

    checked = cli(
        "ladder",
        "check",
        "tuned/ladder.yaml",
        "--widths",
        "16,32,64",
        "--depths",
        "1,2",
        "--steps",
        2,
        "--json",
    )
    assert checked.code == 0
    document = checked.document
    assert (document["rule"], document["num_steps"]) == ("completep", 2)
    assert {(row["axis"], row["what"]) for row in document["rows"]} == {
        (axis, what)
        for axis in ("width", "depth")
        for what in ("embeddings", "half of the blocks", "all blocks", "logits")
    }
    assert [len(row["moved"]) for row in document["rows"]] == [3] * 4 + [2] * 4


def test_a_check_prints_where_activations_move_unevenly(cli, ladder):
    result = cli("ladder", "check", ladder, "--widths", "16,32,64", "--depths", "1,2")
    assert result.code == 0
    assert "moved by width" in result.stdout
    assert "with standard some have moved more at one size than at another" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tune", "--max-trials", "5"), "takes 6 trials or more"),
        (("tune", "--max-trials", "0"), "--max-trials must be a whole number from 1 to 1000"),
        (("tune", "--rule", "mup"), "--rule must be one of completep, mup_simple, standard"),
        (("tune", "--steps", "12,8"), "--steps takes numbers that rise"),
        (("tune", "--steps", "two"), "--steps must be a whole number"),
        (("tune", "--steps", "2"), "longer than the warm-up of 2 steps"),
        (("tune", "--seeds", "0"), "--seeds must be a whole number from 1 to 100"),
        (("tune", "--model", "gtp:depth=2"), "unknown family 'gtp'"),
        (("tune", "--model", "mlp:depth=2,width=8"), "mlp"),
        (("check", "--widths", "64,32"), "--widths takes numbers that rise"),
        (("check", "--depths", "2"), "nothing follows from one depth alone"),
        (("check", "--widths", "16,17"), "17"),
        (("check", "--set", "base.train.parametrization.name=completep"), "completep needs base_width"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(cli, ladder, arguments, message):
    command, *options = arguments
    result = cli("ladder", command, ladder, *options)
    assert result.code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
