from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from kleiber.cost.trace.fake import fake_module
from kleiber.errors import MissingExtraError, RecipeError
from kleiber.models.foreign import open_subject
from kleiber.models.foreign.failures import explained
from kleiber.models.foreign.keras_model import check_backend
from kleiber.models.subject import Subject

# Importing it here would let it choose its backend.
pytestmark = pytest.mark.skipif(find_spec("keras") is None, reason="keras is not installed")

FILE = """
import keras
from keras import layers

def digits(width=8):
    return keras.Sequential([
        keras.Input((12, 12, 1)), layers.Conv2D(width, 3, activation="relu"), layers.BatchNormalization(),
        layers.MaxPooling2D(), layers.Flatten(), layers.Dropout(0.5), layers.Dense(10, name="scores"), layers.Dense(3)])

def unbuilt():
    return keras.Sequential([layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(10)])

class Nested(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = keras.Sequential([layers.Dense(32, activation="relu"), layers.Dense(16)])
        self.out = layers.Dense(10)
        self.scale = self.add_weight(shape=(1,), initializer="ones", name="scale")

    def call(self, x):
        return self.out(self.inner(x)) * self.scale

def text():
    ids = keras.Input((16,), dtype="int32")
    hidden = layers.LSTM(12)(layers.Embedding(100, 8)(ids))
    return keras.Model(ids, layers.Dense(3)(hidden))
"""

DIGITS = (9 * 8 + 8) + 4 * 8 + (200 * 10 + 10) + (10 * 3 + 3)
LSTM = 4 * 12 * (8 + 12 + 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path / "mine.py"


MODELS = {
    "digits": ("4x12x12x1", DIGITS),
    "unbuilt": ("4x8x8x1", (9 * 8 + 8) + (6 * 6 * 8 * 10 + 10)),
    "Nested": ("4x20", (20 * 32 + 32) + (32 * 16 + 16) + (16 * 10 + 10) + 1),
    "text": ("4x16:int64", 100 * 8 + LSTM + 12 * 3 + 3),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_keras_model_is_a_module(name: str, path: Path) -> None:
    size, expected = MODELS[name]
    subject = open_subject(f"{path}:{name}", inputs=[size])
    module, example = subject.build(), subject.inputs(4)
    assert sum(parameter.numel() for parameter in module.parameters()) == expected
    subject.loss(module(*example.args)).backward()
    assert all((p.grad is not None) == p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_it_runs_on_fake_weights_that_replaced_its_own(name: str, path: Path) -> None:
    subject = open_subject(f"{path}:{name}", inputs=[MODELS[name][0]])
    mode = FakeTensorMode()
    module = fake_module(subject.build, mode)
    with mode:
        example = subject.inputs(4)
        with explained(module, example):
            subject.loss(module(*example.args)).backward()
    assert all((p.grad is not None) == p.requires_grad for p in module.parameters())


def test_its_layers_are_parts_with_their_own_parameters_and_names_of_their_own(path: Path) -> None:
    for _ in range(2):  # Keras counts on from model to model
        module = open_subject(f"{path}:digits", inputs=["4x12x12x1"]).build()
        layers = module.get_submodule("layers")
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in layers.named_children()}
        assert counts == {
            "conv2d": 80, "batch_normalization": 32, "max_pooling2d": 0, "flatten": 0, "dropout": 0, "scores": 2010, "dense": 33,
        }  # fmt: skip
    inner = open_subject(f"{path}:Nested", inputs=["4x20"]).build().get_submodule("layers")
    assert [name for name, _ in inner.named_children()] == [
        "sequential/dense",
        "sequential/dense_1",
        "sequential",
        "dense",
    ]


def test_it_trains_in_training_mode_alone(path: Path) -> None:
    subject: Subject = open_subject(f"{path}:digits", inputs=["4x12x12x1"])
    module, images = subject.build(), subject.inputs(4).args[0]
    assert not torch.equal(module(images), module(images))  # dropout
    module.eval()
    assert torch.equal(module(images), module(images))


def test_an_input_that_does_not_fit_names_the_layer(path: Path) -> None:
    subject = open_subject(f"{path}:digits", inputs=["4x9x9x1"])
    module, example = subject.build(), subject.inputs(4)
    with (
        pytest.raises(
            RecipeError, match=r"ValueError: Input 0 .* of layer 'scores' .* value 200, but .* \(4, 72\)\."
        ),
        explained(module, example),
    ):
        module(*example.args)


def run(path: Path, code: str, **environment: str) -> str:
    script = f"from kleiber.models.foreign import open_subject\n{code}"
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=path.parent,
    )
    return result.stdout + result.stderr


def test_another_backend_is_refused(path: Path) -> None:
    text = run(path, "open_subject('mine.py:digits', inputs=['4x12x12x1'])", KERAS_BACKEND="tensorflow")
    assert "A Keras model needs the torch backend. Got 'tensorflow'." in text
    assert "try: KERAS_BACKEND=torch kleiber plan ..." in text


def test_another_backend_that_is_installed_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "jax"))
    monkeypatch.setitem(sys.modules, "keras", keras)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"needs the torch backend\. Got 'jax'"):
        check_backend()


def test_torch_is_chosen_for_it_and_the_environment_left_alone(path: Path) -> None:
    code = "import os\nopen_subject('mine.py:digits', inputs=['4x12x12x1']).build()\nprint('KERAS_BACKEND' in os.environ)"
    assert run(path, code).strip().endswith("False")


def test_without_keras_one_sentence_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path.parent / "asks.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'keras'\", name='keras')\n"
    )
    with pytest.raises(
        MissingExtraError, match=r"needs the package 'keras'.*\n  try: pip install 'kleiber\[keras\]'"
    ):
        open_subject(f"{path.parent}/asks.py:Net", inputs=["4x3"])
