"""The modules under `examples/`: hand-worked counts, and the command in each file works."""

from __future__ import annotations

import shlex
from math import prod
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kleiber.cost.trace.fake import fake_module
from kleiber.cost.trace.training_step import build_optimizer, run_step
from kleiber.cost.usage import Usage
from kleiber.models.foreign import open_subject

ROOT = Path(__file__).parents[1]
FILES = [
    ROOT / "examples" / f"{name}.py" for name in ("perceptron", "convnet", "resnet", "lstm", "gru", "unet")
]


def commands_of(path):
    """Return the `kleiber plan` lines of a file's docstring."""
    docstring = path.read_text(encoding="utf-8").split('"""')[1]
    return [line for line in docstring.splitlines() if line.startswith("kleiber plan ")]


COMMANDS = [command for path in FILES for command in commands_of(path)]


def subject_of(command):
    _, _, text, *options = shlex.split(command)
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert given.keys() <= {"--init", "--input"}
    return open_subject(str(ROOT / text), inputs=(given["--input"],), init=given.get("--init"))


def on_fakes(subject):
    mode = torch._subclasses.FakeTensorMode()
    return mode, fake_module(subject.build, mode)


def num_params(name, init=None):
    file, _, _ = name.partition(":")
    subject = open_subject(str(ROOT / "examples" / name), inputs=("1x1",), init=init)
    assert file.endswith(".py")
    with torch.device("meta"):
        return sum(param.numel() for param in subject.build().parameters())


def test_every_file_says_how_it_is_planned():
    assert all(commands_of(path) for path in FILES)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[2])
def test_the_command_of_a_file_trains(command):
    subject = subject_of(command)
    mode, module = on_fakes(subject)
    with mode:
        inputs = subject.inputs(subject.batch_size)
        output = module(*inputs.args)
        usage = Usage(batch_size=subject.batch_size, optimizer="sgd")
        with FlopCounterMode(display=False) as counter:
            run_step(module, inputs, subject.loss, build_optimizer("sgd", module), usage)
    assert output.shape[0] == subject.batch_size
    assert counter.get_total_flops() > 0


@pytest.mark.parametrize(
    ("name", "init", "expected"),
    [
        ("perceptron.py:Perceptron", '{"widths": [784, 512, 10]}', 784 * 512 + 512 + 512 * 10 + 10),
        # Eight convolutions without bias, the gains and biases of eight norms, the classifier.
        (
            "convnet.py:ConvNet",
            None,
            9 * (3 * 64 + 64**2 + 64 * 128 + 128**2 + 128 * 256 + 256**2 + 256 * 512 + 512**2)
            + 2 * 2 * (64 + 128 + 256 + 512)
            + 5130,
        ),
        ("resnet.py:ResNet18", None, 11_689_512),
        ("resnet.py:ResNet50", None, 25_557_032),
        # Four gates, each of what goes in, of the state and two biases; embedding and head.
        (
            "lstm.py:LSTMLanguageModel",
            '{"vocab_size": 1000, "width": 64}',
            2 * 4 * 64 * (64 + 64 + 2) + 2 * 64_000,
        ),
        (
            "lstm.py:LSTMLanguageModel",
            '{"vocab_size": 1000, "width": 64, "is_tied": true}',
            2 * 4 * 64 * (64 + 64 + 2) + 64_000,
        ),
        # Three gates in two directions; the second layer reads both.
        ("gru.py:GRUClassifier", None, 2 * 3 * 256 * ((40 + 256 + 2) + (512 + 256 + 2)) + 512 * 12 + 12),
        # Down 3-8-16, up 16-8: a stage of a to b channels has 9 (a + b) b weights and 2 x 3 b of biases and norms.
        (
            "unet.py:UNet",
            '{"width": 8, "depth": 1}',
            sum(9 * (a + b) * b + 6 * b for a, b in ((3, 8), (8, 16), (16, 8))) + 4 * 16 * 8 + 8 + 8 + 1,
        ),
    ],
)
def test_counts_by_hand(name, init, expected):
    assert num_params(name, init) == expected


def test_a_resnet_50_takes_4_09_billion_multiply_adds():
    """Published for one image of 224 x 224, with the stride in the 3x3 convolution."""
    subject = subject_of(commands_of(ROOT / "examples" / "resnet.py")[0])
    mode, module = on_fakes(subject)
    with mode, FlopCounterMode(display=False) as counter:
        module(*subject.inputs(1).args)
    assert counter.get_total_flops() / 2e9 == pytest.approx(4.089, abs=0.001)


@pytest.mark.parametrize(
    ("name", "init", "size", "expected"),
    [
        ("unet.py:UNet", '{"width": 8, "num_classes": 3}', "2x3x32x16", (2, 3, 32, 16)),
        ("gru.py:GRUClassifier", '{"num_features": 5, "width": 4}', "2x7x5", (2, 12)),
        ("lstm.py:LSTMLanguageModel", '{"vocab_size": 11, "width": 4}', "2x7:int64", (2, 7, 11)),
        ("convnet.py:ConvNet", '{"widths": [4, 8], "depth": 1}', "2x3x8x8", (2, 10)),
        ("resnet.py:ResNet18", '{"width": 4, "num_classes": 6}', "2x3x32x32", (2, 6)),
        ("perceptron.py:Perceptron", '{"widths": [5, 4, 3]}', "2x5", (2, 3)),
    ],
)
def test_what_comes_out_depends_on_what_goes_in(name, init, size, expected):
    subject = open_subject(str(ROOT / "examples" / name), inputs=(size,), init=init)
    module = subject.build().eval()
    (values,) = subject.inputs(2).args
    with torch.no_grad():
        output = module(values)
        other = module(1 - values)
    assert tuple(output.shape) == expected
    assert output.isfinite().all()
    assert not torch.equal(output, other)
    assert prod(expected) == output.numel()
