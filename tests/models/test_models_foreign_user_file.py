from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from kleiber.errors import RecipeError
from kleiber.models.foreign import open_subject

Write = Callable[..., Path]

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=10, width=4):
        super().__init__()
        self.body = nn.Linear(6, width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(torch.relu(self.body(x)))

class NeedsSizes(Net):
    def __init__(self, num_classes, width):
        super().__init__(num_classes, width)

def make_net(width=8):
    return Net(width=width)

def make_text():
    return "no module"

class Plain:
    pass

ready = Net()
NUMBER = 3
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(text: str, name: str = "mine.py") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return _write


@pytest.fixture
def net(write: Write) -> Path:
    return write(NET)


def num_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_a_class_is_built_with_the_arguments_of_init(net: Path) -> None:
    subject = open_subject(f"{net}:Net", inputs=["5x6"], init='{"num_classes": 3}')
    module = subject.build()
    assert num_params(module) == 6 * 4 + 4 + 4 * 3 + 3
    assert module.training
    assert (subject.name, subject.batch_size, subject.tokens_per_sample) == (f"{net}:Net", 5, None)
    example = subject.inputs(2)
    assert subject.loss(module(*example.args, **example.kwargs)).ndim == 0


def test_a_function_that_returns_a_module_is_called(net: Path) -> None:
    assert num_params(open_subject(f"{net}:make_net", inputs=["5x6"]).build()) == 6 * 8 + 8 + 8 * 10 + 10


def test_nothing_is_allocated_on_the_meta_device(net: Path) -> None:
    with torch.device("meta"):
        module = open_subject(f"{net}:Net", inputs=["5x6"]).build()
    assert all(parameter.is_meta for parameter in module.parameters())


def test_the_batch_and_the_tokens_are_read_off_the_input(net: Path) -> None:
    subject = open_subject(f"{net}:Net", inputs=["8x128:int64"], batch_size=2)
    assert (subject.batch_size, subject.tokens_per_sample) == (2, 128)


def test_the_main_block_does_not_run(write: Write) -> None:
    path = write(NET + "\nif __name__ == '__main__':\n    raise SystemExit('ran')\n")
    open_subject(f"{path}:Net", inputs=["5x6"])


def test_neighbours_can_be_imported_and_are_forgotten(write: Write) -> None:
    write("WIDTH = 7\n", "sizes_of_mine.py")
    path = write(
        "from sizes_of_mine import WIDTH\nfrom torch import nn\n"
        "def make():\n    import sizes_of_mine as again\n    return nn.Linear(WIDTH, again.WIDTH)\n"
    )
    before = list(sys.path)
    assert num_params(open_subject(f"{path}:make", inputs=["5x7"]).build()) == 7 * 7 + 7
    assert "sizes_of_mine" not in sys.modules
    assert sys.path == before


def test_libraries_below_the_folder_are_kept(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / ".venv" / "lib"
    library.mkdir(parents=True)
    (library / "library_of_mine.py").write_text("")
    monkeypatch.syspath_prepend(library)
    path = write("import library_of_mine\n" + NET)
    open_subject(f"{path}:Net", inputs=["5x6"])
    assert sys.modules.pop("library_of_mine")


def test_a_file_does_not_inherit_future_statements(write: Write) -> None:
    path = write(
        NET
        + "\nassert Net.forward.__annotations__ == {}\ndef f(x: int): ...\nassert f.__annotations__['x'] is int\n"
    )
    open_subject(f"{path}:Net", inputs=["5x6"])


def test_dataclasses_of_the_file_work(write: Write) -> None:
    path = write(
        "from __future__ import annotations\nfrom dataclasses import dataclass, field\nfrom typing import ClassVar\n"
        "@dataclass\nclass Sizes:\n    kind: ClassVar[str] = 'a'\n    width: int = 3\n"
        + NET.replace("width=4", "width=Sizes().width")
    )
    assert num_params(open_subject(f"{path}:Net", inputs=["5x6"]).build()) == 6 * 3 + 3 + 3 * 10 + 10


def test_lazy_layers_take_their_sizes_from_the_input(write: Write) -> None:
    path = write(
        "from torch import nn\ndef make():\n"
        "    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(10))\n"
    )
    subject = open_subject(f"{path}:make", inputs=["2x3x8x8"])
    with torch.device("meta"):
        module = subject.build()
    assert num_params(module) == (3 * 4 * 9 + 4) + 2 * 4 + (4 * 6 * 6 * 10 + 10)
    assert module.training


ERRORS = {
    "unknown class": ("Nett", {}, r"has no class or function 'Nett'\. Did you mean 'Net'\?"),
    "no class": (
        "",
        {},
        r"needs the name of a class behind a colon\. It has: Net, NeedsSizes\.\n.*mine\.py:Net --input",
    ),
    "no module": ("Plain", {}, r"Plain must be a subclass of torch\.nn\.Module.*Got 'another class'"),
    "a number": ("NUMBER", {}, r"NUMBER must be a subclass.*Got 'int'"),
    "an instance": ("ready", {}, r"ready is a module already built.*Got 'Net'.*\n  try: def make_model\(\)"),
    "arguments": (
        "NeedsSizes",
        {},
        r"NeedsSizes needs arguments: num_classes, width\.\n  try: --init '\{\"num_classes\": 10, \"width\": 10\}'",
    ),
    "one argument": (
        "NeedsSizes",
        {"init": '{"width": 5}'},
        r"needs arguments: num_classes\.\n  try: --init '\{\"width\": 5, \"num_classes\": 10\}'",
    ),
    "no JSON": ("Net", {"init": "num_classes=10"}, r"--init must be a JSON object.*Got 'num_classes=10'"),
    "a JSON list": ("Net", {"init": "[10]"}, r"--init must be a JSON object"),
    "unknown key": (
        "Net",
        {"init": '{"num_clases": 3}'},
        r"no argument 'num_clases'\. Did you mean 'num_classes'\?",
    ),
    "no arguments at all": ("make_text", {"init": '{"n": 3}'}, r"no argument 'n'\. It takes none\."),
    "context": ("Net", {"context": 128}, r"--context is for text models.*\n  try: .*--input 8x128:int64"),
    "loss": ("Net", {"loss": "mae"}, r"unknown loss 'mae'"),
    "batch": ("Net", {"batch_size": 0}, r"--batch must be at least 1\. Got 0"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_be_opened_is_one_sentence(net: Path, case: str) -> None:
    name, options, message = ERRORS[case]
    with pytest.raises(RecipeError, match=message):
        open_subject(f"{net}:{name}" if name else str(net), **({"inputs": ["5x6"]} | options))  # type: ignore[arg-type]


def test_a_function_that_returns_no_module_is_named(net: Path) -> None:
    with pytest.raises(RecipeError, match=r"make_text must return a torch\.nn\.Module\. Got 'str'"):
        open_subject(f"{net}:make_text", inputs=["5x6"]).build()


def test_a_module_needs_its_input(net: Path) -> None:
    with pytest.raises(
        RecipeError,
        match=r"mine\.py:Net needs the shape of what its forward takes.*\n  try: .*--input 8x3x32x32",
    ):
        open_subject(f"{net}:Net")


def test_a_file_without_modules_says_so(write: Write) -> None:
    path = write("x = 1\n")
    with pytest.raises(RecipeError, match=r"It defines no torch\.nn\.Module\."):
        open_subject(f"{path}:Net", inputs=["5x6"])
    with pytest.raises(RecipeError, match=r"behind a colon\. It defines no torch\.nn\.Module\."):
        open_subject(str(path), inputs=["5x6"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.py cannot be read: No such file or directory"):
        open_subject(f"{tmp_path}/none.py:Net", inputs=["5x6"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import torch\n\nraise ValueError('no data')\n",
            r"mine\.py, line 3: import failed with ValueError: no data\.",
        ),
        ("x = 1\ndef f(:\n", r"mine\.py, line 2: import failed with SyntaxError: "),
        ("import not_a_module_xyz\n", r"line 1: import failed with ModuleNotFoundError: No module named"),
        ("import sys\nsys.exit(3)\n", r"line 2: import failed with SystemExit: 3\."),
        ("raise KeyError\n", r"line 1: import failed with KeyError: no message\."),
    ],
)
def test_a_file_that_fails_is_one_sentence_with_the_line(write: Write, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        open_subject(f"{write(text)}:Net", inputs=["5x6"])


def test_a_constructor_that_fails_is_one_sentence_with_the_line(write: Write) -> None:
    path = write("from torch import nn\ndef make(width=3):\n    return nn.Linear(width, undefined)\n")
    with pytest.raises(RecipeError, match=r"line 3: make\(\.\.\.\) failed with NameError: name 'undefined'"):
        open_subject(f"{path}:make", inputs=["5x6"]).build()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", r"'nothing' names no model; a model is gpt:depth=12, my_model\.py:Net, or"),
        ("gtp:depth=12", r"'gtp' is neither a family nor a \.py file\. Did you mean 'gpt'\?"),
    ],
)
def test_a_text_that_names_no_model_says_what_does(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        open_subject(text)


def test_a_folder_without_a_config_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"is a folder without a config\.json"):
        open_subject(str(tmp_path))


def test_a_family_is_the_module_that_training_builds() -> None:
    subject = open_subject("gpt:depth=2,width=32", context=16, batch_size=3)
    module, example = subject.build(), subject.inputs(3)
    loss = subject.loss(module(*example.args, **example.kwargs))
    loss.backward()
    assert num_params(module) == 2 * 32 * (4 * 32 + 3 * 96) + 2 * (2 * 32 + 2 * 16) + 32 + 1024 * 32
    assert (subject.tokens_per_sample, subject.blocks and subject.blocks.depth) == (16, 2)
    assert loss.item() == pytest.approx(6.93, abs=0.5)  # log 1024


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ["8x128:int64"]}, r"A family knows what it takes\. Got '--input 8x128:int64'"),
        ({"init": "{}"}, r"--init is for a class in a file\. Got 'gpt:depth=2'"),
    ],
)
def test_options_that_a_family_does_not_have_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        open_subject("gpt:depth=2", **options)  # type: ignore[arg-type]
