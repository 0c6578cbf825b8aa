"""How a model is spread over devices: what the command line's `tp=2,pp=4,fsdp=2` means, and which layouts divide."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from kleiber.cost.usage import Usage
from kleiber.errors import RecipeError, nearest
from kleiber.runs import Document

__all__ = ["AXES", "BlockShape", "Layout", "check_layout", "enumerate_layouts", "parse_layout", "rank_usage"]

AXES = {
    "ddp": "copies of the model, each with its share of the batch",
    "fsdp": "devices with a share of the batch that split weights, gradients and optimizer state",
    "tp": "devices that split every block's matrices",
    "pp": "stages that split the depth",
}
"""Ways to spread a model. Neighbours on the same node: `tp` first, then `fsdp`, `ddp` and last `pp`."""

_MAX_DEVICES = 10**6
_Size = Annotated[int, Field(strict=True, ge=1, le=_MAX_DEVICES)]
_EXAMPLE = "--parallel tp=2,pp=4,fsdp=2"


@dataclass(frozen=True)
class BlockShape:
    """What tensor and pipeline parallelism must divide; known of Transformers."""

    depth: int
    """Repeated blocks."""
    width: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int


class Layout(Document):
    """Devices along each way to spread a model; their product is the number of devices.

    Example:
        >>> layout = parse_layout("tp=2,fsdp=4")
        >>> layout.num_devices, layout.num_ranks, layout.name
        (8, 4, 'fsdp=4,tp=2')
    """

    ddp: _Size = 1
    fsdp: _Size = 1
    """ZeRO-3, as PyTorch's FSDP2 does it."""
    tp: _Size = 1
    """With sequence parallelism: what lies between the matrices is split too."""
    pp: _Size = 1
    """One forward, one backward."""

    @property
    def num_devices(self) -> int:
        """The product."""
        return self.ddp * self.fsdp * self.tp * self.pp

    @property
    def num_ranks(self) -> int:
        """Shares of the batch."""
        return self.ddp * self.fsdp

    @property
    def name(self) -> str:
        """As it is typed; `ddp=1` is one device."""
        return (
            ",".join(f"{axis}={getattr(self, axis)}" for axis in AXES if getattr(self, axis) > 1) or "ddp=1"
        )


def parse_layout(text: str) -> Layout:
    """Return the layout that a person typed, such as `ddp=8` or `tp=2,pp=4,fsdp=2`.

    Raises:
        RecipeError: An unknown key, a key given twice, a size that is not a whole number of at least 1.

    Example:
        >>> parse_layout("tp=2, pp=4").num_devices
        8
    """
    sizes: dict[str, int] = {}
    for part in text.split(","):
        axis, _, size = (piece.strip() for piece in part.partition("="))
        if axis not in AXES:
            raise RecipeError(
                f"--parallel is written KEY=NUMBER,KEY=NUMBER; '{axis}' is not such a key. {nearest(axis, AXES)}",
                got=text,
                hint=_EXAMPLE,
            )
        if axis in sizes:
            raise RecipeError(f"--parallel names '{axis}' twice.", got=text, hint=_EXAMPLE)
        if not (size.isascii() and size.isdigit() and 1 <= int(size) <= _MAX_DEVICES):
            raise RecipeError(
                f"--parallel {axis} must be a whole number of devices from 1 to {_MAX_DEVICES:,}.",
                got=size,
                hint=f"--parallel {axis}=2",
            )
        sizes[axis] = int(size)
    return Layout(**sizes)


def check_layout(
    layout: Layout, blocks: BlockShape | None, usage: Usage, num_devices: int | None = None
) -> None:
    """Raise if the model or the batch cannot be spread so.

    Args:
        layout: How.
        blocks: Of a Transformer; None of other models, which know `ddp` and `fsdp` only.
        usage: The batch and its micro-batches.
        num_devices: Devices that there are; None takes those of the layout.

    Raises:
        RecipeError: A size does not divide what it splits; the sentence has both numbers.
    """
    problem = (
        _devices_problem(layout, num_devices)
        or _model_problem(layout, blocks)
        or _batch_problem(layout, usage)
    )
    if problem:
        sentence, hint = problem
        raise RecipeError(sentence, got=layout.name, hint=hint)


def _devices_problem(layout: Layout, num_devices: int | None) -> tuple[str, str] | None:
    if num_devices is None or layout.num_devices == num_devices:
        return None
    product = " x ".join(str(getattr(layout, axis)) for axis in AXES if getattr(layout, axis) > 1) or "1"
    return (
        f"--parallel spreads the model over {product} = {layout.num_devices} devices, but there are {num_devices}.",
        f"--num-devices {layout.num_devices}",
    )


def _model_problem(layout: Layout, blocks: BlockShape | None) -> tuple[str, str] | None:
    if blocks is None:
        if layout.tp == layout.pp == 1:
            return None
        return (
            "tp and pp split the blocks of a Transformer, and this model is not known to have such blocks.",
            f"--parallel fsdp={layout.num_devices}",
        )
    for what, count in (
        ("query heads", blocks.num_heads),
        ("key and value heads", blocks.num_kv_heads),
        ("features of the width", blocks.width),
    ):
        if count % layout.tp:
            return f"tp={layout.tp} does not divide the {count} {what}.", _hint(
                "tp", _largest_tp(layout.tp, blocks)
            )
    if layout.pp > blocks.depth:
        return f"pp={layout.pp} stages are more than the {blocks.depth} blocks.", _hint("pp", blocks.depth)
    if blocks.depth % layout.pp and (blocks.depth + 2) % layout.pp:
        return (
            (
                f"pp={layout.pp} does not divide the {blocks.depth} blocks"
                f" (nor {blocks.depth + 2}, with embedding and head in the place of one block each)."
            ),
            _hint("pp", max(n for n in range(1, layout.pp) if blocks.depth % n == 0)),
        )
    return None


def _largest_tp(most: int, blocks: BlockShape) -> int:
    return max(
        n
        for n in range(1, most)
        if not any(x % n for x in (blocks.num_heads, blocks.num_kv_heads, blocks.width))
    )


def _hint(axis: str, size: int) -> str:
    return f"--parallel {axis}={size}"


def _batch_problem(layout: Layout, usage: Usage) -> tuple[str, str] | None:
    ranks, shares = layout.num_ranks, layout.num_ranks * usage.accumulation
    hint = f"--batch {shares * max(1, round(usage.batch_size / shares))}"
    if usage.batch_size < shares:
        return (
            (
                f"a batch of {usage.batch_size} samples leaves none for a micro-batch: ddp x fsdp = {ranks} devices"
                f" share it in {usage.accumulation} micro-batch{'es' if usage.accumulation > 1 else ''} each."
            ),
            hint,
        )
    if usage.batch_size % ranks:
        return f"ddp x fsdp = {ranks} does not divide the batch of {usage.batch_size} samples.", hint
    if usage.batch_size % shares:
        return (
            (
                f"{usage.accumulation} micro-batches do not divide the {usage.batch_size // ranks} samples"
                f" of one of ddp x fsdp = {ranks} shares of the batch."
            ),
            hint,
        )
    return None


def rank_usage(usage: Usage, layout: Layout) -> Usage:
    """Return the usage of one of the `ddp x fsdp` shares of the batch, which must divide.

    Example:
        >>> rank_usage(Usage(batch_size=64, accumulation=2), Layout(ddp=2, fsdp=4, tp=2)).batch_size
        8
    """
    return usage.model_copy(update={"batch_size": usage.batch_size // layout.num_ranks})


def enumerate_layouts(num_devices: int, blocks: BlockShape | None, usage: Usage) -> list[Layout]:
    """Return every layout of exactly so many devices that divides model and batch, simple ones first.

    Example:
        >>> [layout.name for layout in enumerate_layouts(4, None, Usage(batch_size=8))]
        ['ddp=4', 'fsdp=4', 'ddp=2,fsdp=2']
    """
    divisors = [n for n in range(1, num_devices + 1) if num_devices % n == 0]
    layouts = [
        Layout(ddp=num_devices // (fsdp * tp * pp), fsdp=fsdp, tp=tp, pp=pp)
        for pp, tp, fsdp in itertools.product(divisors, repeat=3)
        if num_devices % (fsdp * tp * pp) == 0
    ]
    fitting = [one for one in layouts if not (_model_problem(one, blocks) or _batch_problem(one, usage))]
    return sorted(fitting, key=lambda one: (one.name.count("="), one.pp, one.tp, one.fsdp))
