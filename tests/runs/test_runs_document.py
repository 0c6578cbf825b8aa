"""Documents come back from disk as they were written, and say what is wrong with a bad one."""

from __future__ import annotations

import json
import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.errors import RecipeError, RunFolderError
from kleiber.runs import (
    DataMeta,
    DataRecipe,
    DataShape,
    Environment,
    LedgerEntry,
    Lineage,
    ModelRecipe,
    OptimizerRecipe,
    ParallelRecipe,
    ParamCount,
    Predicted,
    Recipe,
    Record,
    Result,
    Row,
    ScheduleRecipe,
    TrainRecipe,
    canonical_json,
    hash_of,
)

WORDS = st.text(string.ascii_letters + string.digits + " :/-#é中'\"\\%\t", max_size=12)
COUNTS = st.integers(0, 2**50)
NUMBERS = st.floats(min_value=1e-30, max_value=1e30)

PARAM_COUNTS = st.builds(ParamCount, embedding=COUNTS, body=COUNTS, head=COUNTS, is_tied=st.booleans())
DIALS = st.dictionaries(st.sampled_from(["depth", "width", "params"]), st.integers(1, 10**9))
RECIPES = st.builds(
    Recipe,
    model=DIALS.map(lambda dial: ModelRecipe(family="gpt", **dial)),
    data=st.builds(
        DataRecipe,
        source=WORDS,
        field=st.none() | WORDS,
        vocab_size=st.integers(257, 10**6),
        context=st.integers(2, 2**20),
    ),
    train=st.builds(
        TrainRecipe,
        num_steps=st.integers(1, 10**9),
        clip_norm=NUMBERS,
        optimizer=st.builds(
            OptimizerRecipe, lr=st.floats(1e-12, 9.9), name=st.sampled_from(["adamw", "muon"])
        ),
        schedule=st.builds(ScheduleRecipe, cooldown_frac=st.floats(0, 1)),
        seed=st.integers(0, 2**31 - 1),
    ),
    parallel=st.builds(ParallelRecipe, num_threads=st.none() | st.integers(1, 4096)),
)
SHAPES = st.builds(
    DataShape,
    inputs=st.just("tokens"),
    vocab_size=st.none() | st.integers(1, 10**7),
    context=st.none() | st.integers(1, 10**7),
)
METAS = st.builds(
    DataMeta,
    source=WORDS, corpus_hash=WORDS, python_version=WORDS, tokenizer_hash=WORDS, eval_hash=WORDS,
    shape=SHAPES, num_documents=COUNTS, num_train_tokens=COUNTS, num_val_tokens=COUNTS,
    val_bytes_per_token=NUMBERS,
)  # fmt: skip
RESULTS = st.builds(
    Result,
    num_steps=COUNTS, num_tokens=COUNTS, peak_memory_bytes=COUNTS,
    **{
        name: NUMBERS
        for name, field in Result.model_fields.items()
        if field.annotation in (float, float | None)
    },
)  # fmt: skip
RECORDS = st.builds(
    Record,
    run=WORDS, status=st.sampled_from(["running", "finished", "interrupted", "failed"]), started_at=WORDS,
    recipe=RECIPES, recipe_hash=WORDS, seed=COUNTS, data=METAS, num_params=PARAM_COUNTS, train_flops=NUMBERS,
    environment=st.builds(
        Environment, kleiber=WORDS, python=WORDS, torch=WORDS, platform=WORDS, num_cores=COUNTS, num_threads=COUNTS
    ),
    flops_convention=WORDS,
    lineage=st.lists(st.builds(Lineage, run=WORDS, operation=st.just("branch"), step=COUNTS), max_size=2).map(tuple),
    predicted=st.builds(Predicted, forecast_hash=st.none() | WORDS, total_time_s=st.none() | NUMBERS),
    result=st.none() | RESULTS,
)  # fmt: skip
ROWS = st.builds(
    Row,
    run=WORDS,
    num_params=PARAM_COUNTS,
    num_tokens=NUMBERS,
    loss=NUMBERS,
    trunk=WORDS,
    seed=st.none() | COUNTS,
)
ENTRIES = st.builds(
    LedgerEntry,
    quantity=st.sampled_from(["val_loss", "step_time_s"]), unit=WORDS, predicted=NUMBERS, measured=NUMBERS,
    predicted_at=WORDS, measured_at=WORDS, method=WORDS, interval_80=st.none() | st.tuples(NUMBERS, NUMBERS),
)  # fmt: skip
DOCUMENTS = st.one_of(PARAM_COUNTS, RECIPES, METAS, RECORDS, ROWS, ENTRIES)


@given(DOCUMENTS, st.sampled_from([".json", ".yaml"]))
def test_what_is_written_is_read_back(tmp_path_factory, document, suffix):
    path = tmp_path_factory.mktemp("document") / f"document{suffix}"
    document.write(path)
    assert type(document).read(path) == document


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_json_has_null_for_what_is_no_number(make_record, tmp_path, number):
    record = make_record(result={"val_loss_half_width": number})
    record.write(tmp_path / "record.json")
    text = (tmp_path / "record.json").read_text()
    assert '"val_loss_half_width": null' in text
    json.loads(text, parse_constant=pytest.fail)
    assert Record.read(tmp_path / "record.json").result.val_loss_half_width is None


@given(DOCUMENTS)
def test_a_hash_does_not_depend_on_the_order_of_keys(document):
    raw = document.model_dump(mode="json")
    assert (
        hash_of(document) == hash_of(dict(reversed(raw.items()))) == hash_of(json.loads(canonical_json(raw)))
    )


def test_a_hash_tells_values_apart():
    assert hash_of({"a": 1}) != hash_of({"a": 2})
    assert hash_of({"a": 1}) == "015abd7f5cc57a2d"  # sha256 of '{"a":1}', from the command line's sha256sum


def test_documents_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Recipe().train.num_steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"train": {"num_step": 3}}, "r.yaml: unknown key 'train.num_step'. Did you mean 'num_steps'?"),
        ({"trian": {}}, "r.yaml: unknown key 'trian'. Did you mean 'train'?"),
        (
            {"task": {"qqq": 1}},
            "r.yaml: unknown key 'task.qqq'. Known: beam_size, class_weights, huber_delta, label_smoothing, loss, name.",
        ),
        (
            {"train": {"optimizer": {"lr": -1}}},
            "r.yaml: train.optimizer.lr: input should be greater than 0. Got -1.",
        ),
        (
            {"data": {"vocab_size": 10}},
            "r.yaml: data.vocab_size: a tokenizer that is trained has at least 257 entries, got 10.",
        ),
        ([1], "r.yaml must hold a mapping of keys to values. Got 'list'."),
        (None, "r.yaml must hold a mapping of keys to values. Got 'NoneType'."),
    ],
)
def test_errors_name_the_key_the_constraint_and_what_was_got(raw, message):
    with pytest.raises(RecipeError) as caught:
        Recipe.of(raw, "r.yaml", RecipeError)
    error = caught.value
    assert str(RecipeError(error.message, got=error.got)) == message
    assert error.hint == (Recipe.help_line if isinstance(raw, dict) else None)


def test_a_missing_key_is_named():
    with pytest.raises(RunFolderError, match=r"x: the key 'body' is missing\."):
        ParamCount.of({"embedding": 1, "head": 0}, "x", RunFolderError)


def test_a_misspelt_key_is_named_before_the_one_it_leaves_missing():
    with pytest.raises(RunFolderError, match=r"x: unknown key 'bdoy'\. Did you mean 'body'\?"):
        ParamCount.of({"embedding": 1, "bdoy": 2, "head": 0}, "x", RunFolderError)


def test_nothing_is_coerced_from_text():
    with pytest.raises(RecipeError, match=r"x: train\.num_steps: .*Got 'many'\."):
        Recipe.of({"train": {"num_steps": "many"}}, "x", RecipeError)


def test_a_truncated_document_says_so(tmp_path):
    path = tmp_path / "count.json"
    ParamCount(embedding=1, body=2, head=3).write(path)
    path.write_text(path.read_text()[:-10])
    with pytest.raises(
        RunFolderError, match=rf"count\.json is truncated or not valid JSON: .*\n  try: rm {path}   and run"
    ):
        ParamCount.read(path)


def test_yaml_that_does_not_parse_says_so(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("a: [1,\n")
    with pytest.raises(
        RunFolderError, match=r"recipe\.yaml is truncated or not valid YAML.*\n  try: kleiber schema"
    ):
        Recipe.read(path)


def test_a_document_that_is_not_text_or_not_there_says_so(tmp_path):
    binary = tmp_path / "count.json"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (binary, tmp_path / "none.json", tmp_path):
        with pytest.raises(RunFolderError, match="cannot be read as a paramcount"):
            ParamCount.read(path)


def test_param_count_adds_up_by_each_convention():
    untied = ParamCount(embedding=10, body=100, head=7)
    tied = ParamCount(embedding=10, body=100, head=0, is_tied=True)
    assert [untied.by(c) for c in ("total", "body", "matmul")] == [117, 100, 107]
    assert [tied.by(c) for c in ("total", "body", "matmul")] == [110, 100, 110]
    assert untied.model_dump()["total"] == 117
