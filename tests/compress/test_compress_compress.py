import json
import shutil

import numpy as np
import pytest
import torch

from kleiber.compress import attempt as attempt_module
from kleiber.compress import forget
from kleiber.compress.asked import Asked
from kleiber.compress.compress import compress
from kleiber.compress.gate import Gate
from kleiber.compress.speed import Measuring
from kleiber.compress.steps import parse_step
from kleiber.data import open_data
from kleiber.errors import DivergedError, GateError, RecipeError, UsageError
from kleiber.models import load
from kleiber.models.stored import Quantized, read_forms, stored_bytes
from kleiber.runs import Record, RunFolder, row_of
from kleiber.runs.receipt import Receipt
from kleiber.scaling.verify import _result
from kleiber.tasks import task_of
from kleiber.train import train

QUICK = Measuring(
    engines=("torch",), num_threads=1, num_rounds=2, block_s=0.002, max_batch=2, has_memory=False
)
STEPS = tuple(map(parse_step, ("prune:ratio=0.3", "quantize:bits=8")))


def asked(**bounds):
    return Asked(gate=Gate(**bounds), measuring=QUICK, num_calibration=8)


@pytest.fixture(scope="module")
def compressed(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compressed") / "small"
    said = []
    receipt = compress(trained, STEPS, folder, asked=asked(max_bytes="50%"), on_progress=said.append)
    return folder, receipt, said


def loss_of(folder, recipe):
    data = open_data(recipe.data, seed=0, task=recipe.task)
    module, _ = load(folder / "model")
    return task_of(recipe.task, data.meta).evaluate(module, data).loss


def test_the_receipt_says_what_the_files_hold(trained, compressed):
    folder, receipt, _ = compressed
    assert Receipt.read(folder / "receipt.json") == receipt
    before, after = receipt.before, receipt.after
    module, spec = load(trained / "model")
    assert before.num_params == spec.count().total == sum(one.numel() for one in module.parameters())
    assert before.raw_bytes == 4 * before.num_params
    assert before.stored_bytes == stored_bytes(trained / "model")
    assert before.macs == spec.flops(1).forward // 2
    small, _ = load(folder / "model")
    assert after.stored_bytes == stored_bytes(folder / "model") < before.stored_bytes / 2
    assert after.num_nonzero == sum(int(one.count_nonzero()) for one in small.parameters())
    assert 0.2 < 1 - after.num_nonzero / after.num_params < 0.4
    assert receipt.stored_ratio == after.stored_bytes / before.stored_bytes
    assert [one.step for one in receipt.steps] == ["prune:ratio=0.3", "quantize:bits=8"]
    assert receipt.is_met
    assert receipt.gate[0].got == after.stored_bytes


def test_quality_is_that_of_the_models_on_disk(trained, compressed):
    folder, receipt, _ = compressed
    recipe = RunFolder(trained).read_record().recipe
    losses = loss_of(trained, recipe), loss_of(folder, recipe)
    perplexity, loss = receipt.quality
    assert (perplexity.name, loss.name, receipt.split) == ("perplexity", "loss", "val")
    assert (loss.before.value, loss.after.value) == pytest.approx(losses, rel=1e-6)
    assert perplexity.ratio.value == pytest.approx(np.exp(losses[1] - losses[0]), rel=1e-6)
    assert perplexity.ratio.low < perplexity.ratio.value < perplexity.ratio.high
    assert receipt.main_quality == perplexity


def test_both_workloads_are_timed_on_both_sides(compressed):
    _, receipt, _ = compressed
    assert [(one.engine, one.workload) for one in receipt.engines] == [
        ("torch", "decode"),
        ("torch", "forward"),
    ]
    for side in (receipt.before, receipt.after):
        assert [one.workload for one in side.engines] == ["decode", "forward"]
        assert all(one.latency_s.value > 0 and one.precision.startswith("fp32") for one in side.engines)
    for ratio, before, after in zip(
        receipt.engines, receipt.before.engines, receipt.after.engines, strict=True
    ):
        assert ratio.latency.value == pytest.approx(after.latency_s.value / before.latency_s.value)
        assert ratio.latency.low <= ratio.latency.value <= ratio.latency.high


def test_the_folder_is_a_run_that_loads_with_its_forms(trained, compressed):
    folder, receipt, _ = compressed
    record = RunFolder(folder).read_record()
    assert (record.kind, record.status, record.result, row_of(record)) == ("compress", "finished", None, None)
    assert [(link.run, link.operation, link.step) for link in record.lineage] == [
        ("original", "compress", 100)
    ]
    assert record.recipe == RunFolder(trained).read_record().recipe.model_copy(
        update={"model": record.recipe.model}
    )
    module, spec = load(folder / "model")
    assert spec.count() == record.num_params
    assert any(isinstance(form, Quantized) for form in read_forms(folder / "model", module).values())
    (entry,) = RunFolder(folder).read_ledger()
    assert (entry.quantity, entry.measured) == ("stored_bytes", receipt.after.stored_bytes)
    assert -0.2 < entry.error_frac <= 0  # the names of the tensors are not predicted


def test_the_same_command_returns_the_receipt_and_another_is_refused(trained, compressed, monkeypatch):
    folder, receipt, _ = compressed
    monkeypatch.setattr(attempt_module, "open_source", None)  # nothing is opened
    assert compress(trained, STEPS, folder, asked=asked(max_bytes="50%")) == receipt
    with pytest.raises(RecipeError, match="holds a compression of another model, with other steps"):
        compress(trained, STEPS[:1], folder, asked=asked(max_bytes="50%"))
    with pytest.raises(
        RecipeError,
        match="holds the model that is to be compressed, and a compression needs a folder of its own",
    ):
        compress(trained, STEPS, trained, asked=asked())
    with pytest.raises(
        RecipeError, match="holds a training run, and a compression needs a folder of its own"
    ):
        compress(folder, [parse_step("recover:steps=1")], trained, asked=asked())


@pytest.mark.parametrize("cut", ["model", "ledger.jsonl", "record.json", "receipt.json"])
def test_a_kill_at_any_write_loses_nothing(trained, compressed, tmp_path, cut, monkeypatch):
    folder, receipt, _ = compressed
    order = ["model", "recipe.yaml", "ledger.jsonl", "record.json", "receipt.json"]
    shutil.copytree(folder, tmp_path / "small")
    for name in order[order.index(cut) :]:  # what a kill right before its write leaves
        path = tmp_path / "small" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    said = []
    monkeypatch.setattr(attempt_module, "receipt_of", None)  # neither steps nor measurements are done again
    again = compress(
        trained, STEPS, tmp_path / "small", asked=asked(max_bytes="50%"), on_progress=said.append
    )
    assert again == receipt
    assert not any("prune" in one or "quantize" in one for one in said)
    assert (tmp_path / "small" / "receipt.json").read_bytes() == (folder / "receipt.json").read_bytes()
    assert stored_bytes(tmp_path / "small" / "model") == receipt.after.stored_bytes


def test_another_models_leavings_do_not_stay(trained, compressed, tmp_path):
    folder, _, _ = compressed
    shutil.copytree(folder, tmp_path / "small")
    (tmp_path / "small" / "receipt.json").unlink()
    receipt = compress(trained, STEPS[:1], tmp_path / "small", asked=asked())
    assert stored_bytes(tmp_path / "small" / "model") == receipt.after.stored_bytes
    assert not any(
        isinstance(one, Quantized)
        for one in read_forms(tmp_path / "small" / "model", load(tmp_path / "small" / "model")[0]).values()
    )


def test_the_gate_refuses_and_the_tries_stay(trained, tmp_path):
    folder = tmp_path / "small"
    with pytest.raises(
        GateError,
        match=r"refuses the result \(prune:ratio=0\.9\): max_quality_loss 1% was asked, and .*% is reached",
    ) as raised:
        compress(
            trained,
            [parse_step("prune:ratio=0.9")],
            folder,
            asked=asked(max_quality_loss="1%", max_bytes="90%"),
        )
    assert raised.value.exit_code == 1
    assert "max_bytes" not in raised.value.message
    assert {path.name for path in folder.iterdir()} == {".lock", "tries"}
    wider = compress(trained, [parse_step("prune:ratio=0.9")], folder, asked=asked(max_bytes="90%"))
    assert wider.is_met
    assert (folder / "model" / "config.json").is_file()


def test_what_cannot_be_asked_is_said_before_anything_is_done(trained, tmp_path):
    with pytest.raises(
        UsageError, match="in points is of accuracy and its like, and a model of lm"
    ) as raised:
        compress(trained, STEPS, tmp_path / "small", asked=asked(max_quality_loss="1pt"))
    assert raised.value.exit_code == 2
    with pytest.raises(RecipeError, match="takes one step or more"):
        compress(trained, [], tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_a_recovery_is_counted(trained, tmp_path):
    steps = [parse_step("prune:ratio=0.5"), parse_step("recover:steps=3,teacher=null")]
    receipt = compress(trained, steps, tmp_path / "small", asked=asked())
    recipe = RunFolder(trained).read_record().recipe
    assert receipt.cost.training_tokens == 3 * recipe.tokens_per_step
    assert receipt.cost.training_frac == pytest.approx(0.03)
    record = RunFolder(tmp_path / "small").read_record()
    flops = load(trained / "model")[1].flops(recipe.train.batch_size).total
    assert record.train_flops == pytest.approx(3 * flops)


def test_a_compressed_model_is_compressed_again_and_its_lineage_grows(trained, tmp_path):
    compress(trained, [parse_step("prune:ratio=0.5")], tmp_path / "half", asked=asked())
    compress(tmp_path / "half", [parse_step("quantize:bits=8")], tmp_path / "small", asked=asked())
    record = RunFolder(tmp_path / "small").read_record()
    assert [link.run for link in record.lineage] == ["original", "half"]
    module, _ = load(tmp_path / "small" / "model")
    assert float((module.get_parameter("blocks.0.qkv") == 0).float().mean()) > 0.2


def test_readers_of_records_take_the_new_kind_or_say_why_not(trained, compressed, tmp_path):
    folder, _, _ = compressed
    old = json.loads((trained / "record.json").read_text())
    del old["kind"]
    (tmp_path / "record.json").write_text(json.dumps(old))
    assert Record.read(tmp_path / "record.json").kind == "train"
    with pytest.raises(RecipeError, match=r"holds a compressed model, which was not trained there"):
        train(RunFolder(folder).read_record().recipe, folder)
    with pytest.raises(UsageError, match="is a compressed model: a forecast is of a training run"):
        _result(RunFolder(folder).read_record())


def test_a_model_of_nan_is_no_result(trained, tmp_path, monkeypatch):
    step = parse_step("prune:ratio=0.1")
    apply = type(step).apply

    def broken(self, subject, calibration):
        after = apply(self, subject, calibration)
        with torch.no_grad():
            after.module.get_parameter("final_norm").fill_(float("nan"))
        return after

    monkeypatch.setattr(type(step), "apply", broken)
    with pytest.raises(
        DivergedError, match="the compressed model answers 32 of 32 samples with a loss that is not finite"
    ):
        compress(trained, [step], tmp_path / "small", asked=asked())
    assert not (tmp_path / "small" / "model").exists()


def test_what_stands_there_is_forgotten(trained, compressed, tmp_path):
    shutil.copytree(compressed[0], tmp_path / "small")
    forget(tmp_path / "small")
    assert {path.name for path in (tmp_path / "small").iterdir()} <= {".lock"}
    forget(tmp_path / "nothing")
    with pytest.raises(RecipeError, match="holds a training run"):
        forget(trained)
    assert (trained / "model").is_dir()
