"""Where heads, neurons, features and blocks of a Transformer lie, whatever its tensors are called and however they are fused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from kleiber.compress.structure.axes import Axis, Block, Kind, Norm, Place, Sizes, Skeleton
from kleiber.errors import RecipeError
from kleiber.models import Spec

__all__ = ["Names", "Numbers", "heads_fill_width", "transformer_skeleton", "width_holds_heads"]


@dataclass(frozen=True)
class Names:
    """What the layers of a Transformer are called."""

    blocks: str
    """The list of them; the following five are names inside of one."""
    qkv: tuple[str, ...]
    """Query, key and value; one name where they are fused along their rows."""
    attn_out: str
    ups: tuple[str, ...]
    """What the MLP's neurons come from: two where they are gated."""
    down: str
    norms: tuple[str, str]
    """At the attention, and at the MLP."""
    is_pre_norm: bool
    """Whether a norm stands before its branch, not after the sum."""
    tables: tuple[tuple[str, int], ...]
    """What the stream begins with, and which dimension of it is the stream."""
    top_norm: str
    """Behind the last block where norms stand before branches, else before the first."""
    top_reader: str
    """The linear layer that reads the stream behind the blocks; of tied weights the embedding."""
    pooled: tuple[str, str] | None = None
    """A linear layer of as many features as the stream behind the blocks, and the one that reads it."""
    num_fused_ups: int = 1
    """Matrices in each of `ups`, along its rows."""
    weight: str = ".weight"
    """What follows a layer's name in that of its weight."""


@dataclass(frozen=True)
class Numbers:
    """Sizes of a Transformer."""

    depth: int
    width: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_width: int


def transformer_skeleton(
    names: Names,
    numbers: Numbers,
    state: Mapping[str, Tensor],
    spec_of: Callable[[Sizes, Sequence[int]], Spec],
    settled: Callable[[Sizes, Collection[str]], Sizes] | None = None,
    *,
    is_width_free: bool = True,
) -> Skeleton:
    """Return what can be cut out of a Transformer.

    Args:
        names: Of its layers.
        numbers: Its sizes.
        state: Its tensors; a bias has places where there is one.
        spec_of: The spec of what is left.
        settled: How sizes are made to fit each other; None leaves them.
        is_width_free: Whether the stream shrinks by itself, not only with the heads.
    """
    lie = _Lie(names, numbers, state)
    group = lie.group
    kinds = (
        Kind("heads", numbers.num_heads, step=group, has_round_sizes=False),
        Kind("mlp_width", numbers.mlp_width),
        Kind("width", numbers.width, least=2, is_free=is_width_free, is_last=True),
    )
    blocks = [f"{names.blocks}.{index}" for index in range(numbers.depth)]
    inner = [axis for block in blocks for axis in (lie.heads(block), lie.neurons(block))]
    norms = lie.norms(blocks)
    skeleton = Skeleton(
        kinds=kinds,
        axes=(*inner, lie.stream(blocks, norms), *lie.pooled()),
        spec_of=spec_of,
        blocks=tuple(Block(block) for block in blocks),
        norms=norms,
    )
    return skeleton if settled is None else replace(skeleton, settled=settled)


def heads_fill_width(head_dim: int) -> Callable[[Sizes, Collection[str]], Sizes]:
    """Return how sizes fit where all heads together are as wide as the stream.

    Example:
        >>> heads_fill_width(32)({"heads": 3, "width": 128}, {"heads"})
        {'heads': 3, 'width': 96}
    """

    def settled(sizes: Sizes, asked: Collection[str]) -> Sizes:
        heads, width = sizes["heads"], sizes["width"]
        if "width" in asked and (width % head_dim or ("heads" in asked and width != heads * head_dim)):
            raise RecipeError(
                f"shrink: width must be heads x {head_dim}, the features of a head, in this architecture.",
                got=f"width={width}" + (f", heads={heads}" if "heads" in asked else ""),
                hint=f"width={max(1, width // head_dim) * head_dim}",
            )
        if "width" in asked:
            return {**sizes, "heads": width // head_dim}
        return {**sizes, "width": heads * head_dim}

    return settled


def width_holds_heads(num_heads: int, group: int) -> Callable[[Sizes, Collection[str]], Sizes]:
    """Return how sizes fit where a config wants a width that the heads divide, though nothing depends on it.

    Args:
        num_heads: Of the whole model.
        group: Heads that go together.

    Example:
        >>> fits = width_holds_heads(8, 2)
        >>> fits({"heads": 6, "width": 40}, set()), fits({"heads": 6, "width": 40}, {"width"})
        ({'heads': 6, 'width': 36}, {'heads': 4, 'width': 40})
    """

    def settled(sizes: Sizes, asked: Collection[str]) -> Sizes:
        heads, width = sizes["heads"], sizes["width"]
        if "width" not in asked:
            return {**sizes, "width": max(1, width // heads) * heads}
        if "heads" in asked or heads == num_heads:
            if width % heads:
                raise RecipeError(
                    f"shrink: width must be a multiple of the {heads} heads in this architecture.",
                    got=f"width={width}",
                    hint=f"width={max(1, width // heads) * heads}",
                )
            return sizes
        # Heads that shrink towards a target give way to the width that was asked.
        return {**sizes, "heads": next(fewer for fewer in range(heads, 0, -group) if not width % fewer)}

    return settled


@dataclass(frozen=True)
class _Lie:
    """Where things lie in one Transformer."""

    names: Names
    numbers: Numbers
    state: Mapping[str, Tensor]

    @property
    def group(self) -> int:
        """Query heads that share key and value: they are one unit."""
        return self.numbers.num_heads // self.numbers.num_kv_heads

    def heads(self, block: str) -> Axis:
        """Return the axis of a block's heads."""
        H, group = self.numbers.head_dim, self.group
        sizes = (group * H, H, H)
        starts = (0, self.numbers.num_heads * H, (self.numbers.num_heads + self.numbers.num_kv_heads) * H)
        fused = (tuple(zip(starts, sizes, strict=True)),)
        apart = tuple(((0, size),) for size in sizes)
        places = [
            place
            for layer, stretches in zip(
                self.names.qkv, fused if len(self.names.qkv) == 1 else apart, strict=True
            )
            for place in self._rows(f"{block}.{layer}", stretches)
        ]
        reader = Place(f"{block}.{self.names.attn_out}{self.names.weight}", 1, ((0, group * H),))
        return Axis("heads", self.numbers.num_kv_heads, (*places, reader), (reader,))

    def neurons(self, block: str) -> Axis:
        """Return the axis of the neurons of a block's MLP."""
        M = self.numbers.mlp_width
        stretches = tuple((index * M, 1) for index in range(self.names.num_fused_ups))
        places = [place for layer in self.names.ups for place in self._rows(f"{block}.{layer}", stretches)]
        reader = Place(f"{block}.{self.names.down}{self.names.weight}", 1)
        return Axis("mlp_width", M, (*places, reader), (reader,))

    def stream(self, blocks: Sequence[str], norms: Sequence[Norm]) -> Axis:
        """Return the axis of the residual stream's features."""
        names = self.names
        places = [Place(name, dim) for name, dim in names.tables]
        norm_names = [names.top_norm]
        for block in blocks:
            norm_names += [f"{block}.{norm}" for norm in names.norms]
            for layer in (names.attn_out, names.down):
                places += self._rows(f"{block}.{layer}")
            places += [self._columns(f"{block}.{layer}") for layer in (*names.qkv, *names.ups)]
        places += [place for norm in norm_names for place in self._rows(norm)]
        places.append(self._columns(names.top_reader))
        return Axis(
            "width",
            self.numbers.width,
            tuple(dict.fromkeys(places)),
            tuple(dict.fromkeys(norm.reader for norm in norms)),
            is_inner=False,
        )

    def pooled(self) -> list[Axis]:
        """Return the axis of a layer behind the blocks that is as wide as the stream."""
        if self.names.pooled is None:
            return []
        layer, head = self.names.pooled
        reader = self._columns(head)
        return [Axis("width", self.numbers.width, (*self._rows(layer), reader), (reader,))]

    def norms(self, blocks: Sequence[str]) -> tuple[Norm, ...]:
        """Return the norms over the stream, each with a weight that reads what it gives."""
        names = self.names
        attn_readers = [f"{block}.{names.qkv[0]}" for block in blocks]
        mlp_readers = [f"{block}.{names.ups[0]}" for block in blocks]
        attn_norms, mlp_norms = ([f"{block}.{norm}" for block in blocks] for norm in names.norms)
        if names.is_pre_norm:
            read = [*zip(attn_norms, attn_readers, strict=True), *zip(mlp_norms, mlp_readers, strict=True)]
            read.append((names.top_norm, names.top_reader))
        else:
            # What a sum's norm gives is what the next branch reads.
            after = [*attn_readers, names.top_reader]
            read = [
                *zip(attn_norms, mlp_readers, strict=True),
                *zip([names.top_norm, *mlp_norms], after, strict=True),
            ]
        return tuple(self._norm(norm, reader) for norm, reader in read)

    def _norm(self, norm: str, reader: str) -> Norm:
        shift = f"{norm}.bias"
        return Norm(
            f"{norm}{self.names.weight}", shift if shift in self.state else None, self._columns(reader)
        )

    def _columns(self, layer: str) -> Place:
        return Place(f"{layer}{self.names.weight}", 1)

    def _rows(self, layer: str, stretches: tuple[tuple[int, int], ...] = ((0, 1),)) -> list[Place]:
        """Return the rows of a layer's weight, and of its bias where it has one."""
        found = [f"{layer}{self.names.weight}", f"{layer}.bias"]
        return [Place(name, 0, stretches) for name in found if name in self.state]
