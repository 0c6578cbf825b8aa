"""`kleiber plan`: sizes and recipes into what they need."""

from __future__ import annotations

import pytest

from kleiber.cli.plan import read_size, with_tokens
from kleiber.errors import UsageError
from kleiber.runs import Recipe


@pytest.fixture(autouse=True)
def _no_calibration(monkeypatch, tmp_path):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path / "cache"))


def test_json_keys(cli):
    ran = cli("plan", "gpt:depth=2,width=64", "--tokens", "512000", "--json")
    assert ran.code == 0
    document = ran.document
    assert ran.stdout.count("\n") == 1
    assert {"num_params", "train_flops", "memory_bytes", "step_time_s", "total_time_s"} <= set(document)
    assert {"total", "embedding", "body", "head"} <= set(document["num_params"])
    assert set(document["memory_bytes"]) == {"weights", "gradients", "optimizer", "activations", "peak"}
    assert document["num_params"]["embedding"] == 1024 * 64
    groups = document["num_params"]
    assert groups["total"] == groups["embedding"] + groups["body"] + groups["head"]
    assert document["num_tokens"] == 512_000
    assert "parameters" in ran.stderr


def test_people_see_the_figures_on_stdout(cli):
    ran = cli("plan", "gpt:depth=12", "--device", "h100-sxm")
    assert ran.code == 0
    assert ran.stderr == ""
    for word in ("parameters", "operations", "memory", "time", "money", "h100-sxm"):
        assert word in ran.stdout


def test_a_recipe_is_planned_as_it_is_written(cli, tmp_path):
    (tmp_path / "r.yaml").write_text("model: {family: gpt, depth: 2, width: 32}\ntrain: {num_steps: 7}\n")
    document = cli("plan", "r.yaml", "--set", "train.batch_size=2", "--json").document
    assert document["num_tokens"] == 7 * 2 * 128
    assert document["spec"]["width"] == 32


def test_context_and_vocabulary_are_those_of_set(cli):
    short = cli("plan", "gpt:depth=2", "--context", "64", "--vocab-size", "2K", "--json").document
    long = cli(
        "plan", "gpt:depth=2", "--set", "data.context=64", "--set", "data.vocab_size=2000", "--json"
    ).document
    assert short == long
    assert (short["spec"]["context"], short["spec"]["vocab_size"]) == (64, 2000)


def test_gpt2_small_is_counted_right(cli):
    # 12 blocks of 4 * 768^2 attention and 3 * 768 * 2048 MLP weights, 2 norms of 768 and 2 of 64; one last norm.
    body = 12 * (4 * 768**2 + 3 * 768 * 2048 + 2 * 768 + 2 * 64) + 768
    document = cli("plan", "gpt:depth=12,mlp_width=2048", "--vocab-size", "50257", "--json").document
    assert document["num_params"]["body"] == body
    assert document["num_params"]["embedding"] == 50257 * 768


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["gpt:depth=12", "--tokens", "-2e9"],
            "error: --tokens must be a positive number. Got '-2e9'.\n  try: kleiber plan gpt:depth=12 --tokens 2e9\n",
        ),
        (
            ["gpt:depth=12", "--tokens=-2e9"],
            "error: --tokens must be a positive number. Got '-2e9'.\n  try: kleiber plan gpt:depth=12 --tokens 2e9\n",
        ),
        (
            ["gpt:depth=12", "--context", "1.5"],
            ("error: --context must be a whole number from 1 to 2147483647. Got '1.5'.\n"
            "  try: kleiber plan gpt:depth=12 --context 1\n"),
        ),
        (["gpt:dept=12"], "error: gpt size: unknown key 'dept'. Did you mean 'depth'?\n"),
        (["gtp:depth=12"], "error: "),
        (["none.yaml"], "error: none.yaml cannot be read as a recipe: "),
        (["gpt:depth=12", "--device", "abacus"], "error: unknown device 'abacus'. Known: a10, a100-40gb, "),
        (["gpt:depth=12", "--set", "train.sede=1"], "error: the recipe: unknown key 'train.sede'. Did you mean 'seed'?\n"),
        (["gpt:depth=12", "--set", "x"], "error: --set takes KEY=VALUE with a dotted key. Got 'x'.\n"),
        (
            ["gpt:depth=12", "--tokens", "30e12"],
            ("error: --tokens 3e+13 takes 5.86e+10 steps of 512 tokens, and a run has at most 1e+09.\n"
            "  try: kleiber plan gpt:depth=12 --tokens 3e+13 --set train.batch_size=4000\n"),
        ),
    ],
)  # fmt: skip
def test_bad_input(cli, arguments, text):
    ran = cli("plan", *arguments)
    assert ran.code == 2
    assert ran.stderr.startswith(text)
    assert ran.stdout == ""


def test_with_tokens_rounds_up_to_whole_steps():
    recipe = Recipe()
    assert with_tokens(recipe, None, "") == recipe
    assert with_tokens(recipe, 512, "").train.num_steps == 1
    assert with_tokens(recipe, 513, "").train.num_steps == 2
    with pytest.raises(UsageError, match="takes"):
        with_tokens(recipe, 1e30, "kleiber plan x")


def test_read_size_takes_a_file_by_its_ending(tmp_path):
    (tmp_path / "r.yml").write_text("train: {num_steps: 3}")
    (tmp_path / "r.json").write_text('{"train": {"num_steps": 4}}')
    assert [read_size(str(tmp_path / name)).train.num_steps for name in ("r.yml", "r.json")] == [3, 4]
    assert read_size("gpt:depth=3").model.size == {"depth": 3}
