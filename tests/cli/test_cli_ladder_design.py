"""`kleiber ladder design`, and what ladder status and fit say of rungs that diverged."""

from pathlib import Path

import pytest
import yaml

from kleiber.scaling import Law
from kleiber.study.design import read_design, rungs_of

ASKED = [
    "ladder", "design", "gpt", "--target", "gpt:depth=3,width=160,head_dim=16@12e6", "--set", "base.train.batch_size=8",
    "--set", "base.data.context=256",
]  # fmt: skip


def test_a_design_is_written_and_says_what_each_rung_buys(cli):
    result = cli(*ASKED, "--budget-flops", "4e13", "--json")
    assert result.code == 0
    document = result.document
    assert document["ladder"] == "ladder.yaml"
    said = document["design"]
    assert (said["unit"], said["budget"], said["factor"]) == ("flops", 4e13, 10.0)
    assert said["half_width_frac"] < said["even"]["half_width_frac"]
    assert {"name", "num_params", "num_tokens", "cost", "half_width_without_frac"} <= set(said["rungs"][0])
    design = read_design(Path("ladder.yaml"))
    assert {rung.trunk.rpartition("-")[0] for rung in rungs_of(design)} == {
        one["name"] for one in said["rungs"]
    }

    text = cli(*ASKED, "--budget-flops", "4e13", "-o", "other.yaml").stdout
    assert "without it" in text
    assert "Nothing is known of these runs yet: the design rests on exponents as published" in text
    assert f"an 80% interval of ±{said['half_width_frac']:.2%}" in text
    assert "The best even grid within that (4 sizes, 3 horizons, 2 seeds)" in text
    assert "  kleiber ladder run other.yaml --adaptive -o runs/other\n" in text
    # What it wrote it takes: the target is its own.
    again = cli(
        "ladder", "design", "other.yaml", "--budget-flops", "8e13", "-o", "third.yaml", "--json"
    ).document
    assert again["design"]["half_width_frac"] < said["half_width_frac"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "A design takes one budget: --budget-flops, --budget-s or --budget-usd. Got 'none'"),
        (["--budget-flops", "1e14", "--budget-s", "60"], "Got '--budget-flops and --budget-s'"),
        (["--budget-usd", "2"], "--budget-usd needs the price of this machine.\n  try: --budget-usd 2 --usd-per-hour 0.10"),
        (["--budget-flops", "1e14", "--usd-per-hour", "1"], "--usd-per-hour has no effect without --budget-usd"),
        (["--budget-flops", "-3"], "--budget-flops must be a positive number. Got '-3'"),
        (["--budget-flops", "1e9"], "The budget holds no ladder of four sizes"),
        (["--budget-flops", "4e13", "--factor", "much"], "--factor must be a positive number. Got 'much'"),
        (["--budget-flops", "4e13", "--law", "none.json"], "none.json cannot be read as a law"),
    ],
)  # fmt: skip
def test_what_cannot_be_designed_is_said_in_a_sentence(cli, options, message):
    result = cli(*ASKED, *options)
    assert result.code == 2
    assert message in result.stderr


def test_what_diverged_is_shown_and_stands_in_the_law(cli, make_record, tmp_path):
    folder = tmp_path / "study"
    design = {
        "sizes": [
            {"family": "gpt", "depth": 2, "width": width, "head_dim": 16} for width in (16, 32, 48, 64)
        ],
        "seeds": [1],
        "horizons": [100, 200],
        "target": {"model": {"family": "gpt", "depth": 2, "width": 128}, "num_steps": 400},
    }
    folder.mkdir()
    path = folder / "ladder.yaml"
    path.write_text(yaml.safe_dump(design))
    for rung in rungs_of(read_design(path)):
        size = rung.spec.count()
        for name, recipe in rung.branches:
            loss = 2 + 30 * size.total**-0.3 + 50 * recipe.num_tokens**-0.4
            record = make_record(
                name,
                recipe=recipe,
                num_params=size,
                result={"val_loss": loss, "num_tokens": recipe.num_tokens},
            )
            record.write(folder / "ladder" / name / "record.json")
    lost = make_record(
        "d2-w16-s1",
        status="failed",
        result=None,
        error="d2-w16-s1: the loss is not finite.",
        is_diverged=True,
    )
    lost.write(folder / "ladder" / "d2-w16-s1" / "record.json")

    shown = cli("ladder", "status", folder)
    reason = "d2-w16-s1: the loss is not finite; trained again at half the rates as d2-w16-s1-slower."
    assert f"diverged: {reason}" in shown.stdout
    runs = {one["run"]: one for one in cli("ladder", "status", folder, "--json").document["runs"]}
    assert (runs["d2-w16-s1"]["status"], runs["d2-w16-s1"]["reason"]) == ("diverged", reason)
    assert runs["d2-w16-s1-slower"]["status"] == "waiting"

    fitted = cli("fit", folder / "ladder", "-o", "law.json", "--bootstrap", "100")
    assert fitted.code == 0
    assert "Left out: d2-w16-s1: the loss is not finite." in fitted.stdout
    (one,) = Law.read(tmp_path / "law.json").excluded
    assert one.run == "d2-w16-s1"
