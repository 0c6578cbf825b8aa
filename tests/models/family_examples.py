"""Specs of every family, what they read and what they learn on: the cases of the families' contract suite.

A family joins by an entry in EXAMPLES (for each kind of data that it reads, and each branch of its code, one example),
in SPECS (a strategy over its specs) and in TARGETS (numbers of parameters that its dial reaches).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from kleiber.models import FAMILIES, Spec
from kleiber.models.gpt import GPTSpec
from kleiber.models.mlp import MLPSpec
from kleiber.runs import DataShape

TOKENS = DataShape(inputs="tokens", vocab_size=60, context=16)
TEXTS = DataShape(inputs="tokens", vocab_size=60, context=16, num_outputs=3)
IMAGES = DataShape(inputs="images", channels=3, height=16, width=16, num_outputs=4)
SPECTROGRAMS = DataShape(inputs="images", channels=1, height=20, width=13, num_outputs=4)
FEATURES = DataShape(inputs="features", num_features=9, num_outputs=3)
SERIES = DataShape(inputs="series", context=10, num_features=2, num_outputs=3)
PAIRS = DataShape(inputs="pairs", vocab_size=60, context=12)
CAPTIONS = DataShape(inputs="captions", vocab_size=60, context=8, channels=3, height=16, width=16)

SHAPES: dict[str, DataShape] = {
    shape.inputs: shape for shape in (TEXTS, IMAGES, FEATURES, SERIES, PAIRS, CAPTIONS)
}
"""One of each kind, with outputs where the kind may have them."""


@dataclass(frozen=True)
class Example:
    """A size on data of a shape."""

    shape: DataShape
    size: dict[str, Any] = field(default_factory=dict)
    counter: Literal["torch", "tracer"] = "torch"
    """What counts the operations beside the spec: fused recurrent layers are known to Kleiber's tracer alone."""
    learning_rate: float = 1e-2

    def spec(self, family: str) -> Spec:
        return FAMILIES[family].of_size(self.size, self.shape)


EXAMPLES: dict[str, list[Example]] = {
    "gpt": [
        Example(TOKENS, {"depth": 2, "width": 32}),
        Example(TOKENS, {"depth": 1, "width": 32, "num_kv_heads": 1, "is_tied": False}),
    ],
    "mlp": [
        Example(FEATURES, {"depth": 2, "width": 24}),
        Example(IMAGES, {"depth": 1, "width": 16, "norm": "batch", "activation": "tanh", "init": "xavier"}),
        Example(SERIES, {"depth": 3, "width": 20, "norm": "layer", "dropout": 0.1, "init": "orthogonal"}),
    ],
}


@st.composite
def gpt_specs(draw: st.DrawFn) -> GPTSpec:
    kv_heads = draw(st.integers(1, 3))
    return GPTSpec(
        depth=draw(st.integers(1, 3)),
        width=draw(st.integers(1, 12)) * 4,
        num_heads=kv_heads * draw(st.integers(1, 3)),
        num_kv_heads=kv_heads,
        head_dim=2 * draw(st.integers(1, 8)),
        mlp_width=draw(st.integers(1, 50)),
        vocab_size=draw(st.integers(2, 99)),
        context=draw(st.integers(1, 64)),
        is_tied=draw(st.booleans()),
    )


IMAGE_SHAPES = st.builds(
    DataShape,
    inputs=st.just("images"),
    channels=st.integers(1, 3),
    height=st.integers(9, 40),
    width=st.integers(9, 40),
    num_outputs=st.integers(1, 5),
)
NORMS = st.sampled_from(["batch", "group", "layer", "none"])

SPECS: dict[str, st.SearchStrategy[Any]] = {
    "gpt": gpt_specs(),
    "mlp": st.builds(
        MLPSpec,
        depth=st.integers(1, 4),
        width=st.integers(1, 40),
        shape=st.one_of(IMAGE_SHAPES, st.just(FEATURES), st.just(SERIES)),
        norm=st.sampled_from(["none", "layer", "batch"]),
    ),
}
"""Any spec of a family, small."""

TARGETS: dict[str, list[float]] = {"gpt": [1e5, 1e6, 124e6], "mlp": [3e4, 1e6, 1e9]}
"""Parameters to ask of a family's dial on its usual data."""


def inputs_of(shape: DataShape, batch: int, *, seed: int = 0) -> tuple[Tensor, ...]:
    """Return what a module is called with; no token is padding."""
    generator = torch.Generator().manual_seed(seed)

    def tokens() -> Tensor:
        assert shape.vocab_size is not None
        assert shape.context is not None
        return torch.randint(1, shape.vocab_size, (batch, shape.context), generator=generator)

    def numbers(*sizes: int | None) -> Tensor:
        return torch.randn(batch, *(size for size in sizes if size is not None), generator=generator)

    makers: dict[str, Callable[[], tuple[Tensor, ...]]] = {
        "tokens": lambda: (tokens(),),
        "images": lambda: (numbers(shape.channels, shape.height, shape.width),),
        "features": lambda: (numbers(shape.num_features),),
        "series": lambda: (numbers(shape.context, shape.num_features),),
        "pairs": lambda: (tokens(), tokens()),
        "captions": lambda: (numbers(shape.channels, shape.height, shape.width), tokens()),
    }
    return makers[shape.inputs]()


def loss_of(
    shape: DataShape, inputs: tuple[Tensor, ...], output: Any, *, has_products: bool = True
) -> Tensor:
    """Return a scalar loss of what a module returned, as its task would have it.

    Args:
        shape: Of the data.
        inputs: What the module was called with.
        output: What it returned.
        has_products: Whether the loss may multiply matrices, as the one of two towers does; a sum otherwise.
    """
    if shape.inputs == "captions":
        images, texts, scale = output
        if not has_products:
            return (images.sum() + texts.sum()) * scale
        return nn.functional.cross_entropy(scale * images @ texts.T, torch.arange(len(images)))
    if shape.num_outputs is not None:
        return nn.functional.cross_entropy(output, torch.arange(len(output)) % shape.num_outputs)
    return nn.functional.cross_entropy(output[:, :-1].flatten(0, 1), inputs[-1][:, 1:].flatten())
