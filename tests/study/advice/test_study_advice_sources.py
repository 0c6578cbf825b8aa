"""Receipts and donors as routes: what was measured becomes ratios, by hand; what is none is refused."""

from __future__ import annotations

import math

import pytest

from kleiber.errors import ConventionError, RunFolderError, UsageError
from kleiber.runs import RunFolder
from kleiber.study.advice.served import Request
from kleiber.study.advice.sources import compressed, read_donor, receipt_folders

ONE, MANY = Request(512, 128, 1), Request(512, 128, 32)


@pytest.fixture
def folder(tmp_path, receipt):
    path = tmp_path / "small"
    path.mkdir()
    receipt.write(path / "receipt.json")
    return path


def test_elsewhere_a_receipt_counts_by_bytes_and_operations(folder):
    way = compressed(folder, MANY, weight_bytes=2.0, is_here=False)
    # 800 weights of 1 byte in place of 1,000 of 2
    assert way.served.bytes_ratio == pytest.approx(0.4)
    assert way.served.flops_ratio == pytest.approx(0.8)
    assert (way.served.read_time_ratio, way.served.write_time_ratio) == (None, None)
    assert (way.rise.value, way.rise.low, way.rise.high) == pytest.approx((0.05, 0.04, 0.06))
    assert (way.train_factor, way.serve_factor.low) == (1.2, 1.0)
    assert "its times are of another machine" in way.rests_on


def test_weights_that_were_only_removed_are_served_in_no_more_bytes_than_others(folder, receipt):
    pruned = receipt.after.model_copy(update={"stored_bytes": 3200})  # fp32 still
    receipt.model_copy(update={"after": pruned}).write(folder / "receipt.json")
    assert compressed(folder, MANY, weight_bytes=2.0, is_here=False).served.bytes_ratio == pytest.approx(0.8)


@pytest.mark.parametrize(("request_", "read", "write"), [(ONE, 0.5, 0.4), (MANY, 0.5, 0.4)])
def test_here_a_receipts_own_times_count(folder, request_, read, write):
    way = compressed(folder, request_, weight_bytes=4.0, is_here=True)
    assert (way.served.read_time_ratio, way.served.write_time_ratio) == pytest.approx((read, write))
    low, high = (0.9, 1.1) if request_ is ONE else (0.8, 1.25)
    assert (way.serve_factor.low, way.serve_factor.high) == pytest.approx((low, high))


def test_a_receipt_with_perplexity_alone_gives_its_logarithm(folder, receipt):
    receipt.model_copy(update={"quality": receipt.quality[:1]}).write(folder / "receipt.json")
    way = compressed(folder / "receipt.json", MANY, weight_bytes=2.0, is_here=False)
    assert way.rise.value == pytest.approx(math.log(1.05))
    assert way.title == "large, then as small"


def test_a_folder_without_a_receipt_and_a_classifiers_are_refused(folder, receipt, tmp_path):
    with pytest.raises(RunFolderError, match=r"has no receipt\.json: it was not compressed"):
        compressed(tmp_path, MANY, weight_bytes=2.0, is_here=False)
    accuracy = receipt.quality[0].model_copy(update={"name": "accuracy"})
    receipt.model_copy(update={"quality": (accuracy,)}).write(folder / "receipt.json")
    with pytest.raises(UsageError, match="where a language model was compressed"):
        compressed(folder, MANY, weight_bytes=2.0, is_here=False)


def test_receipts_are_found_in_a_folder_of_runs(folder, receipt, tmp_path):
    runs = tmp_path / "runs"
    for name in ("a", "b", "small"):
        (runs / name).mkdir(parents=True)
    receipt.write(runs / "a" / "receipt.json")
    receipt.write(runs / "small" / "receipt.json")
    found = receipt_folders([folder, runs])
    assert found == {folder: str(folder), runs / "a": "a", runs / "small": str(runs / "small")}
    assert compressed(folder, MANY, weight_bytes=2.0, is_here=False, name="x").title == "large, then as x"
    assert receipt_folders([runs / "b"]) == {runs / "b": "b"}  # refused where it is read


def test_a_donor_is_read_as_the_law_counts(make_law, make_record, tmp_path):
    record = make_record("small")
    record.write(RunFolder(tmp_path).record_path)
    start = read_donor(tmp_path, make_law(convention="body"))
    assert (start.run, start.num_params, start.train_flops) == ("small", 20.0, 6e6)
    assert start.loss == record.result.val_loss


def test_what_is_no_donor_is_refused(make_law, make_record, tmp_path):
    def put(**changes):
        make_record("small").model_copy(update=changes).write(RunFolder(tmp_path).record_path)

    put()
    with pytest.raises(
        ConventionError, match=r"The law's losses are of evaluation set f, and .* is of another"
    ):
        read_donor(tmp_path, make_law(eval_hash="f"))
    put(status="interrupted")
    with pytest.raises(UsageError, match="has not finished, and a donor is a run that was trained"):
        read_donor(tmp_path, make_law())
    put(kind="compress", result=None)
    with pytest.raises(UsageError, match="is a compressed model, and a donor is a run that was trained"):
        read_donor(tmp_path, make_law())
    recipe = make_record().recipe.with_values(["task.name=classification"])
    put(recipe=recipe)
    with pytest.raises(UsageError, match=r"A donor is a language model\. Got 'classification'"):
        read_donor(tmp_path, make_law())
