from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from kleiber.errors import RecipeError
from kleiber.models.foreign import open_subject
from kleiber.models.foreign.expectations import broken_expectation
from kleiber.models.foreign.failures import explained
from kleiber.models.subject import Inputs

EXAMPLES = Path(__file__).parents[2] / "examples"

WORLDS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "real": nullcontext,
    "meta": lambda: torch.device("meta"),
    "fake": FakeTensorMode,
}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[None]:
    with WORLDS[request.param]():
        yield


def run(build: Callable[[], nn.Module], *args: Tensor, **kwargs: Tensor) -> None:
    module, example = build(), Inputs(args, kwargs)
    with explained(module, example):
        module(*example.args, **example.kwargs)


def num_params(text: str, size: str) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in open_subject(text, inputs=[size]).build().parameters())


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("article_lenet.py:Net", "4x3x32x32", 62_006),
        ("article_perceptron.py:Perceptron", "1000x1000", 10_016_010),
    ],
)
def test_a_network_out_of_an_article_runs_and_is_counted(name: str, size: str, expected: int) -> None:
    subject = open_subject(f"{EXAMPLES / name}", inputs=[size])
    assert num_params(subject.name, size) == expected
    module, example = subject.build(), subject.inputs(2)
    with explained(module, example):
        loss = subject.loss(module(*example.args))
    assert 2 < loss.item() < 3  # log 10


@pytest.mark.usefixtures("world")
def test_an_article_whose_linear_layer_does_not_fit_its_images() -> None:
    subject = open_subject(f"{EXAMPLES}/article_mismatch.py:Net", inputs=["8x3x32x32"])
    with pytest.raises(
        RecipeError,
        match=r"^fc1 \(Linear\) expects 2,304 features and gets 4,096 a sample"
        r" at article_mismatch\.py, line 30 \(`features = .*view\(-1, 64 \* 6 \* 6\)",
    ):
        run(subject.build, *subject.inputs(8).args)


def test_the_same_article_takes_smaller_images() -> None:
    subject = open_subject(f"{EXAMPLES}/article_mismatch.py:Net", inputs=["8x3x24x24"])
    run(subject.build, *subject.inputs(8).args)


def test_a_batch_that_hides_the_misfit_is_refused_all_the_same() -> None:
    # 9 samples of 4,096 values are 16 rows of 2,304.
    subject = open_subject(f"{EXAMPLES}/article_mismatch.py:Net", inputs=["9x3x32x32"])
    with pytest.raises(
        RecipeError, match=r"A batch of 9 samples came out of Net as 16 rows: a reshape in forward mixes"
    ):
        run(subject.build, *subject.inputs(9).args)


def whole(*size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.int64)


BROKEN: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], str]] = {
    "linear": (lambda: nn.Linear(5, 2), lambda: torch.ones(4, 6), "expects 5 features and gets 6, in an input of 4x6"),
    "linear dtype": (lambda: nn.Linear(5, 2), lambda: whole(4, 5), "expects numbers of floating point and gets int64"),
    "linear scalar": (lambda: nn.Linear(5, 2), lambda: torch.ones(()), "expects features and gets a single number"),
    "channels": (lambda: nn.Conv2d(3, 4, 3), lambda: torch.ones(8, 1, 9, 9), "expects 3 channels and gets 1"),
    "rank": (lambda: nn.Conv2d(3, 4, 3), lambda: torch.ones(8, 3), "expects 4 or 3 dimensions and gets 2, in an input of 8x3"),
    "sequence": (lambda: nn.Conv1d(3, 4, 3), lambda: torch.ones(8, 4, 9), "expects 3 channels and gets 4"),
    "upsampling": (lambda: nn.ConvTranspose2d(3, 4, 3), lambda: torch.ones(8, 4, 9, 9), "expects 3 channels and gets 4"),
    "batch norm": (lambda: nn.BatchNorm2d(3), lambda: torch.ones(8, 4, 2, 2), "expects 3 channels and gets 4"),
    "batch norm rank": (lambda: nn.BatchNorm2d(3), lambda: torch.ones(8, 3), "expects 4 dimensions and gets 2"),
    "layer norm": (lambda: nn.LayerNorm((4, 5)), lambda: torch.ones(8, 5, 4), "expects 4x5 as its last dimensions, in an input of 8x5x4"),
    "embedding": (lambda: nn.Embedding(9, 4), lambda: torch.ones(8, 3), r"expects whole numbers \(int64\) and gets float32"),
    "recurrent": (lambda: nn.LSTM(3, 4), lambda: torch.ones(8, 2, 5), "expects 3 features and gets 5"),
    "recurrent rank": (lambda: nn.GRU(3, 4), lambda: torch.ones(3), "expects 3 or 2 dimensions and gets 1"),
}  # fmt: skip


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("case", BROKEN)
def test_a_layer_says_what_it_expects_and_gets(case: str) -> None:
    layer, value, message = BROKEN[case]
    with pytest.raises(RecipeError, match=rf"^1 \({type(layer()).__name__}\) {message}"):
        run(lambda: nn.Sequential(nn.Identity(), layer()), value())


@pytest.mark.parametrize(
    ("layer", "value"),
    [
        (nn.Linear(5, 2), torch.ones(5)),
        (nn.Linear(5, 2), torch.ones(3, 4, 5)),
        (nn.Conv2d(3, 4, 3), torch.ones(3, 9, 9)),
        (nn.Conv2d(4, 4, 3, groups=2), torch.ones(2, 4, 9, 9)),
        (nn.BatchNorm1d(3), torch.ones(8, 3)),
        (nn.BatchNorm1d(3), torch.ones(8, 3, 5)),
        (nn.LayerNorm(5), torch.ones(2, 3, 5)),
        (nn.Embedding(9, 4), torch.zeros(2, 3, dtype=torch.int32)),
        (nn.LSTM(3, 4), torch.ones(7, 3)),
        (nn.LSTM(3, 4, batch_first=True), torch.ones(2, 7, 3)),
    ],
)
def test_a_layer_that_gets_what_it_expects_is_content(layer: nn.Module, value: Tensor) -> None:
    layer(value)
    assert broken_expectation(layer, value) is None


def test_a_subclass_with_its_own_forward_is_not_judged() -> None:
    class Wide(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.repeat(1, 2))

    assert broken_expectation(Wide(4, 2), torch.ones(3, 2)) is None


class Branch(nn.Module):
    def __init__(self, kind: str = "if") -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.kind == "if" and x.sum() > 0:
            x = -x
        if self.kind == "item":
            x = x * x.max().item()
        if self.kind == "nonzero":
            x = x[x[:, 0] > 0]
        y: Tensor = self.second(x)
        return y


@pytest.mark.parametrize("kind", ["if", "item", "nonzero"])
@pytest.mark.parametrize("where", ["meta", "fake"])
def test_what_depends_on_values_names_the_line_and_what_was_counted(kind: str, where: str) -> None:
    with (
        WORLDS[where](),
        pytest.raises(
            RecipeError,
            match=r"inner \(Branch\) depends on the values in its tensors at test_models_foreign_failures\.py, line \d+"
            r" \(`.*x.*`\), and a plan knows their shapes alone\."
            r" Counted until there: before, inner\.first\. Not counted: inner\.second, after\.\n  try: ",
        ),
    ):
        run(
            lambda: Chain({"before": nn.Identity(), "inner": Branch(kind), "after": nn.Identity()}),
            torch.ones(3, 4),
        )


class Chain(nn.Module):
    def __init__(self, parts: dict[str, nn.Module]) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():
            x = part(x)
        return x


def test_many_modules_are_listed_by_their_first(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: dict[str, nn.Module] = {f"p{i}": nn.Identity() for i in range(9)}
    with (
        torch.device("meta"),
        pytest.raises(RecipeError, match=r"there: p0, p1, p2, p3, p4, p5 and 3 more\. Not counted: b\.first"),
    ):
        run(lambda: Chain(parts | {"b": FirstThing()}), torch.ones(3, 4))


class FirstThing(Branch):
    def forward(self, x: Tensor) -> Tensor:
        return self.first(x * x.sum().item())


def test_with_values_a_branch_is_no_failure() -> None:
    run(lambda: Branch("if"), torch.ones(3, 4))


@pytest.mark.parametrize("num_args", [0, 2])
def test_the_wrong_number_of_inputs_shows_the_signature(num_args: int) -> None:
    with pytest.raises(
        RecipeError,
        match=rf"Branch\.forward takes \(x: .*Tensor.*\): .*Got '{num_args} inputs'\.\n  try: one --input",
    ):
        run(Branch, *[torch.ones(3, 4)] * num_args)


class Careless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return undefined.relu(self.inner(x))  # type: ignore[name-defined] # noqa: F821 - as articles print it


def test_any_other_failure_names_module_and_line() -> None:
    with pytest.raises(
        RecipeError,
        match=r"0 \(Careless\) failed at test_models_foreign_failures\.py, line \d+ \(`return undefined.*\) with NameError: name 'undefined'",
    ):
        run(lambda: nn.Sequential(Careless()), torch.ones(3, 4))


def test_a_failure_inside_torch_names_the_layer() -> None:
    with pytest.raises(RecipeError, match=r"^0 \(MaxPool2d\) failed with RuntimeError: "):
        run(lambda: nn.Sequential(nn.MaxPool2d(9)), torch.ones(3, 4, 5, 5))


def fail_after(output: Tensor) -> None:
    raise ValueError(f"no loss of {tuple(output.shape)}")


def test_a_failure_after_forward_says_so() -> None:
    module, example = Branch("none"), Inputs((torch.ones(3, 4),))
    with (
        pytest.raises(
            RecipeError, match=r"What follows forward .* failed with ValueError: no loss of \(3, 4\)\."
        ),
        explained(module, example),
    ):
        fail_after(module(*example.args))


def test_a_reshape_without_a_batch_is_explained_by_its_values() -> None:
    class Fold(nn.Module):
        def forward(self, x: Tensor, _: Tensor) -> Tensor:
            return x.view(-1, 7)

    with pytest.raises(
        RecipeError, match=r"A tensor of 10 values cannot be reshaped to \[-1, 7\] at .*, line \d+"
    ):
        run(Fold, torch.ones(5, 2), torch.ones(3))


def test_hooks_and_logs_are_left_as_they_were() -> None:
    log = logging.getLogger("torch._subclasses.fake_tensor")
    with pytest.raises(RecipeError):
        run(lambda: nn.Linear(5, 2), torch.ones(4, 6))
    assert not log.disabled
    with pytest.raises(RuntimeError):  # torch's own again
        nn.Linear(5, 2)(torch.ones(4, 6))


def test_running_out_of_memory_is_not_explained_away() -> None:
    with pytest.raises(MemoryError), explained(Branch(), Inputs((torch.ones(3, 4),))):
        raise MemoryError
