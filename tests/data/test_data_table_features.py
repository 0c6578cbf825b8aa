from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import OneHotEncoder

from kleiber.data import open_data
from kleiber.data.sample_data import SampleData
from kleiber.data.source import Source
from kleiber.data.table import columns as table_columns
from kleiber.data.table import features, table
from kleiber.data.table.columns import Features
from kleiber.data.table.sources import open_rows
from kleiber.errors import DataError
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

PEOPLE = """part,age,job,height,income
train,30,nurse,1.5,low
train,?,nurse,1.6,high
train,50,,1.7,low
valid,70,pilot,,high
train,20,baker,1.8,high
test,,,1.9,low
"""


def source_of(folder: Path, content: str, task: str = "classification", **keys: object) -> Source:
    (folder / "a.csv").write_text(content)
    recipe = DataRecipe.model_validate({"source": f"csv:{folder}/a.csv", **keys})
    return open_rows(
        recipe,
        TaskRecipe.model_validate({"name": task}),
        f"{folder}/a.csv",
        cache=folder / "cache",
        on_progress=lambda _: None,
    )


def features_of(source: Source, split: str) -> list[list[float]]:
    part = source.parts[split]
    array = part.samples.gather(np.arange(len(part)))["features"]
    assert array.dtype == np.float32
    return np.asarray(array.astype(float)).round(3).tolist()


def test_what_is_fitted_is_fitted_to_the_training_rows(tmp_path: Path) -> None:
    source = source_of(tmp_path, PEOPLE, split_field="part")
    folder = next((tmp_path / "cache" / "tables").iterdir())
    fitted = Features.read(folder / "columns.json")
    assert fitted.names == (
        "age", "age is missing", "job = baker", "job = nurse", "job is missing", "job is new", "height"
    )  # fmt: skip
    assert source.shape.num_features == 7
    # The median of 30, 50, 20 is 30; of the four heights 1.65, for no training row lacks one.
    assert features_of(source, "train") == [
        [30, 0, 0, 1, 0, 0, 1.5],
        [30, 1, 0, 1, 0, 0, 1.6],
        [50, 0, 0, 0, 1, 0, 1.7],
        [20, 0, 1, 0, 0, 0, 1.8],
    ]
    assert features_of(source, "val") == [[70, 0, 0, 0, 0, 1, 1.65]]
    assert features_of(source, "test") == [[30, 1, 0, 0, 1, 0, 1.9]]
    assert source.classes == ("high", "low")
    assert [None if part.labels is None else part.labels.tolist() for part in source.parts.values()] == [
        [1, 0, 1, 0],
        [0],
        [1],
    ]
    assert source.notes == ("3 columns became 7 features",)
    assert sorted(path.name for path in folder.iterdir()) == [
        "columns.json",
        "features.npy",
        "labels.npy",
        "meta.json",
        "splits.npy",
    ]


def test_rows_that_are_carved_out_are_not_fitted_to(tmp_path: Path) -> None:
    content = "id,y\n" + "".join(f"name{row},{row % 2}\n" for row in range(40))
    source = source_of(tmp_path, content, val_frac=0.25, test_frac=0.1)
    assert source.val is None
    data = open_data(
        DataRecipe(source=f"csv:{tmp_path}/a.csv", val_frac=0.25, test_frac=0.1, normalization="none"),
        seed=0, task=TaskRecipe(name="classification"), cache=tmp_path / "cache",
    )  # fmt: skip
    assert isinstance(data, SampleData)
    assert data.meta.shape.num_features == 28 + 1, "one a training row, and one for all others"
    for split, num, new in (("train", 28, 0), ("val", 8, 1), ("test", 4, 1)):
        batch = next(data.batches(split, 0, num))
        np.testing.assert_array_equal(batch.arrays["features"][:, -1], new)
        assert len(batch) == num


CELLS = st.lists(st.sampled_from(["", "a", "b", "c", "d e"]), min_size=4, max_size=30)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=CELLS, chunk=st.integers(1, 7))
def test_categories_are_those_of_scikit_learn(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, cells: list[str], chunk: int
) -> None:
    monkeypatch.setattr(table, "CHUNK_ROWS", chunk)
    monkeypatch.setattr(features, "CHUNK_ROWS", chunk)
    monkeypatch.setattr(features, "_BLOCK_BYTES", 1)
    num_train = len(cells) // 2
    cells[0] = "a"
    rows = [f"{'train' if row < num_train else 'test'},{cell},{row % 2}" for row, cell in enumerate(cells)]
    source = source_of(
        tmp_path_factory.mktemp("table"),
        "part,x,y\n" + "\n".join(["valid,a,0", "train,b,0", "train,b,1", *rows]),
        split_field="part",
    )
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    train = np.array([["b"], ["b"], *([cell] for cell in cells[:num_train])])
    expected = encoder.fit_transform(train)
    # Ours puts the missing ones after the others, theirs sorts "" first; ours has one for what is new.
    order = [index for index, name in enumerate(encoder.categories_[0]) if name] + [
        index for index, name in enumerate(encoder.categories_[0]) if not name
    ]
    got = np.array(features_of(source, "train"))
    np.testing.assert_array_equal(got[:, :-1], expected[:, order])
    np.testing.assert_array_equal(got[:, -1], 0)
    test = np.array([[cell] for cell in cells[num_train:]])
    got = np.array(features_of(source, "test"))
    np.testing.assert_array_equal(got[:, :-1], encoder.transform(test)[:, order])
    np.testing.assert_array_equal(got.sum(1), 1)


def test_named_columns_alone_are_learnt_from(tmp_path: Path) -> None:
    source = source_of(
        tmp_path,
        PEOPLE,
        "regression",
        split_field="part",
        columns=["height"],
        target="age",
        skips_bad_samples=True,
    )
    assert features_of(source, "train") == [[1.5], [1.7], [1.8]]
    assert source.train.values is not None
    assert source.train.values.tolist() == [[30], [50], [20]]
    assert (source.shape.num_outputs, source.num_bad_samples, source.test) == (1, 2, None)


def test_numbers_among_texts_are_said(tmp_path: Path) -> None:
    source = source_of(tmp_path, "x,y\n1,0\n2,1\n3+,0\n1,1\n")
    assert (
        source.notes[1]
        == f"column 'x' is read as categories, for it holds numbers and '3+' (line 4 of {tmp_path}/a.csv)"
    )


def test_the_cache_answers_until_the_file_or_the_recipe_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = source_of(tmp_path, PEOPLE, split_field="part")
    monkeypatch.setattr(features, "scan_columns", lambda *_: pytest.fail("prepared again"))
    path = tmp_path / "a.csv"
    recipe = DataRecipe(source=f"csv:{path}", split_field="part", normalization="unit")
    again = open_rows(
        recipe,
        TaskRecipe(name="classification"),
        str(path),
        cache=tmp_path / "cache",
        on_progress=lambda _: None,
    )
    assert again.content_hash == first.content_hash
    with pytest.raises(pytest.fail.Exception):
        source_of(tmp_path, PEOPLE + "train,1,nurse,1,low\n", split_field="part")


def test_another_fraction_held_out_is_fitted_anew(tmp_path: Path) -> None:
    content = "age,income\n" + "".join(f"{row or '?'},{'lh'[row % 2]}\n" for row in range(40))
    source_of(tmp_path, content, val_frac=0.1)
    recipe = DataRecipe(source=f"csv:{tmp_path}/a.csv", val_frac=0.4)
    open_rows(
        recipe,
        TaskRecipe(name="classification"),
        f"{tmp_path}/a.csv",
        cache=tmp_path / "cache",
        on_progress=str,
    )
    folders = list((tmp_path / "cache" / "tables").iterdir())
    medians = {Features.read(folder / "columns.json").columns[0].median for folder in folders}
    assert len(medians) == 2


def test_samples_are_handed_to_processes_without_their_numbers(tmp_path: Path) -> None:
    content = "x,y\n" + "".join(f"{row},{row % 2}\n" for row in range(20_000))
    samples = source_of(tmp_path, content).train.samples.whole  # type: ignore[attr-defined]
    pickled = pickle.dumps(samples)
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled).gather(np.array([7]))["features"], [[7]])  # noqa: S301 - our own


def refused(folder: Path, content: str, message: str, task: str = "classification", **keys: object) -> None:
    with pytest.raises(DataError, match=message):
        source_of(folder, content, task, **keys)


def test_empty_columns_are_named(tmp_path: Path) -> None:
    refused(
        tmp_path,
        "a,b,c,y\n" + "1,,?,0\n2,NA,,1\n" * 2,
        r"has empty columns: 'b', 'c'\.\n  try: --set 'data\.columns=\[a\]'",
    )
    refused(
        tmp_path, "part,a,b,y\ntrain,1,,0\ntrain,2,,1\nvalid,1,5,0\n",
        r"column 'b' of 'csv:.*' is empty in all training rows", split_field="part",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"columns": ["agee"]}, r"data\.columns: .* has no column 'agee'\. Did you mean 'age'\?"),
        (
            {"columns": ["age", "income"]},
            r"data\.columns must not hold 'income', the target\.\n  try: --set 'data\.columns=\[age\]'",
        ),
        ({"columns": ["part"]}, r"data\.columns must not hold 'part', the split_field"),
        ({"columns": []}, "has no columns to learn from"),
        ({"horizon": 2}, r"data\.horizon has no effect"),
        ({"has_quality_filter": True}, r"data\.has_quality_filter has no effect"),
    ],
)
def test_keys_that_do_not_fit_are_refused(tmp_path: Path, keys: dict[str, object], message: str) -> None:
    refused(tmp_path, PEOPLE, message, split_field="part", **keys)


def test_numbers_beyond_float32_are_refused(tmp_path: Path) -> None:
    refused(
        tmp_path,
        "x,y\n1,0\ninf,1\n1,0\n1,1\n",
        r"column 'x' holds a number that is not finite in float32 at line 3 of .*Got 'inf'",
    )


def test_texts_are_no_categories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_columns, "MAX_CATEGORIES", 3)
    refused(
        tmp_path, "x,y\n" + "".join(f"word{row},{row % 2}\n" for row in range(5)),
        r"column 'x' holds more than 3 different texts by line 5 of .*a\.csv\.\n  try: --set data\.field=x",
    )  # fmt: skip
    refused(
        tmp_path, "x,y\n" + "".join(f"{row},{row % 2}\n" for row in range(5)) + "12a,0\n",
        r"more than 3 different texts by line 7 .*; its first cell that is no number is '12a' at line 7",
    )  # fmt: skip


def test_cells_that_are_neither_number_nor_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": [1], "y": 0}\n{"x": [2], "y": 1}\n' * 2)
    recipe = DataRecipe(source=f"jsonl:{tmp_path}/a.jsonl")
    with pytest.raises(
        DataError, match=r"column 'x' must hold numbers or categories, and holds a list at line 1"
    ):
        open_rows(
            recipe,
            TaskRecipe(name="classification"),
            f"{tmp_path}/a.jsonl",
            cache=tmp_path,
            on_progress=lambda _: None,
        )


@pytest.mark.parametrize(
    ("task", "hint"), [("seq2seq", "data.source=pairs:FILE"), ("contrastive", "task.name=classification")]
)
def test_a_task_that_asks_for_something_else_is_refused(tmp_path: Path, task: str, hint: str) -> None:
    refused(tmp_path, PEOPLE, rf"the task {task} asks for something else\.\n  try: .*{hint}", task)


def test_every_stage_is_told(tmp_path: Path) -> None:
    stages: list[str] = []
    (tmp_path / "a.csv").write_text(PEOPLE)
    recipe = DataRecipe(source=f"csv:{tmp_path}/a.csv", split_field="part")
    open_rows(
        recipe,
        TaskRecipe(name="classification"),
        f"{tmp_path}/a.csv",
        cache=tmp_path,
        on_progress=stages.append,
    )
    assert stages == [
        "reading what is to be predicted",
        "looking through the columns",
        "reading the columns",
        "making features",
    ]
