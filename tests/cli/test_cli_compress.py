"""`kleiber compress` from end to end, and what takes the folder that comes out."""

from __future__ import annotations

import contextlib
import io
import json
import shutil

import pytest
import yaml
from compressing import RECIPE, QuickMeasuring

from kleiber.cli.main import main
from kleiber.compress import attempt, speed
from kleiber.models import load
from kleiber.models.stored import Quantized, read_forms, stored_bytes
from kleiber.runs import RunFolder
from kleiber.runs.receipt import Receipt

STEPS = ("prune:ratio=0.3", "quantize:bits=8,inputs=static")
BOUND = ("--max-bytes", "50%")


@pytest.fixture(autouse=True)
def _is_quick(monkeypatch):
    monkeypatch.setattr(speed, "Measuring", QuickMeasuring)


@pytest.fixture(scope="module")
def original(train_once, small_text):
    """A run of a few steps."""
    return train_once(*RECIPE, f"data.source=text:{small_text}")


@pytest.fixture(scope="module")
def compressed(original, cache):
    """Return the folder of a compression, and what was printed."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setenv("KLEIBER_CACHE", str(cache))
        patch.setenv("COLUMNS", "200")
        patch.setenv("TERM", "dumb")
        patch.setattr(speed, "Measuring", QuickMeasuring)
        assert main(["compress", str(original), *STEPS, *BOUND]) == 0
    return original.with_name("original-small"), said.getvalue()


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_receipt_is_printed(compressed):
    folder, said = compressed
    receipt = Receipt.read(folder / "receipt.json")
    rows = {line.split("  ")[0].strip(): line.split() for line in said.splitlines()}
    assert "prune:ratio=0.3 -> quantize:bits=8,inputs=static" in rows
    assert rows["bytes on disk"][-1] == f"{receipt.stored_ratio:.3f}"
    assert rows["perplexity (torch)"][-4] == f"{receipt.main_quality.ratio.value:.3f}"
    assert rows["torch, a token"][-4] == f"{receipt.engines[0].latency.value:.3f}"
    assert rows["max_bytes"][1] == "50%"
    assert rows["max_bytes"][-1] == "met"
    assert "- torch computes in fp32." in said
    assert said.endswith(f"\n{folder}/model holds the model; {folder}/receipt.json the receipt.\n")


def test_the_same_command_gives_the_same_receipt_at_once(cli, original, compressed, monkeypatch):
    folder, _ = compressed
    monkeypatch.setattr(attempt, "open_source", None)  # nothing is opened
    before = files_of(folder)
    ran = cli("compress", original, *STEPS, *BOUND, "--json")
    assert ran.code == 0
    assert ran.stdout.count("\n") == 1
    receipt = Receipt.read(folder / "receipt.json")
    assert ran.document == json.loads(receipt.to_json()) | {"folder": str(folder)}
    assert ran.document["is_met"] is True
    assert files_of(folder) == before


def test_another_command_is_refused_and_fresh_begins_again(cli, original, compressed, tmp_path):
    shutil.copytree(compressed[0], tmp_path / "out")
    before = files_of(tmp_path / "out")
    other = ("compress", original, "quantize:bits=4", "-o", "out")
    ran = cli(*other)
    assert ran.code == 2
    assert "out holds a compression of another model, with other steps or under another gate." in ran.stderr
    assert files_of(tmp_path / "out") == before
    assert cli(*other, "--fresh").code == 0
    assert [one.step for one in Receipt.read(tmp_path / "out/receipt.json").steps] == ["quantize:bits=4"]


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ((), "a search needs a bound to meet."),
        (("qantize:bits=8",), "unknown step 'qantize'. Did you mean 'quantize'?"),
        (("quantize:bits=8", "prune:ratio=0.5"), "'prune:ratio=0.5' cannot follow 'quantize:bits=8': scales"),
        (("quantize:bits=8", "--max-bytes", "big"), "max_bytes: is written 25%"),
        (("quantize:bits=8", "--tries", "3"), "--tries and --budget are of a search, and steps were given"),
    ],
)
def test_fresh_forgets_nothing_for_what_is_refused(cli, original, compressed, typed, sentence):
    before = files_of(compressed[0])
    ran = cli("compress", original, *typed, "-o", compressed[0], "--fresh")
    assert (ran.code, sentence in ran.stderr) == (2, True), ran.stderr
    assert files_of(compressed[0]) == before


def test_a_gate_refuses_and_writes_no_model(cli, original, tmp_path):
    ran = cli("compress", original, "prune:ratio=0.9", "--max-quality-loss", "1%", "-o", "out")
    assert ran.code == 1
    assert ran.stdout.rstrip().endswith("measuring quality ...")
    assert ran.stderr.startswith(
        "error: the gate refuses the result (prune:ratio=0.9): max_quality_loss 1% was asked, and "
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".lock", "tries"}
    wider = cli("compress", original, "prune:ratio=0.9", "-o", "out")
    assert wider.code == 0
    assert "\nprune:ratio=0.9 ..." not in wider.stdout  # the step stands in tries


def test_a_search_that_nothing_meets_names_the_closest(cli, original, tmp_path):
    ran = cli("compress", original, "--max-bytes", "1%", "--tries", "2", "--budget", "0.02", "-o", "out")
    assert ran.code == 1
    assert "the gate refuses each of " in ran.stderr
    assert "; the closest (" in ran.stderr
    assert "): max_bytes 1% was asked, and " in ran.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".lock", "tries"}


_STEP = "quantize:bits=8"


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ((_STEP, "--max-quality-loss", "1"), "max_quality_loss: is written 1%   or, of accuracy, 1pt; got '1'."),
        ((_STEP, "--max-quality-loss", "-1%"), "got '-1%'.\n  try: --max-quality-loss 1%"),
        ((_STEP, "--max-quality-loss", "1pt"), "in points is of accuracy and its like, and a model of lm"),
        ((_STEP, "--max-bytes", "0%"), "max_bytes: is written 25%   of the original's, or 10MB; got '0%'."),
        ((_STEP, "--max-latency-ms", "fast"), "max_latency_ms: is written 20   or 80%   of the original's"),
        ((_STEP, "--min-speedup", "2x"), "--min-speedup must be a positive number. Got '2x'."),
        ((_STEP, "--engine", "tensor"), "'tensor' is not one of 'auto', 'torch', 'onnxruntime', 'openvino'."),
        ((_STEP, "--calibration", "0"), "--calibration must be a whole number from 1 to 2147483647. Got '0'."),
        ((_STEP, "--seed", "-1"), "--seed must be a whole number from 0 to 2147483647. Got '-1'."),
        ((_STEP, "--max-size", "3"), "No such option: --max-size (Possible options: --max-bytes)."),
        ((_STEP, "--recipe", "no.yaml"), "no.yaml cannot be read as a recipe: No such file or directory."),
        (("--max-bytes", "50%", "--budget", "50"), "search: budget_frac: input should be less than or equal to 10. Got 50.0.\n  try: --tries 16   --budget 0.1"),
        (("--max-bytes", "50%", "--tries", "0"), "--tries must be a whole number from 1"),
        (("quantise",), "unknown step 'quantise'. Did you mean 'quantize'?"),
        (("quantize:bit=8",), "quantize: unknown key 'bit'. Did you mean 'bits'?\n  try: quantize:bits=8   or"),
        (("quantize:bits=99",), "quantize: bits: input should be less than or equal to 8. Got 99."),
        (("quantize:method=gptqq",), "quantize: method: input should be 'rtn', 'gptq', 'awq' or 'hqq'. Got 'gptqq'."),
        (("quantize:bits",), "A step is written NAME:KEY=VALUE,KEY=VALUE with each key once; 'bits' is not KEY=VALUE."),
        (("quantize:layers=blocks.0.qvk",), "no layer's name matches 'blocks.0.qvk'. Did you mean 'blocks.0.qkv'?"),
        (("quantize:keep=*",), "no layer is left to treat."),
        (("quantize:max_bytes=10",), "max_bytes cannot be met: "),
        (("shrink",), "one of params, macs, heads, mlp_width, width, channels, depth is needed"),
        (("shrink:params=0.0001",), "narrower layers alone do not meet params=0.0001: the narrowest leave"),
        (("prune:ratio=50%",), "prune: ratio: input should be a valid number"),
        (("prune:pattern=4:2",), "prune: pattern must be N:M with 0 < N < M <= 32, such as 2:4, got 4:2."),
        (("recover:steps=2,frac=0.1",), "recover: takes one of frac, tokens and steps"),
        (("recover:steps=2,teacher=nobody",), "nobody is neither a run nor a folder with a config.json."),
    ],
)  # fmt: skip
def test_what_is_typed_wrongly_is_said_and_nothing_stays(cli, original, tmp_path, typed, sentence):
    ran = cli("compress", original, *typed, "-o", "out")
    assert ran.code == 2
    assert sentence in ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (("quantize:bits=8", "recover", "quantize:bits=4"), "codes of codes would lose twice"),
        (("quantize:bits=8", "shrink:depth=1"), "chosen for the inputs of all units"),
        (("quantize:bits=8", "factorize:ratio=0.5"), "codes were chosen for the whole weight"),
        (("factorize:ratio=0.5", "shrink:depth=1"), "no unit has rows or columns of its own"),
        (("factorize:ratio=0.5", "prune:ratio=0.5"), "has no zeros to leave out"),
        (("factorize:ratio=0.5", "factorize:ratio=0.4"), "a layer is in two factors once"),
        (("prune:ratio=0.5", "factorize:ratio=0.5"), "a product of two factors has no zeros"),
    ],
)
def test_an_order_that_makes_no_sense_is_told_before_anything_is_done(cli, original, tmp_path, steps, reason):
    ran = cli("compress", original, *steps, "-o", "out")
    assert ran.code == 2
    assert f"'{steps[-1]}' cannot follow '{steps[0]}': " in ran.stderr
    assert f"{reason}.\n" in ran.stderr
    assert ran.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_the_same_two_steps_on_different_layers_are_taken(cli, original):
    steps = ("quantize:bits=8,layers=blocks.0.qkv", "prune:ratio=0.5,layers=blocks.0.mlp_down")
    assert cli("compress", original, *steps, "-o", "out").code == 0
    ran = cli("compress", original, steps[0], "prune:ratio=0.5,layers=blocks.0.*", "-o", "other")
    assert ran.code == 2
    assert "prune cannot follow quantize: the scales of blocks.0.qkv" in ran.stderr


def test_generate_and_report_take_the_folder(cli, compressed, tmp_path):
    folder, _ = compressed
    ran = cli("generate", folder, "--prompt", "def ", "--max-tokens", "4", "--engine", "torch", "--json")
    assert ran.code == 0
    assert ran.document["num_tokens"] == 4
    assert cli("report", folder, "-o", "page.html").code == 0
    assert "prune:ratio=0.3" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        ("quantize:bits=4", "quantize takes a model whose weights are not quantized yet"),
        ("prune:ratio=0.5", "prune cannot follow quantize: the scales of blocks.0.qkv are fitted"),
        ("shrink:params=0.5", "shrink comes before quantize and factorize"),
        ("factorize:ratio=0.5", "factorize comes first: blocks.0.qkv is quantized"),
    ],
)
def test_a_quantized_model_is_not_made_smaller_again(cli, compressed, tmp_path, step, sentence):
    ran = cli("compress", compressed[0], step, "-o", "out")
    assert ran.code == 2
    assert sentence in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_search_says_once_why_nothing_can_be_tried(cli, compressed):
    ran = cli("compress", compressed[0], "--max-bytes", "50%", "--tries", "3", "-o", "out")
    assert ran.code == 1
    assert ran.stderr.startswith("error: nothing could be tried (2 others are refused as well): ")
    assert ran.stderr.count("shrink comes before") + ran.stderr.count("quantize takes") == 1
    assert ".." not in ran.stderr


def test_a_quantized_model_is_recovered_with_all_that_it_keeps(cli, compressed, tmp_path):
    folder, _ = compressed
    assert cli("compress", folder, "recover:steps=2", "-o", "out").code == 0
    blocks = [json.loads((one / "model/config.json").read_text())["quantization_config"] for one in (folder, tmp_path / "out")]  # fmt: skip
    assert blocks[0]["kleiber"]["activations"]["input_ranges"]
    assert blocks[1]["kleiber"] == blocks[0]["kleiber"]
    links = RunFolder(tmp_path / "out").read_record().lineage
    assert [link.run for link in links] == ["original", "original-small"]


def test_train_goes_on_from_it(cli, original, compressed, tmp_path):
    folder, _ = compressed
    recipe = yaml.safe_load((original / "recipe.yaml").read_text())
    del recipe["model"]
    recipe["train"]["num_steps"], recipe["train"]["val_every"] = 2, 2
    recipe["train"]["schedule"]["warmup_steps"] = 1
    recipe["recover"] = {"model": str(folder), "teacher": str(original)}
    (tmp_path / "on.yaml").write_text(yaml.safe_dump(recipe))
    ran = cli("train", "on.yaml", "-o", "on")
    assert ran.code == 0, ran.stderr
    module, _ = load(tmp_path / "on/model")
    forms = read_forms(tmp_path / "on/model", module)
    assert {form.num_bits for form in forms.values() if isinstance(form, Quantized)} == {8}
    assert stored_bytes(tmp_path / "on/model") < 0.5 * stored_bytes(original / "model")


def test_a_folder_is_named_after_its_source(cli, original, tmp_path, monkeypatch):
    shutil.copytree(original, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    ran = cli("compress", ".", "quantize:bits=8")
    assert ran.code == 0
    assert f"{tmp_path}/here-small/model holds the model" in ran.stdout
