from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.data import open_data
from kleiber.data.bundled_series import BUNDLED_SERIES, bundled_series
from kleiber.data.sample_data import SampleData
from kleiber.data.series import open_series, split_in_time
from kleiber.data.source import Source
from kleiber.errors import DataError, MissingExtraError
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

REGRESSION = TaskRecipe(name="regression")


def source_of(argument: str, cache: Path, task: TaskRecipe = REGRESSION, **keys: object) -> Source:
    recipe = DataRecipe.model_validate({"source": f"series:{argument}", **keys})
    return open_series(recipe, task, argument, cache=cache, on_progress=lambda _: None)


def write(folder: Path, *rows: str, header: str = "day,x,y") -> str:
    path = folder / "a.csv"
    path.write_text("\n".join([header, *rows]))
    return str(path)


def ten_rows(folder: Path) -> str:
    return write(folder, *(f"day {row},{10 * row},{row}" for row in range(10)))


def test_windows_are_the_past_and_what_follows(tmp_path: Path) -> None:
    source = source_of(
        ten_rows(tmp_path), tmp_path, context=3, horizon=2, val_frac=0.2, test_frac=0.2, columns=["x"]
    )
    assert source.shape.model_dump(exclude_defaults=True) == {
        "inputs": "series",
        "context": 3,
        "num_features": 2,
        "num_outputs": 2,
    }
    series = source.train.samples.gather(np.array([1, 0]))["series"]
    assert (series.dtype, series.tolist()) == (
        np.float32,
        [[[1, 10], [2, 20], [3, 30]], [[0, 0], [1, 10], [2, 20]]],
    )
    values = {
        name: [] if part.values is None else part.values.tolist() for name, part in source.parts.items()
    }
    assert values == {"train": [[3, 4], [4, 5]], "val": [[6, 7]], "test": [[8, 9]]}
    assert source.parts["test"].samples.gather(np.array([0]))["series"][0, :, 0].tolist() == [5, 6, 7]


def test_the_targets_own_past_is_all_unless_columns_are_named(tmp_path: Path) -> None:
    source = source_of(ten_rows(tmp_path), tmp_path, context=3, target="x", val_frac=0.2)
    assert source.train.samples.gather(np.array([0]))["series"].tolist() == [[[0], [10], [20]]]


@given(
    num_rows=st.integers(5, 300), context=st.integers(2, 30), horizon=st.integers(1, 9),
    val_frac=st.floats(0.01, 0.49), test_frac=st.sampled_from([0.0, 0.1, 0.3]),
)  # fmt: skip
def test_no_split_sees_what_a_later_one_predicts(
    num_rows: int, context: int, horizon: int, val_frac: float, test_frac: float
) -> None:
    recipe = DataRecipe(context=context, horizon=horizon, val_frac=val_frac, test_frac=test_frac)
    try:
        starts = split_in_time(num_rows, recipe)
    except DataError:  # too short, as another test says
        return
    assert list(starts) == ["train", "val", "test"][: 2 + bool(test_frac)]
    end = 0
    for own in starts.values():
        targets = own[:, None] + context + np.arange(horizon)
        assert own.min() >= 0
        assert targets.min() >= end
        end = targets.max() + 1
    assert end == num_rows


def test_windows_over_missing_numbers_are_left_out_on_request(tmp_path: Path) -> None:
    rows = [f"day {row},0,{'' if row == 4 else row}" for row in range(16)]
    path = write(tmp_path, *rows)
    with pytest.raises(
        DataError, match=r"column 'y' has no number at line 6 of .*a\.csv\.\n  try: .*skips_bad_samples"
    ):
        source_of(path, tmp_path, context=3)
    source = source_of(path, tmp_path, context=3, val_frac=0.2, skips_bad_samples=True)
    assert source.train.values is not None
    assert source.train.values.ravel().tolist() == [3, 8, 9, 10, 11, 12]
    assert source.num_bad_samples == 1
    assert source.notes == ("windows over 1 row without a number are left out",)


def test_the_front_door_keeps_the_order_of_time(tmp_path: Path) -> None:
    recipe = DataRecipe(
        source="series:sunspots", context=22, val_frac=0.15, test_frac=0.2, normalization="none"
    )
    data = open_data(recipe, seed=0, task=REGRESSION, cache=tmp_path)
    assert isinstance(data, SampleData)
    assert {name: len(part) for name, part in data.parts.items()} == {"train": 179, "val": 46, "test": 62}
    last = next(data.batches("test", 61, 1)).arrays
    # The published series ends 2008 with 2.9, after 15.2 and 7.5.
    assert last["values"].round(1).tolist() == [[np.float32(2.9)]]
    assert last["series"][0, -2:, 0].round(1).tolist() == pytest.approx([15.2, 7.5])


def test_every_bundled_series_opens(tmp_path: Path) -> None:
    for name in BUNDLED_SERIES:
        table = bundled_series(f"series:{name}", name)
        (rows,) = table.chunks()
        assert set(rows.columns) == set(table.columns)
        assert len(rows) == table.stats[0][1] >= 25


def refused(argument: str, cache: Path, message: str, **keys: object) -> None:
    with pytest.raises(DataError, match=message):
        source_of(argument, cache, **keys)


def test_an_unknown_series_names_the_nearest(tmp_path: Path) -> None:
    refused("sunspot", tmp_path, r"no bundled series\. Did you mean 'sunspots'\?")
    refused("nowhere/a.csv", tmp_path, "there is no such file or folder")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"context": 9}, r"of its 10 rows 0 can be predicted in the train split, and a window with context 9 and horizon 1 needs 1"),
        ({"context": 2, "horizon": 3}, r"of its 10 rows 2 can be predicted in the val split.*\n  try: --set data\.val_frac=0\.35"),
        ({"context": 2, "horizon": 2, "test_frac": 0.1}, r"10 rows 1 can be predicted in the test split.*\n  try: --set data\.test_frac=0\.25"),
        ({"target": "z"}, r"data\.target: .* has no column 'z'"),
        ({"columns": ["z"]}, r"data\.columns: .* has no column 'z'"),
        ({"target": "day"}, r"column 'day' must hold numbers, and it does not at line 2 of .*Got 'day 0'"),
        ({"field": "x"}, r"data\.field has no effect"),
        ({"split_field": "x"}, r"data\.split_field has no effect"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path: Path, keys: dict[str, object], message: str) -> None:
    refused(ten_rows(tmp_path), tmp_path, message, **{"val_frac": 0.2, **keys})


def test_the_fractions_that_are_named_work(tmp_path: Path) -> None:
    path = ten_rows(tmp_path)
    assert source_of(path, tmp_path, context=2, horizon=3, val_frac=0.35).val is not None
    assert source_of(path, tmp_path, context=2, horizon=2, val_frac=0.2, test_frac=0.25).test is not None


def test_a_series_is_a_regression(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"is a time series, whose next values are a regression\. Got 'classification'"
    ):
        source_of("sunspots", tmp_path, TaskRecipe(name="classification"))


def test_files_that_are_splits_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("x,y\n1,2\n")
    refused(str(tmp_path), tmp_path, r"a series is split in time, and .*train\.csv is the train split")


def test_a_column_without_a_number_is_named(tmp_path: Path) -> None:
    refused(
        write(tmp_path, "a,1,", "b,2,"), tmp_path, "has no row with a number in 'y'", skips_bad_samples=True
    )


def test_a_missing_statsmodels_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    with pytest.raises(MissingExtraError, match="The bundled series 'nile' needs the package 'statsmodels'"):
        bundled_series("series:nile", "nile")
