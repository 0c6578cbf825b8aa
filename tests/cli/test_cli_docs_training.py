"""docs/training.md: its recipes and commands run on small data of the same kind; README's lines too."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits
from training_page import BLOCKS, PAGE, ROOT, quoted, tables
from typed_blocks import skeleton, steps_of

SMALL = (
    "train.num_steps=2", "train.stop={}", "train.batch_size=4", "train.schedule.warmup_steps=1", "train.log_every=1",
    "parallel.num_threads=1",
)  # fmt: skip
"""What makes a recipe of the page small."""


@pytest.fixture
def typed_data(cli, tmp_path, small_text, monkeypatch):
    """Put small data where the page's recipes expect theirs."""
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path / "cache"))
    shutil.copy(small_text / "ast.py", tmp_path / "book.txt")
    digits = load_digits(n_class=3)
    for number in range(60):
        for folder, side in (("photos", 8), ("sketches", 20)):
            path = tmp_path / folder / str(digits.target[number]) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray((digits.images[number] * 15).astype(np.uint8))
            image.resize((side, side)).save(path)
    times = np.arange(2000) / 8000
    for split, pitch, number in product(("train", "test"), (300, 900), range(8)):
        path = tmp_path / "sounds" / split / str(pitch) / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.5 * np.sin(2 * np.pi * (pitch + number) * times), 8000)
    cells = load_breast_cancer()
    rows = [
        [*cells.data[i, :4], ("north", "south")[i % 2], ("<=50K", ">50K")[cells.target[i]]]
        for i in range(120)
    ]
    write_table(tmp_path / "census.csv", ["a", "b", "c", "d", "region", "income"], rows)
    words = (small_text / "csv.py").read_text().replace("\t", " ").splitlines()
    lines = [line.strip() for line in words if len(line) > 30]
    parts = ["train"] * 4 + ["test"]
    write_table(
        tmp_path / "messages.tsv",
        ["split", "label", "text"],
        [[parts[i % 5], i % 2, line.replace('"', "")] for i, line in enumerate(lines)],
    )
    write_table(
        tmp_path / "translations.tsv",
        ["en", "de"],
        [[line.replace('"', ""), line.replace('"', "").upper()] for line in lines],
    )


def write_table(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([header, *rows])


def small(line: str) -> list[str]:
    """Return the words of a command, and what makes its run small."""
    words = shlex.split(line)[1:]
    if words[0] != "train":
        return words
    is_text = any(name in line for name in ("messages", "translations", "book"))
    also = ["data.vocab_size=300"] if is_text else []
    also += ["data.max_samples=16"] if "max_samples" in line else []
    return [*words, *(word for value in (*SMALL, *also) for word in ("--set", value))]


@pytest.fixture
def ran(cli, tmp_path, typed_data):
    """Return a function that does what the blocks of the page whose recipes are named say."""

    def run(*recipes: str) -> dict[str, str]:
        said = {}
        for block in BLOCKS:
            steps = steps_of(block)
            if not any(name in step.line for step in steps for name in recipes):
                continue
            for step in steps:
                if step.line.startswith("cat "):
                    (tmp_path / step.line.split()[1]).write_text("\n".join(step.below), encoding="utf-8")
                    continue
                outcome = cli(*small(step.line))
                assert outcome.code == 0, (step.line, outcome.stderr)
                printed = {skeleton(line) for line in outcome.stdout.splitlines()}
                for line in step.below:
                    assert skeleton(line) in printed, (line, outcome.stdout)
                said[step.line] = outcome.stdout
        return said

    return run


@pytest.mark.parametrize(
    ("recipe", "task"),
    [
        ("book.yaml", "lm"),
        ("sounds.yaml", "classification"),
        ("census.yaml", "classification"),
        ("messages.yaml", "classification"),
        ("translations.yaml", "seq2seq"),
        ("sunspots.yaml", "regression"),
    ],
)
def test_a_start_runs_and_prints_what_the_page_says(ran, recipe, task):
    said = "".join(ran(recipe).values())
    (row,) = (row for row in tables()["Tasks"] if quoted(row[0]) == [task])
    (measured,) = re.findall(r"^validation: (.*)$", said, flags=re.MULTILINE)
    assert re.findall(r"(?:^|, )([a-z][\w ]*?) -?\d", measured) == row[2].split(", ")
    methods = row[3].split(", ")[: 1 if recipe == "messages.yaml" else None]  # no trees on texts
    is_asked = f"kleiber train {recipe} --baseline" in PAGE
    assert re.findall(r"^(.*), (?:validation|test): ", said, flags=re.MULTILINE) == (
        methods if is_asked else []
    )


def test_pictures_and_what_goes_on_from_them(ran):
    said = ran("photos.yaml", "sketches.yaml")
    assert len(said) == 8
    assert "less.html: open it in a browser.\n" in said.values()


def test_captions_are_measured_as_the_page_says(cli, typed_data, tmp_path):
    recipe = {
        "model": {"family": "dual", "depth": 1, "width": 16},
        "task": {"name": "contrastive"},
        "data": {"source": "imagefolder:photos"},
    }
    (tmp_path / "captions.yaml").write_text(yaml.safe_dump(recipe))
    (row,) = (row for row in tables()["Tasks"] if quoted(row[0]) == ["contrastive"])
    document = cli(*small("kleiber train captions.yaml"), "--baseline", "--json").document
    assert [name.replace("_", " ") for name in document["val_metrics"]] == row[2].split(", ")
    assert [result["method"] for result in document["baseline"]["results"]] == row[3].split(", ")


def test_the_readmes_training_lines_run(cli, tmp_path):
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## What it trains")[1]
    lines = [line.split(" #")[0].strip() for line in text.split("```")[1].strip().splitlines()]
    assert len(lines) >= 2
    for line in lines:
        outcome = cli(*small(line))
        assert outcome.code == 0, (line, outcome.stderr)
