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
from kleiber.models.convnet import ConvNetSpec
from kleiber.models.dual import DualSpec
from kleiber.models.encoder import EncoderSpec
from kleiber.models.gpt import GPTSpec
from kleiber.models.inception import InceptionSpec
from kleiber.models.mlp import MLPSpec
from kleiber.models.resnet import ResNetSpec
from kleiber.models.rnn import RNNSpec
from kleiber.models.seq2seq import Seq2SeqSpec
from kleiber.models.vit import ViTSpec
from kleiber.runs import DataShape

TOKENS = DataShape(inputs="tokens", vocab_size=60, context=16)
TEXTS = DataShape(inputs="tokens", vocab_size=60, context=16, num_outputs=3)
IMAGES = DataShape(inputs="images", channels=3, height=16, width=16, num_outputs=4)
SPECTROGRAMS = DataShape(inputs="images", channels=1, height=20, width=13, num_outputs=4)
LARGE_IMAGES = DataShape(inputs="images", channels=3, height=65, width=72, num_outputs=4)
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
    "rnn": [
        Example(TOKENS, {"depth": 2, "width": 24, "is_tied": True}, counter="tracer", learning_rate=3e-2),
        Example(TEXTS, {"depth": 1, "width": 16, "cell": "gru", "pooling": "mean", "init": "xavier"}),
        Example(TEXTS, {"depth": 2, "width": 16, "cell": "elman", "activation": "relu", "dropout": 0.1}),
        Example(SERIES, {"depth": 2, "width": 16, "init": "orthogonal"}, counter="tracer"),
        Example(SERIES, {"depth": 1, "width": 16, "cell": "gru"}),
        Example(SERIES, {"depth": 2, "width": 16, "cell": "elman", "pooling": "mean"}),
    ],
    "encoder": [
        Example(TEXTS, {"depth": 2, "width": 32}),
        Example(TEXTS, {"depth": 1, "width": 16, "num_token_types": 2, "dropout": 0.1, "init": "xavier"}),
    ],
    "vit": [
        Example(IMAGES, {"depth": 2, "width": 32, "patch_size": 4}),
        Example(
            SPECTROGRAMS,
            {"depth": 1, "width": 16, "patch_size": 6, "init": "zero_residual"},
            learning_rate=0.05,
        ),
    ],
    "gpt": [
        Example(TOKENS, {"depth": 2, "width": 32}),
        Example(TOKENS, {"depth": 1, "width": 32, "num_kv_heads": 1, "is_tied": False}),
        Example(TOKENS, {"depth": 2, "width": 32, "num_experts": 4}, counter="tracer"),
        Example(
            TOKENS, {"depth": 2, "width": 32, "positions": "learned", "has_qk_norm": False, "mlp": "gelu"}
        ),
        Example(TOKENS, {"depth": 2, "width": 32, "has_qk_norm": False, "init": "small_out"}),
        Example(
            TOKENS,
            {"depth": 2, "width": 32, "mlp": "relu2", "softcap": 15, "value_embeddings": 1}
            | dict.fromkeys(("has_value_residual", "has_x0_skip", "has_embedding_norm"), True),
        ),
    ],
    "seq2seq": [
        Example(PAIRS, {"depth": 2, "width": 32, "decoder_depth": 1}),
        Example(PAIRS, {"depth": 1, "width": 16, "is_pre_norm": False, "activation": "gelu", "dropout": 0.0}),
    ],
    "dual": [
        Example(CAPTIONS, {"depth": 2, "width": 32}, learning_rate=1e-3),
        Example(
            CAPTIONS,
            {
                "depth": 1,
                "width": 16,
                "text_depth": 2,
                "text_width": 24,
                "embedding_width": 10,
                "dropout": 0.1,
            },
            learning_rate=1e-3,
        ),
    ],
    "mlp": [
        Example(FEATURES, {"depth": 2, "width": 24}),
        Example(IMAGES, {"depth": 1, "width": 16, "norm": "batch", "activation": "tanh", "init": "xavier"}),
        Example(SERIES, {"depth": 3, "width": 20, "norm": "layer", "dropout": 0.1, "init": "orthogonal"}),
    ],
    "convnet": [
        Example(IMAGES, {"depth": 3, "width": 8}),
        Example(
            SPECTROGRAMS,
            {
                "stage_depths": "1x1",
                "stage_widths": "6x16",
                "kernel": 4,
                "is_padded": False,
                "dense_widths": "24x12",
            }
            | {"norm": "none", "pool": "mean", "dropout": 0.1, "init": "default"},
            learning_rate=0.05,
        ),
    ],
    "inception": [
        Example(IMAGES, {"depth": 4, "width": 16, "dropout": 0.1}),
        Example(
            LARGE_IMAGES,
            {"depth": 2, "width": 16, "norm": "group", "activation": "silu"},
            learning_rate=0.05,
        ),
    ],
    "resnet": [
        Example(IMAGES, {"depth": 8, "width": 8}),
        Example(
            SPECTROGRAMS,
            {"depth": 11, "width": 4, "block": "bottleneck", "init": "zero_residual"},
            learning_rate=0.05,
        ),
        Example(LARGE_IMAGES, {"depth": 18, "width": 4, "dropout": 0.1}),
        Example(
            LARGE_IMAGES, {"stage_depths": [1, 2], "width": 8, "block": "bottleneck", "init": "orthogonal"}
        ),
        Example(IMAGES, {"depth": 8, "width": 8, "inner_widths": "3x5x12"}),
        Example(
            IMAGES, {"depth": 8, "width": 6, "shortcut": "projection", "norm": "layer", "activation": "gelu"}
        ),
    ],
}


@st.composite
def gpt_specs(draw: st.DrawFn, *, is_dense: bool = False) -> GPTSpec:
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
        **({} if is_dense else draw(st.one_of(st.just({}), mixtures()))),
    )


@st.composite
def mixtures(draw: st.DrawFn) -> dict[str, int]:
    num_experts = draw(st.integers(1, 5))
    return {
        "num_experts": num_experts,
        "experts_per_token": draw(st.integers(1, num_experts)),
        "expert_width": 4 * draw(st.integers(1, 6)),
    }


@st.composite
def seq2seq_specs(draw: st.DrawFn) -> Seq2SeqSpec:
    num_heads = draw(st.integers(1, 4))
    return Seq2SeqSpec(
        shape=PAIRS,
        depth=draw(st.integers(1, 3)),
        decoder_depth=draw(st.integers(1, 3)),
        width=2 * num_heads * draw(st.integers(1, 6)),
        num_heads=num_heads,
        mlp_width=draw(st.integers(1, 50)),
        is_pre_norm=draw(st.booleans()),
    )


@st.composite
def dual_specs(draw: st.DrawFn) -> DualSpec:
    num_heads, text_num_heads, patch_size = (draw(st.integers(1, 4)) for _ in range(3))
    side = patch_size * draw(st.integers(1, 5))
    return DualSpec(
        shape=CAPTIONS.model_copy(
            update={"height": side, "width": side, "channels": draw(st.integers(1, 3))}
        ),
        depth=draw(st.integers(1, 3)),
        width=2 * num_heads * draw(st.integers(1, 6)),
        num_heads=num_heads,
        mlp_width=draw(st.integers(1, 50)),
        text_depth=draw(st.integers(1, 3)),
        text_width=2 * text_num_heads * draw(st.integers(1, 6)),
        text_num_heads=text_num_heads,
        text_mlp_width=draw(st.integers(1, 50)),
        patch_size=patch_size,
        embedding_width=draw(st.integers(2, 50)),
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


@st.composite
def rnn_specs(draw: st.DrawFn) -> RNNSpec:
    shape = draw(st.sampled_from([TOKENS, TEXTS, SERIES]))
    return RNNSpec(
        cell=draw(st.sampled_from(["elman", "gru", "lstm"])),
        depth=draw(st.integers(1, 3)),
        width=draw(st.integers(1, 20)),
        shape=shape,
        is_tied=shape == TOKENS and draw(st.booleans()),
    )


@st.composite
def encoder_specs(draw: st.DrawFn) -> EncoderSpec:
    num_heads = draw(st.integers(1, 4))
    return EncoderSpec(
        depth=draw(st.integers(1, 3)),
        width=2 * num_heads * draw(st.integers(1, 6)),
        num_heads=num_heads,
        mlp_width=draw(st.integers(1, 50)),
        shape=TEXTS,
        num_token_types=draw(st.integers(1, 3)),
    )


@st.composite
def vit_specs(draw: st.DrawFn) -> ViTSpec:
    num_heads = draw(st.integers(1, 4))
    return ViTSpec(
        depth=draw(st.integers(1, 3)),
        width=2 * num_heads * draw(st.integers(1, 6)),
        num_heads=num_heads,
        mlp_width=draw(st.integers(1, 50)),
        patch_size=draw(st.integers(1, 16)),
        shape=draw(IMAGE_SHAPES),
    )


STEMS = st.sampled_from(["cifar", "imagenet"])


@st.composite
def convnet_specs(draw: st.DrawFn) -> ConvNetSpec:
    stages = st.lists(st.tuples(st.integers(1, 2), st.integers(1, 9)), min_size=1, max_size=3)
    depths, widths = zip(*draw(stages), strict=True)
    return ConvNetSpec(
        stage_depths=depths,
        stage_widths=widths,
        dense_widths=draw(st.lists(st.integers(1, 9), max_size=2)),
        shape=draw(IMAGE_SHAPES),
        kernel=draw(st.sampled_from([1, 3, 5])),
        norm=draw(NORMS),
    )


SPECS: dict[str, st.SearchStrategy[Any]] = {
    "rnn": rnn_specs(),
    "encoder": encoder_specs(),
    "vit": vit_specs(),
    "gpt": gpt_specs(),
    "seq2seq": seq2seq_specs(),
    "dual": dual_specs(),
    "mlp": st.builds(
        MLPSpec,
        depth=st.integers(1, 4),
        width=st.integers(1, 40),
        shape=st.one_of(IMAGE_SHAPES, st.just(FEATURES), st.just(SERIES)),
        norm=st.sampled_from(["none", "layer", "batch"]),
    ),
    "convnet": convnet_specs(),
    "inception": st.builds(
        InceptionSpec,
        stage_depths=st.lists(st.integers(1, 3), min_size=1, max_size=3),
        width=st.integers(1, 3).map(lambda part: 16 * part),
        stem=STEMS,
        shape=IMAGE_SHAPES,
        norm=NORMS,
    ),
    "resnet": st.builds(
        ResNetSpec,
        stage_depths=st.lists(st.integers(1, 3), min_size=1, max_size=4),
        width=st.integers(1, 8),
        block=st.sampled_from(["basic", "bottleneck"]),
        stem=STEMS,
        shortcut=st.sampled_from(["padding", "projection"]),
        shape=IMAGE_SHAPES,
        norm=NORMS,
    ),
}
"""Any spec of a family, small."""

TARGETS: dict[str, list[float]] = {
    "rnn": [1e5, 1e6, 124e6],
    "encoder": [1e5, 1e6, 110e6],
    "vit": [3e4, 1e6, 86e6],
    "gpt": [1e5, 1e6, 124e6],
    "seq2seq": [1e5, 1e6, 77e6],
    "dual": [1e5, 1e6, 151e6],
    "mlp": [3e4, 1e6, 1e9],
    "convnet": [2e4, 1e6, 1e9],
    "inception": [1e5, 1e6, 1e9],
    "resnet": [27e4, 1e6, 1e9],
}
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
