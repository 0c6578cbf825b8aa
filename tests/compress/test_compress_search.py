import dataclasses
import json

import pytest
import torch

from kleiber.compress.asked import Asked
from kleiber.compress.attempt import open_original
from kleiber.compress.calibration import calibration_of
from kleiber.compress.gate import Gate
from kleiber.compress.quantize.sensitivity import mean_loss
from kleiber.compress.search import SearchSettings, search
from kleiber.compress.search.sensitivity import _pruned, sensitivity_of
from kleiber.compress.speed import Measuring
from kleiber.errors import GateError, RecipeError, UsageError
from kleiber.models import load
from kleiber.models.stored import stored_bytes
from kleiber.runs import RunFolder

QUICK = Measuring(
    engines=("torch",), num_threads=1, num_rounds=2, block_s=0.002, max_batch=1, has_memory=False
)
SETTINGS = SearchSettings(budget_frac=0.2, max_tries=4, num_finalists=1)


def asked(**bounds):
    return Asked(gate=Gate(**bounds), measuring=QUICK, num_calibration=8)


@pytest.fixture(scope="module")
def found(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "small"
    said = []
    bounds = asked(max_quality_loss="10%", max_bytes="50%")
    return (
        folder,
        search(trained, folder, asked=bounds, settings=SETTINGS, on_progress=said.append),
        bounds,
        said,
    )


def test_what_is_found_meets_the_gate_with_the_fewest_bytes_of_those_that_do(trained, found):
    folder, receipt, _, _ = found
    assert receipt.is_met
    assert [one.is_met for one in receipt.gate] == [True, True]
    assert (
        stored_bytes(folder / "model") == receipt.after.stored_bytes <= 0.5 * stored_bytes(trained / "model")
    )
    (chosen,) = [one for one in receipt.tried if one.is_chosen]
    assert chosen.steps == tuple(one.step for one in receipt.steps)
    assert chosen.stored_bytes == receipt.after.stored_bytes
    meeting = [
        one
        for one in receipt.tried
        if one.quality_loss <= 0.1 and one.stored_bytes <= 0.5 * receipt.before.stored_bytes
    ]
    assert chosen.stored_bytes == min(one.stored_bytes for one in meeting)
    assert RunFolder(folder).read_record().kind == "compress"
    load(folder / "model")


def test_every_try_is_in_the_receipt_and_on_disk(found):
    folder, receipt, _, _ = found
    lines = [json.loads(line) for line in (folder / "tries" / "tries.jsonl").read_text().splitlines()]
    assert len([one for one in lines if one["tried"]]) == len(receipt.tried) >= 3
    assert len({one["key"] for one in lines}) == len(lines)
    assert any(one.is_on_front for one in receipt.tried)
    trained_on = sum({chain: num for one in lines for chain, num in one["tokens"].items()}.values())
    assert receipt.cost.training_tokens == trained_on
    assert receipt.cost.training_frac <= 0.2 + 0.04  # whole steps


def test_the_same_search_returns_the_receipt(trained, found):
    folder, receipt, bounds, _ = found
    assert search(trained, folder, asked=bounds, settings=SETTINGS) == receipt
    with pytest.raises(RecipeError, match="holds a compression of another model"):
        search(trained, folder, asked=bounds)


def test_what_was_tried_is_not_tried_again(trained, found):
    folder, receipt, bounds, said = found
    assert any(one.startswith("trying") for one in said)
    (folder / "receipt.json").unlink()
    again = []
    repeated = search(trained, folder, asked=bounds, settings=SETTINGS, on_progress=again.append)
    assert repeated == receipt
    assert not any(one.startswith(("trying", "measuring what", "quantize", "shrink")) for one in again)


def test_a_bound_that_nobody_meets_names_the_closest(trained, tmp_path):
    with pytest.raises(
        GateError, match=r"refuses each of \d+ results; the closest \(.+\): .*max_bytes 1kB was asked"
    ):
        search(
            trained,
            tmp_path / "tiny",
            asked=asked(max_bytes="1kB"),
            settings=SearchSettings(budget_frac=0.01, max_tries=2, num_finalists=1),
        )
    assert not (tmp_path / "tiny" / "model").exists()
    assert (tmp_path / "tiny" / "tries" / "tries.jsonl").is_file()


def test_a_search_needs_a_bound(trained, tmp_path):
    with pytest.raises(UsageError, match="a search needs a bound to meet"):
        search(trained, tmp_path / "small", asked=asked())


def test_a_model_without_hidden_layers_has_nothing_to_search(trained):
    subject = open_original(trained, None, 0).subject
    calibration = calibration_of(subject.data, 4)
    with pytest.raises(
        UsageError, match="treats the layers between embedding and head, and this model has none"
    ):
        sensitivity_of(dataclasses.replace(subject, module=torch.nn.Embedding(300, 300)), calibration)


def test_sensitivity_is_the_loss_with_one_layer_treated(trained):
    subject = open_original(trained, None, 0).subject
    calibration = calibration_of(subject.data, 4)
    before = {name: one.clone() for name, one in subject.module.named_parameters()}
    found = sensitivity_of(subject, calibration)
    assert all(torch.equal(one, before[name]) for name, one in subject.module.named_parameters())
    with torch.no_grad():
        loss = mean_loss(subject.module, subject.task, calibration.batches)
        param = subject.module.get_parameter("blocks.1.mlp_down")
        param.copy_(_pruned(param, 0.8))
        change = mean_loss(subject.module, subject.task, calibration.batches) - loss
    assert change > 0
    assert found.by_layer("prune", 0.8)["blocks.1.mlp_down"] == pytest.approx(change, rel=1e-4)
