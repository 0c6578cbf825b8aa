"""`kleiber plan`: any model, any use, any device, through the command line."""

from __future__ import annotations

import importlib.util
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from kleiber.runs.ledger import read_ledger
from kleiber.study import measured_plan
from kleiber.study.cost_document import CostPlan

EXAMPLES = Path(__file__).parents[2] / "examples"

NETS = """
import torch
from torch import nn

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
    def forward(self, x):
        return self.fc(x)

class Sized(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.fc = nn.Linear(4, num_classes)
    def forward(self, x):
        return self.fc(x)

class Convolved(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
    def forward(self, x):
        return self.conv(x).mean((2, 3))

class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(3, 3)
    def forward(self, x):
        x = self.first(x)
        if x.sum() > 0:
            x = self.second(x)
        return x

class NotAModule:
    pass
"""

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 128,
}
LLAMA_70B = LLAMA | {
    "hidden_size": 8192,
    "intermediate_size": 28_672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}


@pytest.fixture(autouse=True)
def _no_calibration(monkeypatch, tmp_path):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def here(tmp_path):
    """Fill the folder in which commands run."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "broken.py").write_text("x = (")
    (tmp_path / "empty").mkdir()
    (tmp_path / "llama.json").write_text(json.dumps(LLAMA))
    (tmp_path / "unknown.json").write_text('{"model_type": "lama"}')
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "text.jsonl").write_text("hello\n")
    return tmp_path


def plan_of(cli, *arguments) -> dict:
    """Return the document of a plan, which is one of `CostPlan`."""
    ran = cli("plan", *arguments, "--json")
    assert ran.code == 0, ran.stderr
    assert ran.stdout.count("\n") == 1
    assert CostPlan.model_validate(ran.document).model_dump(mode="json") == ran.document
    return ran.document


# What comes out.


def test_json_keys(cli):
    document = plan_of(cli, "gpt:depth=2,width=64", "--tokens", "512000")
    assert {"num_params", "train_flops", "memory_bytes", "step_time_s", "total_time_s"} <= set(document)
    assert {"total", "embedding", "body", "head"} <= set(document["num_params"])
    assert set(document["memory_bytes"]) == {"weights", "gradients", "optimizer", "activations", "peak"}
    assert document["num_params"]["embedding"] == 1024 * 64
    groups = document["num_params"]
    assert groups["total"] == groups["embedding"] + groups["body"] + groups["head"]
    assert document["num_tokens"] == 512_000
    assert document["usd"] is None


def test_people_see_the_figures_on_stdout(cli):
    ran = cli("plan", "gpt:depth=12", "--device", "h100-sxm")
    assert ran.code == 0
    assert ran.stderr == ""
    for word in (
        "parameters",
        "FLOPs of a step",
        "memory at peak",
        "time of the job",
        "money",
        "h100-sxm",
    ):
        assert word in ran.stdout


@pytest.mark.parametrize(
    "line",
    [
        "gpt:depth=12",
        "gpt:depth=12 --device h100-sxm --num-devices 8 --batch 64 --tokens 2.6e9",
        "gpt --budget-usd 100 --device a100-80gb",
        "gpt:depth=12 --mode infer --device h100-sxm",
    ],
)
def test_tables_do_not_fold_at_80_columns(cli, monkeypatch, line):
    monkeypatch.setenv("COLUMNS", "80")
    ran = cli("plan", *line.split())
    # A folded row goes on under an empty first column; a heading may have one too.
    headings = ("total", "bound by", "loss")
    tables = [text for text in ran.stdout.splitlines() if text.startswith("      ") and text.strip()]
    assert [text for text in tables if not any(word in text for word in headings)] == []


def test_what_is_not_is_not_printed(cli):
    served = cli("plan", "gpt:depth=2", "--mode", "infer", "--device", "h100-sxm").stdout.partition("\n- ")[0]
    assert not any(
        word in served for word in ("backward", "gradients", "optimizer", "checkpoint ", " 0 FLOP", " 0 B")
    )
    assert "KV cache" in served
    trained = cli("plan", "gpt:depth=2").stdout
    assert "KV cache" not in trained
    assert "communication" not in trained


def test_what_a_budget_says_twice_is_printed_once(cli):
    said = cli("plan", "gpt", "--budget-usd", "100", "--device", "a100-80gb").stdout.splitlines()
    assert sum(line.startswith("- Money") for line in said) == 1
    assert sum(line.startswith("- FLOPs") for line in said) == 1
    assert "- Money is 1.80 USD an hour for one a100-80gb: list price of 2025-06, check yours." in said


def test_a_recipe_is_planned_as_it_is_written(cli, tmp_path):
    (tmp_path / "r.yaml").write_text("model: {family: gpt, depth: 2, width: 32}\ntrain: {num_steps: 7}\n")
    document = plan_of(cli, "r.yaml", "--set", "train.batch_size=2")
    assert document["num_tokens"] == 7 * 2 * 128
    assert document["spec"]["width"] == 32
    (tmp_path / "r.json").write_text('{"model": {"family": "gpt", "depth": 2, "width": 32}}')
    assert plan_of(cli, "r.json")["num_steps"] == 1000


def test_context_and_vocabulary_are_those_of_set(cli):
    short = plan_of(cli, "gpt:depth=2", "--context", "64", "--vocab-size", "2K")
    long = plan_of(cli, "gpt:depth=2", "--set", "data.context=64", "--set", "data.vocab_size=2000")
    assert short == long
    assert (short["spec"]["context"], short["spec"]["vocab_size"]) == (64, 2000)


def test_gpt2_small_is_counted_right(cli):
    # 12 blocks of 4 * 768^2 attention and 3 * 768 * 2048 MLP weights, 2 norms of 768 and 2 of 64; one last norm.
    body = 12 * (4 * 768**2 + 3 * 768 * 2048 + 2 * 768 + 2 * 64) + 768
    document = plan_of(cli, "gpt:depth=12,mlp_width=2048", "--vocab-size", "50257")
    assert document["num_params"]["body"] == body
    assert document["num_params"]["embedding"] == 50257 * 768


def test_operations_are_six_for_each_weight_and_token(cli):
    # 6 N D, and attention: forward 2 products of 2 x T^2 / 2 x width a block and sequence, backward twice that.
    document = plan_of(cli, "gpt:depth=12", "--tokens", "2.048e6", "--set", "train.batch_size=8")
    weights = document["num_params"]["total"] - (12 * (2 * 768 + 2 * 64) + 768)
    attention = 12 * 6 * 128 * 768 * 2_048_000
    assert document["train_flops"] == pytest.approx(6 * weights * 2_048_000 + attention, rel=1e-3)
    full = plan_of(cli, "gpt:depth=12", "--convention", "full")["flops"]["forward"]
    causal = plan_of(cli, "gpt:depth=12", "--convention", "causal")["flops"]["forward"]
    assert full - causal == pytest.approx(4 * 12 * 2 * 128 * 128 * 768, rel=0.01)


def test_serving_holds_weights_and_a_cache(cli):
    document = plan_of(
        cli, "gpt:depth=12", "--mode", "infer", "--device", "h100-sxm", "--batch", "4", "--context", "1024"
    )
    assert document["memory_bytes"]["optimizer"] == document["memory_bytes"]["gradients"] == 0
    assert document["flops"]["backward"] == 0
    assert document["kv_cache_bytes"] == 2 * 12 * 768 * 4 * 1024 * 2
    weights = document["memory_bytes"]["weights"]
    assert weights == pytest.approx(
        2 * document["num_params"]["total"], rel=0.01
    )  # with the table of rotations
    assert document["num_steps"] is None
    assert plan_of(cli, "gpt:depth=12", "--mode", "infer", "--tokens", "1e6")["num_steps"] == 1954


def test_use_changes_what_it_should(cli):
    plain = plan_of(cli, "gpt:depth=4", "--device", "a100-80gb", "--batch", "8")
    checkpointed = plan_of(cli, "gpt:depth=4", "--device", "a100-80gb", "--batch", "8", "--checkpointing")
    assert checkpointed["memory_bytes"]["activations"] < plain["memory_bytes"]["activations"]
    assert checkpointed["flops"]["backward"] > plain["flops"]["backward"]
    sgd = plan_of(cli, "gpt:depth=4", "--device", "a100-80gb", "--batch", "8", "--optimizer", "sgd")
    assert sgd["memory_bytes"]["optimizer"] == 0
    full = plan_of(cli, "gpt:depth=4", "--device", "a100-80gb", "--batch", "8", "--precision", "fp32")
    assert (full["dtype"], plain["dtype"]) == ("fp32", "bf16")
    assert full["step_time_s"] > plain["step_time_s"]
    halves = plan_of(cli, "gpt:depth=4", "--device", "a100-80gb", "--batch", "8", "--accumulation", "2")
    assert halves["memory_bytes"]["activations"] < plain["memory_bytes"]["activations"]
    assert halves["flops"]["forward"] == plain["flops"]["forward"]
    compiled = plan_of(cli, "gpt:depth=4", "--device", "a100-80gb", "--batch", "8", "--compiled")
    assert compiled["step_time_s"] < plain["step_time_s"]


def test_money_and_energy_are_those_of_all_devices(cli):
    line = "gpt:depth=4 --device a100-80gb --num-devices 4 --usd-per-hour 2 --watts 500 --tokens 1e9"
    document = plan_of(cli, *line.split())
    hours = document["total_time_s"] / 3600
    assert document["usd"] == pytest.approx(4 * 2 * hours)
    assert document["energy_kwh"] == pytest.approx(4 * 0.5 * 1.1 * hours)
    assert document["total_time_s"] == document["num_steps"] * document["step_time_s"]


def test_a_device_is_described_by_hand(cli):
    line = "gpt:depth=4 --peak-flops-per-s 3e14 --memory-bytes 80e9 --bandwidth-bytes-per-s 2e12 --watts 300"
    document = plan_of(cli, *line.split())
    assert (document["device"], document["memory_limit_bytes"]) == ("custom", 80e9)
    slow = plan_of(cli, *line.replace("3e14", "3e12").split())
    assert slow["step_time_s"] > 3 * document["step_time_s"]


def test_layouts_are_ranked_and_the_best_is_taken(cli):
    document = plan_of(cli, "gpt:depth=12", "--device", "h100-sxm", "--num-devices", "8", "--batch", "64")
    times = [one["step_time_s"] for one in document["layouts"] if one["fits"]]
    assert times == sorted(times)
    assert document["layout"] == document["layouts"][0]["layout"]
    assert document["step_time_s"] == times[0]
    whys = {one["layout"]: one["why_not"] for one in document["layouts"] if not one["fits"]}
    assert whys["tp=8"] == "tp=8 does not divide the 12 query heads"


def test_a_layout_that_is_asked_for_is_taken(cli):
    document = plan_of(
        cli, "gpt:depth=12", "--device", "h100-sxm", "--parallel", "fsdp=4,tp=2", "--batch", "64"
    )
    assert (document["layout"], document["num_devices"], document["layouts"]) == ("fsdp=4,tp=2", 8, [])


def test_modules_are_shown_to_a_depth(cli, here):
    said = cli("plan", "llama.json", "--modules", "4").stdout
    assert "self_attn" in said
    assert "q_proj" not in said
    paths = [part["path"] for part in plan_of(cli, "llama.json", "--modules", "9")["modules"]]
    assert "model.layers.1.self_attn.q_proj" in paths
    assert len(plan_of(cli, "llama.json")["modules"]) == 1


def test_a_budget_finds_the_size(cli):
    document = plan_of(cli, "gpt", "--budget-usd", "100", "--device", "a100-80gb")
    assert document["optimum"]["law"] == "besiroglu"
    assert document["usd"] == pytest.approx(100, rel=0.01)
    assert document["model"] == "gpt:depth={depth},width={width}".format(**document["spec"])
    other = plan_of(cli, "gpt", "--budget-usd", "100", "--device", "a100-80gb", "--inference-tokens", "1e10")
    assert other["num_params"]["total"] < document["num_params"]["total"]
    hoffmann = plan_of(cli, "gpt", "--budget-usd", "100", "--device", "a100-80gb", "--law", "hoffmann")
    assert hoffmann["optimum"]["law"] == "hoffmann"


def test_a_budget_trains_a_given_size_for_as_long_as_it_lasts(cli):
    document = plan_of(cli, "gpt:depth=12", "--budget-usd", "100", "--device", "a100-80gb")
    assert document["num_steps"] == document["room"]["num_steps"]
    assert document["usd"] == pytest.approx(100, rel=0.001)
    assert document["room"]["micro_batch"] >= document["usage"]["batch_size"]
    asked = plan_of(cli, "gpt:depth=12", "--budget-usd", "100", "--device", "a100-80gb", "--tokens", "1e9")
    assert asked["num_tokens"] == pytest.approx(1e9, rel=1e-4)


def test_what_does_not_fit_is_said(cli):
    ran = cli("plan", "gpt:depth=12", "--memory-bytes", "1")
    assert ran.code == 0
    assert "Not one sample fits." in ran.stdout
    assert "It does not fit: local has 1 B, it takes 1.5" in ran.stdout


# Models that somebody brings.


@pytest.mark.parametrize(
    ("name", "shape", "num_params"),
    [
        ("article_lenet.py:Net", "8x3x32x32", 62_006),
        ("article_perceptron.py:Perceptron", "8x1000", 10_016_010),
    ],
)
def test_networks_of_articles(cli, name, shape, num_params):
    document = plan_of(cli, f"{EXAMPLES}/{name}", "--input", shape)
    assert document["num_params"]["total"] == num_params
    assert f"{num_params:,}" in cli("plan", f"{EXAMPLES}/{name}", "--input", shape).stdout


def test_the_article_whose_sizes_do_not_fit(cli):
    ran = cli("plan", f"{EXAMPLES}/article_mismatch.py:Net", "--input", "8x3x32x32")
    assert ran.code == 2
    assert ran.stdout == ""
    assert "fc1 (Linear) expects 2,304 features and gets 4,096" in ran.stderr


def test_samples_and_epochs_are_counted(cli, here):
    document = plan_of(cli, "nets.py:Plain", "--input", "8x4", "--samples", "1000", "--epochs", "3")
    assert (document["num_steps"], document["num_samples"], document["num_tokens"]) == (375, 3000, None)
    sized = plan_of(cli, "nets.py:Sized", "--input", "8x4", "--init", '{"num_classes": 10}', "--loss", "mse")
    assert sized["num_params"]["total"] == 50
    assert plan_of(cli, "nets.py:Plain", "--input", "8x4", "--batch", "16")["usage"]["batch_size"] == 16


def test_a_folder_with_a_config(cli, here):
    (here / "folder").mkdir()
    (here / "folder" / "config.json").write_text(json.dumps(LLAMA))
    document = plan_of(cli, "folder", "--context", "64", "--batch", "2", "--tokens", "1280")
    # Table and head of 256 x 64, 2 blocks: q and o of 64^2, k and v of half, 3 of 64 x 128, 2 norms; one last norm.
    assert document["num_params"]["total"] == 2 * 256 * 64 + 2 * (3 * 64**2 + 3 * 64 * 128 + 2 * 64) + 64
    assert (document["context"], document["num_steps"]) == (64, 10)
    served = plan_of(cli, "folder", "--mode", "infer", "--context", "64", "--batch", "2")
    assert served["kv_cache_bytes"] == 2 * 2 * 32 * 2 * 64 * 4


def test_a_keras_model(cli, tmp_path):
    if importlib.util.find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    (tmp_path / "dense.py").write_text(
        "import os\nos.environ['KERAS_BACKEND'] = 'torch'\nimport keras\n"
        "def Net():\n    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])\n"
    )
    assert plan_of(cli, "dense.py:Net", "--input", "8x4")["num_params"]["total"] == 15


@pytest.mark.slow
def test_a_llama_of_70_billion(cli, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_70B))
    line = "config.json --device h100-sxm --num-devices 64 --parallel fsdp=64 --batch 64 --context 2048"
    document = plan_of(cli, *line.split())
    assert document["num_params"]["total"] == 70_553_706_496
    assert document["flops"]["forward"] == pytest.approx(2 * 69.5e9 * 64 * 2048, rel=0.05)


# Measuring.


@dataclass(frozen=True)
class Measured:
    peak_memory_bytes: int = 10**7
    step_time_s: float = 0.01


def test_measured_plans_are_filed(cli, monkeypatch):
    monkeypatch.setattr(measured_plan, "measure", lambda *_, **__: Measured())
    for num_runs in (1, 2):
        document = plan_of(cli, "gpt:depth=2,width=64", "--measure", "--ledger", "filed/plans.jsonl")
        assert [entry["quantity"] for entry in document["measured"]] == ["peak_memory_bytes", "step_time_s"]
        assert len(read_ledger(Path("filed/plans.jsonl"))) == 2 * num_runs
    said = cli("plan", "gpt:depth=2,width=64", "--measure").stdout
    assert "10.0 MB" in said
    assert "skill" not in said
    assert Path("runs/plans.jsonl").is_file()


def test_real_steps_are_run(cli, monkeypatch):
    monkeypatch.setattr("kleiber.study.place.num_cores", lambda: 1)
    document = plan_of(cli, f"{EXAMPLES}/article_lenet.py:Net", "--input", "32x3x32x32", "--measure")
    memory, time = document["measured"]
    assert memory["predicted"] == document["memory_bytes"]["peak"]
    assert memory["measured"] == pytest.approx(memory["predicted"], rel=0.25)
    assert 0 < time["measured"] < 60
    assert len(read_ledger(Path("runs/plans.jsonl"))) == 2


@pytest.mark.slow
def test_real_steps_of_a_gpt_are_run(cli):
    memory, _ = plan_of(cli, "gpt:depth=4,width=128", "--batch", "16", "--measure")["measured"]
    assert memory["measured"] == pytest.approx(memory["predicted"], rel=0.25)


def test_a_ledger_is_looked_at_before_anything_is_measured(cli, here, monkeypatch):
    monkeypatch.setattr(measured_plan, "measure", lambda *_, **__: pytest.fail("it measured"))
    ran = cli("plan", "gpt:depth=2", "--measure", "--ledger", "text.jsonl")
    assert (ran.code, ran.stdout) == (2, "")
    assert "text.jsonl line 1 is not valid JSON" in ran.stderr
    ran = cli("plan", "gpt:depth=2", "--measure", "--ledger", "llama.json/plans.jsonl")
    assert (ran.code, ran.stdout) == (1, "")
    assert ran.stderr.startswith("error: cannot ")


def test_a_chart_is_written(cli):
    ran = cli("plan", "gpt:depth=2", "--chart", "plan.svg")
    assert ran.code == 0
    assert ran.stdout.endswith("wrote plan.svg\n")
    assert Path("plan.svg").read_text(encoding="utf-8").startswith("<svg")


# Bad input.

WHOLE = "must be a whole number from"
REFUSED = [
    # files and what is in them
    ("nets.py:Nope --input 8x4", "nets.py has no class or function 'Nope'. Known: Branching, Convolved, Plain, Sized."),
    ("nets.py --input 8x4", "nets.py needs the name of a class behind a colon."),
    ("nets.py:NotAModule --input 8x4", "nets.py:NotAModule must be a subclass of torch.nn.Module"),
    ("nets.py:Sized --input 8x4", "nets.py:Sized needs arguments: num_classes."),
    ("nets.py:Sized --input 8x4 --init '{\"clases\": 3}'", "--init: nets.py:Sized has no argument 'clases'."),
    ("nets.py:Sized --input 8x4 --init [3]", "--init must be a JSON object of arguments. Got '[3]'."),
    ("nets.py:Plain", "nets.py:Plain needs the shape of what its forward takes"),
    ("none.py:Net --input 8x4", "none.py cannot be read: No such file or directory."),
    ("broken.py:Net --input 8x4", "broken.py, line 1: import failed with SyntaxError"),
    ("empty", "empty is a folder without a config.json."),
    ("unknown.json", "unknown.json: unknown model_type 'lama'. Did you mean 'llama'?"),
    ("list.json", "list.json must hold a JSON object. Got 'list'."),
    ("bad.json", "bad.json is not valid JSON."),
    ("none.json", "none.json cannot be read: No such file or directory."),
    ("none.yaml", "none.yaml cannot be read as a recipe: "),
    ("binary.yaml", "binary.yaml cannot be read as a recipe: it is not UTF-8 text."),
    ("''", "MODEL must not be empty.\n  try: kleiber plan gpt:depth=12\n"),
    ("what", "'what' names no model; a model is gpt:depth=12, my_model.py:Net, or a transformers config.json."),
    ("gtp:depth=12", "'gtp' is neither a family nor a .py file."),
    ("gpt:dept=12", "gpt size: unknown key 'dept'. Did you mean 'depth'?\n"),
    ("gpt:params=1e30", "gpt size: params: input should be less than or equal to"),
    # inputs
    ("nets.py:Convolved --input 8x3x32", "conv (Conv2d) expects 3 channels and gets 8, in an input of 8x3x32."),
    ("nets.py:Convolved --input 8x3", "conv (Conv2d) expects 4 or 3 dimensions and gets 2, in an input of 8x3."),
    ("nets.py:Convolved --input 8x3x32x32:int64", "conv (Conv2d) expects numbers of floating point and gets int64"),
    ("nets.py:Convolved --input 8x3x32x32:int7", "--input: unknown dtype 'int7'. Did you mean 'int8'?"),
    ("nets.py:Convolved --input 0x3", "--input must be whole numbers from 1 up, joined by 'x', the batch first."),
    (
        "nets.py:Branching --input 8x4",
        ("Branching depends on the values in its tensors at nets.py, line 32 (`if x.sum() > 0:`), and a plan knows "
        "their shapes alone. Counted until there: first. Not counted: second."),
    ),
    ("nets.py:Plain --input 8x4 --loss nope", "--loss: unknown loss 'nope'."),
    ("nets.py:Plain --input 8x4 --context 5", "--context is for text models;"),
    ("nets.py:Plain --input 8x4 --vocab-size 5", "--vocab-size is for recipes and sizes of built-in families;"),
    ("nets.py:Plain --input 8x4 --set train.lr=3", "--set is for recipes and sizes of built-in families;"),
    ("nets.py:Plain --input 8x4 --checkpointing", "Plain has no repeated blocks to checkpoint"),
    (
        "nets.py:Plain --input 8x4 --tokens 1e9",
        ("--tokens is for text; this model takes samples. Got '1e+09'.\n"
        "  try: kleiber plan nets.py:Plain --input 8x4 --samples 50000\n"),
    ),
    (
        "gpt:depth=2 --input 8x4",
        ("--input is not for text. Got '8x4'.\n"
        "  try: kleiber plan gpt:depth=2 --context 512 --vocab-size 8192\n"),
    ),
    ("gpt:depth=2 --init '{}'", "--init is for a class in a file;"),
    ("gpt:depth=2 --loss mse", "--loss is for a class in a file;"),
    ("gpt:depth=2 --set train.sede=1", "the recipe: unknown key 'train.sede'. Did you mean 'seed'?\n"),
    ("gpt:depth=2 --set x", "--set takes KEY=VALUE with a dotted key. Got 'x'.\n"),
    ("llama.json --context 500", "--context must be at most the 128 positions of the config. Got 500.\n"),
    # layouts
    (
        "gpt:depth=12 --device h100-sxm --parallel ddp=3 --batch 64",
        ("ddp x fsdp = 3 does not divide the batch of 64 samples. Got 'ddp=3'.\n"
        "  try: kleiber plan gpt:depth=12 --device h100-sxm --parallel ddp=3 --batch 63\n"),
    ),
    (
        "gpt:depth=12 --device h100-sxm --parallel tp=5",
        ("tp=5 does not divide the 12 query heads. Got 'tp=5'.\n"
        "  try: kleiber plan gpt:depth=12 --device h100-sxm --parallel tp=4\n"),
    ),
    ("gpt:depth=12 --device h100-sxm --num-devices 8 --parallel ddp=3", "--parallel spreads the model over"),
    ("gpt:depth=12 --device h100-sxm --parallel qq=5", "--parallel is written KEY=NUMBER,KEY=NUMBER;"),
    ("gpt:depth=12 --device h100-sxm --parallel ddp=0", "--parallel ddp must be a whole number of devices"),
    ("nets.py:Plain --input 8x4 --device h100-sxm --parallel tp=4", "tp and pp split the blocks of a Transformer"),
    (
        "nets.py:Plain --input 5x4 --device h100-sxm --num-devices 4",
        "There is no way to spread nets.py:Plain over 4 devices; ",
    ),
    (
        "gpt:depth=2 --batch 8 --accumulation 3",
        ("--accumulation 3 must divide the batch of 8 samples.\n"
        "  try: kleiber plan gpt:depth=2 --batch 9 --accumulation 3\n"),
    ),
    ("nets.py:Plain --input 8x4 --accumulation 3", "--accumulation 3 must divide the batch of 8 samples.\n"),
    # devices
    ("gpt:depth=12 --device abacus", "unknown device 'abacus'. "),
    ("gpt:depth=12 --device h10", "'h10' may be any of h100-nvl, h100-pcie, h100-sxm;"),
    ("gpt:depth=12 --device list", "the known devices are: a10, a100-40gb, "),
    (
        "gpt:depth=12 --device local --num-devices 2",
        "this machine is one device; 2 need a name.\n  try: kleiber plan gpt:depth=12 --device h100-sxm --num-devices 2\n",
    ),
    ("gpt:depth=12 --device v100 --precision bf16", "v100 has no peak for this dtype; it has fp16, fp32. Got 'bf16'."),
    ("gpt:depth=12 --peak-flops-per-s 3e14", "a device that is described by its peak needs its memory.\n"),
    ("gpt:depth=12 --peak-flops-per-s 3e14 --device t4", "--device names a device and --peak-flops-per-s describes one;"),
    ("gpt:depth=12 --bandwidth-bytes-per-s 1e11", "--bandwidth-bytes-per-s is for a device with a name;"),
    ("gpt:depth=12 --interconnect-bytes-per-s 1e11", "--interconnect-bytes-per-s is for a device with a name;"),
    ("gpt:depth=12 --compiled", "--compiled is for a device with a name;"),
    # budgets
    ("gpt", "A gpt size needs depth, width or params. Got {}.\n  try: kleiber plan gpt:depth=12 "),

    ("gpt --budget-usd 1e-9 --device h100-sxm", "A budget of 1e-09 USD is too small for any gpt:"),
    ("gpt --budget-hours 1e-9 --device h100-sxm", "A budget of 1e-09 hours of 1 device"),
    ("gpt --budget-flops 1", "A budget of 1 FLOP is too small for any gpt:"),
    ("gpt --budget-usd 100 --device a100-80gb --inference-tokens 1e12", "--inference-tokens 1e+12 take all that the budget"),
    ("gpt --memory-bytes 1", "No gpt fits in 1 B:"),
    ("gpt --budget-usd 100", "--budget-usd needs a price, and local has none.\n"),
    ("gpt --budget-flops 1e19 --tokens 5", "--tokens, --samples and --epochs are for a given size:"),
    (
        "gpt:depth=12 --budget-flops 1",
        ("--budget-flops does not pay a single step of gpt:depth=12: a step takes 2.67e+11 FLOP.\n"
        "  try: kleiber plan gpt:depth=12 --budget-flops 2.67e+14\n"),
    ),
    ("gpt:depth=12 --budget-usd 1e-9 --device t4", "--budget-usd does not pay a single step of gpt:depth=12: "),
    ("gpt:depth=12 --budget-hours 1e-9", "--budget-hours does not pay a single step of gpt:depth=12: "),
    ("gpt --budget-usd 9 --device t4 --mode infer", "A budget is spent on training;"),
    ("gpt --budget-flops 1e19 --law nope", "'nope' is no published law. Known: besiroglu, hoffmann.\n"),
    ("gpt:depth=2 --law nope", "'nope' is no published law. Known: besiroglu, hoffmann.\n"),
    ("gpt --budget-flops 1e19 --law none.json", "--law none.json is no file.\n  try: kleiber plan gpt --budget-flops 1e19"),
    ("gpt --budget-flops 1e19 --law bad.json", "bad.json is truncated or not valid JSON: "),
    ("gpt:depth=2 --law hoffmann", "--law says what is best to do with a budget, and there is none. Got 'hoffmann'.\n"),
    ("gpt:depth=2 --inference-tokens 1e12", "--inference-tokens says what is best to do with a budget"),
    # how long
    ("gpt:depth=12 --tokens 30e12", "--tokens 3e+13 takes 5.86e+10 steps of 512, and a run has at most 1e+09.\n"),
    ("gpt:depth=12 --epochs 3", "--epochs are passes over data; --tokens or --samples says how much there is. Got '3'.\n"),
    ("gpt:depth=12 --samples 5 --tokens 7", "--samples and --tokens both say how long the job is; give one."),
    # serving
    (
        "gpt:depth=2 --mode infer --optimizer sgd",
        "--optimizer is for training. Got '--mode infer'.\n  try: kleiber plan gpt:depth=2 --mode infer\n",
    ),
    ("gpt:depth=2 --mode infer --accumulation 2", "--accumulation is for training."),
    ("gpt:depth=2 --mode infer --checkpointing", "--checkpointing is for training."),
    # what is shown
    (
        "gpt:depth=2 --measure --device h100-sxm",
        ("--device is another one, and --measure runs real steps here. Got 'h100-sxm'.\n"
        "  try: kleiber plan gpt:depth=2 --measure\n"),
    ),
    ("gpt:depth=2 --chart x.pdf", "--chart writes .svg, .png or .html. Got 'x.pdf'.\n"),
    ("gpt:depth=2 --mode serve", "--mode must be one of train, infer. Got 'serve'."),
    ("gpt:depth=2 --precision fp8", "--precision must be one of fp32, bf16, fp16. Got 'fp8'."),
    ("gpt:depth=2 --optimizer lion", "--optimizer must be one of sgd, momentum, "),
    ("gpt:depth=2 --convention x", "--convention must be one of causal, full. Got 'x'."),
    ("gpt:depth=2 more", "Got unexpected extra argument(s) (more).\n"),
    ("gpt:depth=2 --nope", "No such option: --nope"),
    ("gpt:depth=2 --context 2e9", "--context must be a whole number from 1 to 1000000000. Got '2e9'."),
    ("gpt:depth=2 --context 1e9", "the recipe: data.context: input should be less than or equal to 1048576."),
    ("gpt:depth=2 --vocab-size 1", "--vocab-size must be a whole number from 2 to 1000000000. Got '1'."),
]  # fmt: skip


@pytest.mark.parametrize(("line", "sentence"), REFUSED, ids=[line for line, _ in REFUSED])
def test_what_cannot_be_planned(cli, here, line, sentence):
    ran = cli("plan", *shlex.split(line))
    assert ran.code == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith(f"error: {sentence}")
    assert "Traceback" not in ran.stderr
    assert len(ran.stderr.splitlines()) <= 2  # a sentence, and a line that works


@pytest.mark.parametrize(
    "option",
    ["batch", "context", "vocab-size", "accumulation", "num-devices", "modules"],
)
def test_whole_numbers(cli, option):
    for value in ("-1", "0.5", "nan", "inf", "1e40", "many", ""):
        ran = cli("plan", "gpt:depth=2", "--device", "t4", f"--{option}", value)
        assert (ran.code, ran.stdout) == (2, "")
        assert ran.stderr.startswith(f"error: --{option} must be a whole number from ")
    hint = ran.stderr.partition("  try: ")[2]
    assert hint.startswith(f"kleiber plan gpt:depth=2 --device t4 --{option} ")
    assert cli(*shlex.split(hint)[1:]).code == 0


_NUMBERS = [
    "usd-per-hour", "peak-flops-per-s", "bandwidth-bytes-per-s", "interconnect-bytes-per-s", "watts", "tokens", "samples",
    "epochs", "budget-usd", "budget-hours", "budget-flops", "memory-bytes", "inference-tokens",
]  # fmt: skip


@pytest.mark.parametrize("option", _NUMBERS)
def test_positive_numbers(cli, option):
    for value in ("-1", "0", "nan", "inf", "many", "", "1e400"):
        ran = cli("plan", "gpt:depth=2", f"--{option}", value)
        assert (ran.code, ran.stdout) == (2, "")
        assert ran.stderr.startswith(f"error: --{option} must be a positive number. Got '{value}'.\n  try: ")
    assert cli("plan", "gpt:depth=2", f"--{option}", "1e31").code == 2


@pytest.mark.parametrize("option", _NUMBERS)
@pytest.mark.parametrize("value", ["1e-30", "1e30"])
def test_huge_and_tiny_numbers_end_in_a_plan_or_a_sentence(cli, option, value):
    ran = cli("plan", "gpt:depth=2", "--device", "t4", f"--{option}", value, "--json")
    assert ran.code in {0, 2}
    assert "Traceback" not in ran.stderr
    if ran.code == 0:
        CostPlan.model_validate(ran.document)


PASTED = [line for line, sentence in REFUSED if "try: kleiber" in sentence and "'nope'" not in sentence] + [
    "nets.py:Sized --input 8x4",
    "nets.py:Plain --input 8x4 --loss nope",
    "nets.py:Plain --input 8x4 --device h100-sxm --parallel tp=4",
    "llama.json --context 500",
    "gpt:depth=12 --device h10",
    "gpt:depth=12 --device h100-sxm --parallel qq=5 --batch 16",
    "gpt:depth=12 --peak-flops-per-s 3e14",
    "gpt:depth=12 --peak-flops-per-s 3e14 --device t4",
    "gpt:depth=12 --compiled",
    "gpt:depth=12 --tokens 30e12",
    "gpt:depth=12 --samples 5 --tokens 7",
    "gpt:depth=12 --epochs 3",
    "gpt:depth=12 --usd-per-hour -1",
    "gpt --budget-usd 100",
    "gpt --budget-flops 1e19 --law nope",
    "gpt --budget-usd 100 --device a100-80gb --inference-tokens 1e12",
    "gpt:depth=2 --inference-tokens 1e10",
    "gpt:depth=12 --budget-usd 1e-9 --device t4",
]  # fmt: skip


@pytest.mark.parametrize("line", PASTED)
def test_the_hint_works_when_it_is_pasted(cli, here, monkeypatch, line):
    monkeypatch.setattr(measured_plan, "measure", lambda *_, **__: Measured())
    ran = cli("plan", *shlex.split(line))
    hint = ran.stderr.partition("  try: ")[2].partition("   ")[0].strip()
    ran = cli(*shlex.split(hint)[1:])
    assert ran.code == 0, (hint, ran.stderr)


# Speed.

_TIMED = """
import sys, time
from kleiber.cli.main import main
started = time.process_time()
code = main(sys.argv[1:])
sys.stderr.write(f"{code} {started} {time.process_time() - started}")
"""


@pytest.mark.parametrize(
    "line",
    [
        "plan gpt:depth=12",
        "plan gpt:depth=12 --device h100-sxm --num-devices 8 --batch 64",
        "plan gpt --budget-usd 100 --device a100-80gb",
    ],
)
def test_a_family_is_planned_in_the_time_of_a_start(tmp_path, line):
    # Processor time beside that of the help, which starts the same program: a busy machine is slow at both.
    def took_s(*arguments: str) -> float:
        ran = subprocess.run(
            [sys.executable, "-c", _TIMED, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        code, started, took = map(float, ran.stderr.split())
        assert code == 0
        return started + took

    assert took_s(*line.split()) < 4 * took_s("plan", "--help")
