"""The size dial of the `gpt` family: from `depth`, `width` or a number of parameters to a whole spec."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError

from kleiber.errors import RecipeError, UsageError
from kleiber.models.gpt.features import Features
from kleiber.models.gpt.spec import MAX_EXPERTS, Depth, GPTSpec, Heads, MLPWidth, Width
from kleiber.runs.document import explain
from kleiber.units import parse_count

__all__ = ["resolve_dial"]

WIDTH_PER_DEPTH = 64
"""Aspect ratio of the dial: depth 12 is 768 wide, as GPT-2 small."""
_ASPECTS = (8.0, 128.0)
"""Of width to depth: what is chosen from first."""
_ODD_ASPECTS = (1.0, 128.0)
_MAX_MISS_FRAC = 0.2
_MAX_DEPTH, _MAX_WIDTH = 10_000, 1_000_000
"""Of a spec."""
_EXAMPLE = "gpt:depth=12   (or gpt:width=768, gpt:params=124e6)"


_EXPERTS_PER_TOKEN = 2
_ROUTER_AUX_COEF = 0.01
"""Fedus et al. 2021, arXiv:2101.03961, section 2.2."""
_Experts = Annotated[int, Field(strict=True, ge=1, le=MAX_EXPERTS)]


class _Dial(Features):
    depth: Depth | None = None
    width: Width | None = None
    params: Annotated[float, Field(ge=1, le=1e14, allow_inf_nan=False)] | None = None
    num_heads: Heads | None = None
    num_kv_heads: Heads | None = None
    head_dim: Width | None = None
    mlp_width: MLPWidth | None = None
    is_tied: bool = Field(default=True, strict=True)
    rope_theta: float = Field(default=10_000.0, gt=1, lt=1e12)
    norm_eps: float = Field(default=1e-6, gt=0, lt=1)
    num_experts: _Experts | None = None
    experts_per_token: _Experts | None = None
    expert_width: MLPWidth | None = None
    router_aux_coef: float | None = Field(default=None, ge=0, lt=100)


def resolve_dial(size: Mapping[str, Any], vocab_size: int, context: int) -> GPTSpec:
    """Return the spec that `size` asks for; `GPTSpec.from_dial` says what it takes."""
    dial = _read(size)
    if dial.params is not None:
        return _solve(dial, dial.params, vocab_size, context)
    if dial.depth is None and dial.width is None:
        raise RecipeError("A gpt size needs depth, width or params.", got=dict(size), hint=_EXAMPLE)
    width = dial.width or WIDTH_PER_DEPTH * (dial.depth or 1)
    depth = dial.depth or max(2, round(width / WIDTH_PER_DEPTH))
    return _spec(dial, depth, width, vocab_size, context)


def _read(size: Mapping[str, Any]) -> _Dial:
    for key in ("vocab_size", "context"):
        if key in size:
            raise RecipeError(
                f"{key} belongs to the data, not to the size of the model.",
                got=f"{key}={size[key]}",
                hint=f"--set data.{key}={size[key]}",
            )
    raw = dict(size)
    if isinstance(raw.get("params"), str):
        try:
            raw["params"] = parse_count(raw["params"], "params")
        except UsageError as error:
            raise RecipeError(f"gpt size: {error.message}", got=error.got, hint="gpt:params=124e6") from None
    try:
        return _Dial.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(f"gpt size: {explain(error, _Dial)}", hint=_EXAMPLE) from None


def _heads(dial: _Dial, width: int) -> tuple[int, int]:
    """Return the number of heads and their size; without either, the largest of 64, 32, 16 that suits."""
    if dial.num_heads and dial.head_dim:
        return dial.num_heads, dial.head_dim
    if dial.num_heads:
        if width % (2 * dial.num_heads):
            raise RecipeError(
                f"num_heads must divide width {width} into heads of an even size.",
                got=dial.num_heads,
                hint=f"gpt:width={width},num_heads={dial.num_heads},head_dim=16   (heads need not add up to width)",
            )
        return dial.num_heads, width // dial.num_heads
    sizes = (dial.head_dim,) if dial.head_dim else _default_head_dims(width)
    head_dim = next((size for size in sizes if width % size == 0), None)
    if head_dim is None:
        raise RecipeError(
            f"width must be a multiple of head_dim {sizes[-1]}.",
            got=width,
            hint=f"gpt:width={math.ceil(width / sizes[-1]) * sizes[-1]}",
        )
    return width // head_dim, head_dim


def _default_head_dims(width: int) -> tuple[int, ...]:
    if width >= 256:
        return (64, 32, 16)
    return (32, 16) if width >= 128 else (16,)


def _spec(dial: _Dial, depth: int, width: int, vocab_size: int, context: int) -> GPTSpec:
    num_heads, head_dim = _heads(dial, width)
    # 8/3 keeps a gated MLP at the 8 w^2 weights of an ungated one (Shazeer 2020, arXiv:2002.05202).
    multiple = 64 if width >= 512 else 16
    mlp_width = math.ceil(8 * width / 3 / multiple) * multiple if dial.is_gated else 4 * width
    raw: dict[str, Any] = {
        "depth": depth,
        "width": width,
        "num_heads": num_heads,
        "num_kv_heads": dial.num_kv_heads or num_heads,
        "head_dim": head_dim,
        "mlp_width": dial.mlp_width or mlp_width,
        "vocab_size": vocab_size,
        "context": context,
        "is_tied": dial.is_tied,
        "rope_theta": dial.rope_theta,
        "norm_eps": dial.norm_eps,
        **{key: getattr(dial, key) for key in Features.model_fields},
    }
    raw |= _mixture(dial, raw["mlp_width"])
    return GPTSpec.of(raw, "gpt size", RecipeError)


def _mixture(dial: _Dial, mlp_width: int) -> dict[str, Any]:
    """Return the fields of a mixture, by default with as many active parameters as the dense model of the same sizes."""
    given = {
        "experts_per_token": dial.experts_per_token,
        "expert_width": dial.expert_width,
        "router_aux_coef": dial.router_aux_coef,
    }
    if dial.num_experts is None:
        for key, value in given.items():
            if value is not None:
                raise RecipeError(
                    f"{key} has no effect without num_experts.",
                    got=value,
                    hint=f"gpt:depth=12,num_experts=8,{key}={value}",
                )
        return {}
    chosen = dial.experts_per_token or min(_EXPERTS_PER_TOKEN, dial.num_experts)
    defaults = {
        "num_experts": dial.num_experts,
        "experts_per_token": chosen,
        "expert_width": math.ceil(mlp_width / chosen / 8) * 8,
        "router_aux_coef": _ROUTER_AUX_COEF,
    }
    return defaults | {key: value for key, value in given.items() if value is not None}


def _solve(dial: _Dial, target: float, vocab_size: int, context: int) -> GPTSpec:
    """Return the spec whose count is closest to `target`, of those not far from the dial's aspect ratio."""
    if dial.depth and dial.width:
        raise RecipeError(
            "depth, width and params cannot all be set: params solves for what is not given.",
            hint="gpt:params=124e6,depth=12",
        )
    best = None
    # A large vocabulary leaves a small target few widths: better an odd shape than none. A depth or width that was asked is itself.
    for aspects in (_ASPECTS,) if dial.depth or dial.width else (_ASPECTS, _ODD_ASPECTS):
        candidates = _candidates(dial, target, vocab_size, context, aspects)
        best = min(candidates, key=lambda spec: _distance(spec, target), default=None)
        if best is not None and abs(best.count().total / target - 1) <= _MAX_MISS_FRAC:
            return best
    nearest = "" if best is None else f"; the nearest has {best.count().total:,}"
    raise RecipeError(
        f"params cannot be reached with vocab_size {vocab_size} and the other sizes asked{nearest}.",
        got=target,
        hint=_EXAMPLE,
    )


def _candidates(
    dial: _Dial, target: float, vocab_size: int, context: int, aspects: tuple[float, float]
) -> list[GPTSpec]:
    """Return the specs near the target; widths at which a rule is broken are left out, unless it is at all of them."""
    candidates: list[GPTSpec] = []
    refused: dict[str, RecipeError] = {}
    for width in _widths(dial, target, vocab_size):
        try:
            candidates += [
                _spec(dial, depth, width, vocab_size, context)
                for depth in _depths(dial, target, width, (vocab_size, context), aspects)
            ]
        except RecipeError as error:
            refused[error.message] = error
    if not candidates and len(refused) == 1:
        raise refused.popitem()[1]
    return candidates


def _distance(spec: GPTSpec, target: float) -> float:
    # A miss of 1% weighs as much as an aspect ratio 1.65 times off: the count first, then the shape.
    miss = abs(math.log(spec.count().total / target))
    return miss + 0.02 * abs(math.log(spec.width / spec.depth / WIDTH_PER_DEPTH))


def _widths(dial: _Dial, target: float, vocab_size: int) -> Iterator[int]:
    if dial.width:
        yield dial.width
        return
    # A block holds about 12 w^2 weights, so no width above this one fits the target even at depth 1.
    largest = min(target / vocab_size, math.sqrt(target / 12)) * (1 + _MAX_MISS_FRAC)
    width = 16
    while width <= min(_MAX_WIDTH, max(16, largest)):
        if not (dial.head_dim and width % dial.head_dim) and not (
            dial.num_heads and not dial.head_dim and width % (2 * dial.num_heads)
        ):
            yield width
        width += _width_step(width, is_fine=dial.depth is not None)


def _width_step(width: int, *, is_fine: bool) -> int:
    """Return how far the next width is: at most 1/256 of a large one, a power of two that divides it.

    A given depth leaves only the width to meet the target with: then it is at most 1/512.
    """
    small = 16 if is_fine or width < 128 else 32 if width < 256 else 64
    octave = (width // (8192 if is_fine else 16_384)).bit_length()
    return small << max(0, octave - 1)


def _depths(
    dial: _Dial, target: float, width: int, data: tuple[int, int], aspects: tuple[float, float]
) -> list[int]:
    """Return the depths near the target; `data` are vocabulary and context."""
    if dial.depth:
        return [dial.depth]
    bare = _spec(dial.model_copy(update={"value_embeddings": 0}), 1, width, *data)
    one, num_tables = bare.count(), dial.value_embeddings
    block = one.body - width
    tables = num_tables * bare.kv_width * data[0]
    exact = (target - tables - one.total + block) / block
    low, high = (width / aspect for aspect in reversed(aspects))
    return [
        depth
        for depth in sorted({_clamped(math.floor(exact)), _clamped(math.ceil(exact))})
        if depth >= num_tables and (dial.width or low <= depth <= max(2.0, high))
    ]


def _clamped(depth: int) -> int:
    return min(max(1, depth), _MAX_DEPTH)
