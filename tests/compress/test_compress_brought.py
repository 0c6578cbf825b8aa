"""Modules in a user's file, with a state dict, through every step and engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kleiber.compress.brought import bring
from kleiber.compress.calibration import Calibration, calibration_of
from kleiber.compress.kept import read_subject, write_subject
from kleiber.compress.pipeline import run_steps
from kleiber.compress.source import open_source
from kleiber.compress.steps import parse_step
from kleiber.compress.subject import Subject
from kleiber.data.batches import Batch
from kleiber.errors import RecipeError, RunFolderError, UsageError
from kleiber.infer.engines import PredictorModule, open_predictor
from kleiber.infer.measure import Opening, peak_memory_bytes, staged_forward
from kleiber.models.config_file import model_hash
from kleiber.models.file import FileSpec, named
from kleiber.models.file.module import build
from kleiber.models.stored import LowRank, Masked, Quantized, stored_bytes
from kleiber.runs import DataShape, Recipe
from kleiber.tasks.evaluation import model_inputs

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2)
        self.dense, self.head = nn.Linear(18 * width, 24), nn.Linear(24, 10)

    def forward(self, images):
        hidden = torch.relu(self.norm(self.conv1(images)))
        return self.head(torch.relu(self.dense(torch.relu(self.conv2(hidden)).flatten(1))))


def perceptron(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


class Deciding(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.head = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, images):
        hidden = torch.relu(self.up(images.flatten(1)))
        if hidden.sum() > 0:
            hidden = 2 * hidden
        return self.head(hidden)
"""
DIGITS = DataShape(inputs="images", channels=1, height=8, width=8, num_outputs=10)
RECIPE = Recipe().with_values(
    [
        "task.name=classification",
        "data.source=digits",
        "train.batch_size=32",
        "train.num_steps=100",
        "train.optimizer.lr=0.01",
        "parallel.num_threads=1",
    ]
)
INITS: dict[str, dict[str, int]] = {"Net": {"width": 4}, "perceptron": {"width": 32}, "Deciding": {}}
EVERY = pytest.mark.parametrize("name", ["Net", "perceptron"])


class Brought:
    """Code and what it was trained to: a few steps, by no tool of ours."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.code = folder, folder / "my_model.py"
        self.code.write_text(CODE)
        self.subjects: dict[str, Subject] = {}

    def typed(self, name: str) -> str:
        return f"{self.code}:{name}"

    def weights(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def open(self, name: str) -> Subject:
        """The model that is to be compressed, trained on the first call."""
        if name not in self.subjects:
            spec = FileSpec.of_size({"path": str(self.code), "name": name, "init": INITS[name]}, DIGITS)
            module = build(spec, seed=0).module
            save_file(module.state_dict(), self.weights(name))
            subject = open_source(self.typed(name), RECIPE, weights=self.weights(name), init=INITS[name])
            optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
            for step, batch in zip(range(80), subject.data.batches("train", 0, 64), strict=False):
                del step
                loss = subject.task.loss(module.train(), batch)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call] # torch's
                optimizer.step()
            save_file(module.state_dict(), self.weights(name))
            self.subjects[name] = open_source(
                self.typed(name), RECIPE, weights=self.weights(name), init=INITS[name]
            )
        return self.subjects[name]


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Brought:
    return Brought(tmp_path_factory.mktemp("brought"))


def calibrated(subject: Subject) -> Calibration:
    return calibration_of(subject.data, num_samples=64)


def images(subject: Subject, num: int = 16) -> torch.Tensor:
    batch: Batch = next(subject.data.batches("train", 1, num))
    return model_inputs(batch)[0].clone()


def accuracy(subject: Subject) -> float:
    return subject.task.evaluate(subject.module, subject.data).values["accuracy"].value


@EVERY
def test_code_with_a_state_dict_is_a_subject(brought: Brought, name: str) -> None:
    subject = brought.open(name)
    assert accuracy(subject) > 0.7
    assert subject.recipe.model.size == {
        "path": str(brought.code),
        "name": name,
        "init": INITS[name],
        "file_hash": named.file_hash(str(brought.code)),
    }
    assert not subject.forms


PIPELINES = {
    "prune:ratio=0.5,method=sparsegpt": {Masked},
    "prune:ratio=0.5,method=magnitude": {Masked},
    "quantize:bits=8,inputs=static": {Quantized},
    "quantize:bits=4,group_size=16,method=gptq": {Quantized},
    "factorize:ratio=0.5": {LowRank},
    "prune:ratio=0.5 quantize:bits=8": {Quantized},
}


@EVERY
@pytest.mark.parametrize("steps", PIPELINES)
def test_steps_work_and_are_stored(brought: Brought, tmp_path: Path, name: str, steps: str) -> None:
    before = brought.open(name)
    after = before
    for step in steps.split():
        after = parse_step(step).apply(after, calibrated(before))
    assert {type(form) for form in after.forms.values()} == PIPELINES[steps]
    assert accuracy(after) > 0.55
    write_subject(before, tmp_path / "before")
    write_subject(after, tmp_path / "after")
    assert stored_bytes(tmp_path / "after") != stored_bytes(tmp_path / "before")
    back = read_subject(tmp_path / "after", before)
    assert back.forms.keys() == after.forms.keys()
    x = images(before)
    assert torch.allclose(back.module(x), after.module(x), atol=1e-5)


def test_shrink_has_no_spec_to_say_what_is_left(brought: Brought) -> None:
    subject = brought.open("perceptron")
    with pytest.raises(
        RecipeError, match=r"shrink: the sizes of .*:perceptron stand in its own code, and no spec"
    ):
        parse_step("shrink:params=0.5").apply(subject, calibrated(subject))


def test_a_pruned_module_is_recovered_and_taken_up(brought: Brought, tmp_path: Path) -> None:
    subject = brought.open("perceptron")
    source = bring(
        brought.typed("perceptron"),
        tmp_path / "original",
        RECIPE,
        weights=brought.weights("perceptron"),
        init=INITS["perceptron"],
    )
    steps = [parse_step("prune:ratio=0.8"), parse_step("recover:steps=20,lr=0.003")]
    opened = open_source(source, RECIPE)
    assert torch.equal(opened.module(images(subject)), subject.module(images(subject)))
    after, _ = run_steps(opened, steps, calibrated(subject), tmp_path / "work", source=source)
    pruned = parse_step("prune:ratio=0.8").apply(subject, calibrated(subject))
    assert accuracy(after) > accuracy(pruned)
    for name, form in pruned.forms.items():
        assert isinstance(form, Masked)
        weight = after.module.get_parameter(name).reshape(form.is_kept_RC.shape)
        assert not weight[~form.is_kept_RC].any()
    told: list[str] = []
    again, _ = run_steps(
        opened, steps, calibrated(subject), tmp_path / "work", source=source, on_progress=told.append
    )
    assert told == []
    assert torch.equal(again.module(images(subject)), after.module(images(subject)))


def test_the_same_code_and_weights_are_the_same_folder(brought: Brought, tmp_path: Path) -> None:
    brought.open("Net")

    def hash_now() -> str:
        folder = bring(
            brought.typed("Net"), tmp_path / "net", RECIPE, weights=brought.weights("Net"), init=INITS["Net"]
        )
        return model_hash(folder)

    first = hash_now()
    assert hash_now() == first
    try:
        brought.code.write_text(CODE + "\n# other code\n")
        assert hash_now() != first
    finally:
        brought.code.write_text(CODE)


def test_a_folder_loads_where_its_code_is_named(
    brought: Brought, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = brought.open("Net")
    write_subject(subject, tmp_path)
    monkeypatch.setattr(named, "_named", {})
    with pytest.raises(
        RunFolderError, match=r"my_model\.py:Net, and code that only a folder names is not run"
    ):
        open_source(tmp_path, RECIPE)
    assert open_source(tmp_path, RECIPE, module=brought.typed("Net")).spec == subject.spec
    monkeypatch.setattr(named, "_named", {})
    naming = RECIPE.with_values(["model.family=file", f"model.path={brought.code}", "model.name=Net"])
    assert open_source(tmp_path, naming).spec == subject.spec


def test_what_is_missing_beside_code_or_too_much_beside_a_folder(brought: Brought, tmp_path: Path) -> None:
    subject = brought.open("Net")
    typed, weights = brought.typed("Net"), brought.weights("Net")
    with pytest.raises(UsageError, match="Net is code: the weights that it was trained to must be said"):
        open_source(typed, RECIPE)
    with pytest.raises(RecipeError, match="Net is a model without a run: its task and data must be said"):
        open_source(typed, weights=weights)
    write_subject(subject, tmp_path)
    with pytest.raises(UsageError, match=r"weights is of a module in a file, and .* is a folder"):
        open_source(tmp_path, RECIPE, weights=weights)
    with pytest.raises(UsageError, match="init is of a module in a file"):
        open_source(tmp_path, RECIPE, init={"width": 4})
    state = load_file(weights) | {"head.bias": torch.full((10,), torch.nan)}
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(UsageError, match=r"nan\.safetensors: the weight module\.head\.bias is not finite"):
        open_source(typed, RECIPE, weights=tmp_path / "nan.safetensors", init=INITS["Net"])


@pytest.fixture(scope="module")
def quantized(brought: Brought) -> Subject:
    subject = brought.open("Net")
    return parse_step("quantize:bits=8,inputs=static").apply(subject, calibrated(subject))


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
def test_engines_run_it(quantized: Subject, engine: str) -> None:
    if engine != "torch":
        pytest.importorskip(engine)
    x = images(quantized, 64)
    predictor = open_predictor(
        engine,  # type: ignore[arg-type] # pytest's parameters are texts
        quantized.module,
        [x],
        forms=quantized.forms,
        activations=quantized.activations,
        num_threads=1,
    )
    found = quantized.task.evaluate(PredictorModule(predictor), quantized.data).values["accuracy"].value
    assert abs(found - accuracy(quantized)) < 0.05


def test_a_forward_that_depends_on_data_runs_in_torch_alone(
    brought: Brought, capfd: pytest.CaptureFixture[str]
) -> None:
    subject = brought.open("Deciding")
    after = parse_step("quantize:bits=8").apply(subject, calibrated(subject))
    x = images(subject)
    assert np.allclose(
        open_predictor("torch", after.module, [x])(x.numpy()), after.module(x).detach(), atol=1e-6
    )
    pytest.importorskip("onnxscript")
    capfd.readouterr()
    with pytest.raises(
        RecipeError,
        match=r":Deciding cannot be exported .*: forward depends on the values in its tensors at my_model\.py, line \d+ "
        r"\(`if hidden\.sum\(\) > 0:`\)",
    ):
        open_predictor("onnxruntime", after.module, [x])
    assert capfd.readouterr() == ("", "")


def test_a_fresh_process_runs_the_code_that_this_one_was_told(
    brought: Brought, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = brought.open("perceptron")
    x = images(subject, 2).numpy()
    staged = staged_forward("torch", tmp_path, subject.module, subject.spec, [x], num_threads=1)
    monkeypatch.setattr(named, "_named", {})
    opening = Opening.model_validate_json(staged.model_dump_json())
    assert opening.open().turn(2)(1) > 0
    assert peak_memory_bytes(opening) > 0
