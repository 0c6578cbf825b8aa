"""Which part of a model's blocks and parameters a pipeline stage holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kleiber.cost.layouts import BlockShape, Layout
from kleiber.runs import ParamCount

__all__ = ["Stage", "pipeline_stages"]


@dataclass(frozen=True)
class Stage:
    """One device's part of the depth, before `tp` and `fsdp` split it further."""

    name: Literal["only", "first", "middle", "last"]
    block_frac: float
    """Of all blocks."""
    has_embedding: bool
    has_head: bool
    block_params: int
    """In the blocks of this stage; of a model without known blocks all of its parameters."""
    table_params: int
    """In embedding and head of this stage."""
    largest_params: int
    """In one block."""

    @property
    def num_params(self) -> int:
        """All of this stage."""
        return self.block_params + self.table_params


def pipeline_stages(params: ParamCount, blocks: BlockShape | None, layout: Layout) -> list[Stage]:
    """Return the kinds of stages that differ: the first, one between, the last.

    The embedding is on the first and the head on the last; a tied table is on both. Where `pp` divides not the
    depth but the depth and two more, embedding and head take the place of one block each.

    Source:
        Narayanan et al. 2021, arXiv:2104.04473, section 2.2; Llama 3 405B's 126 blocks in 16 stages: Grattafiori et
        al. 2024, arXiv:2407.21783, section 3.3.2.

    Example:
        >>> shape = BlockShape(depth=126, width=8, num_heads=2, num_kv_heads=2, head_dim=4, vocab_size=9)
        >>> count = ParamCount(embedding=72, body=1260, head=72)
        >>> [round(126 * stage.block_frac) for stage in pipeline_stages(count, shape, Layout(pp=16))]
        [7, 8, 7]
    """
    depth = blocks.depth if blocks else 1
    whole = params.body / depth
    table = params.embedding if params.is_tied else params.head

    def stage(name: Literal["only", "first", "middle", "last"], num_blocks: float) -> Stage:
        is_first, is_last = name in {"only", "first"}, name in {"only", "last"}
        tables = params.embedding * is_first + table * is_last
        return Stage(
            name=name,
            block_frac=num_blocks / depth,
            has_embedding=is_first,
            has_head=is_last,
            block_params=round(whole * num_blocks),
            table_params=params.embedding + params.head if name == "only" else tables,
            largest_params=round(whole),
        )

    if layout.pp == 1:
        return [stage("only", depth)]
    is_even = depth % layout.pp == 0
    inner = depth // layout.pp if is_even else (depth + 2) // layout.pp
    outer = inner if is_even else inner - 1
    middle = [stage("middle", inner)] if layout.pp > 2 else []
    return [stage("first", outer), *middle, stage("last", outer)]
