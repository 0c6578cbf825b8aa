"""Parameters of any module: all, trainable, active, by group and by module."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kleiber.cost.module_cost import ModuleParams
from kleiber.runs import ParamCount

__all__ = ["ModuleCounts", "count_parameters"]

_NO_TOKENS = re.compile(r"pos|wpe|type|relative")
"""Tables of positions, segments and distances: look-ups, but not of tokens."""


@dataclass(frozen=True)
class ModuleCounts:
    """What a module holds [count]; shared parameters once."""

    total: int
    trainable: int
    active: int
    """Parameters that one token meets: of a mixture's experts only those that it visits."""
    groups: ParamCount
    """Embedding, body and head add up to `total`."""
    buffer_bytes: int
    """State that is no parameter, such as running means."""
    modules: tuple[ModuleParams, ...]
    """Each with its own parameters, parents first: `fold_modules` makes a tree of them."""


def count_parameters(module: nn.Module, *, num_experts: tuple[int, int] | None = None) -> ModuleCounts:
    """Count the parameters of `module`; their values are not read, so it may be on the meta device.

    The embedding is what a model of transformers names as such, or each table that is not called after positions, types or
    distances. The head is what such a model names, or the last linear layer with as many results as a
    table has entries. A module that groups its parameters itself (`param_groups`) is asked. Without a table all is body.
    Experts are the parameters with `experts` in their path; shared experts are called otherwise and always active.

    Args:
        module: Any module.
        num_experts: Of a mixture: experts that a token visits, and all experts of a layer.

    Example:
        >>> counts = count_parameters(nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4), nn.Linear(4, 10)))
        >>> counts.total, counts.groups.embedding, counts.groups.body, counts.groups.head
        (110, 40, 20, 50)
    """
    params = dict(module.named_parameters())
    total = _num(params.values())
    experts = _num(param for name, param in params.items() if "experts" in name.split("."))
    visited, all_experts = num_experts or (1, 1)
    buffers = dict(module.named_buffers())
    return ModuleCounts(
        total=total,
        trainable=_num(param for param in params.values() if param.requires_grad),
        active=total - experts + experts * visited // all_experts,
        groups=_groups(module, params),
        buffer_bytes=sum(buffer.numel() * buffer.element_size() for buffer in buffers.values()),
        modules=tuple(_own_parameters(module)),
    )


def _num(params: Iterable[Tensor]) -> int:
    return sum(param.numel() for param in params)


def _own_parameters(module: nn.Module) -> Iterator[ModuleParams]:
    seen: set[Tensor] = set()
    for path, part in module.named_modules():
        own = [param for param in part.parameters(recurse=False) if param not in seen]
        seen.update(own)
        trainable = _num(param for param in own if param.requires_grad)
        yield ModuleParams(path, type(part).__name__, _num(own), trainable)


def _groups(module: nn.Module, params: dict[str, nn.Parameter]) -> ParamCount:
    tables, head = _named_groups(module, params) or _found_groups(module)
    # A head whose weight is the table is counted there; its bias is body.
    is_tied = any(param in tables for param in head)
    num_embedding, num_head = _num(tables), 0 if is_tied else _num(head)
    body = _num(params.values()) - num_embedding - num_head
    return ParamCount(embedding=num_embedding, body=body, head=num_head, is_tied=is_tied)


def _named_groups(
    module: nn.Module, params: dict[str, nn.Parameter]
) -> tuple[set[Tensor], set[Tensor]] | None:
    ask: Any = getattr(module, "param_groups", None)
    if not callable(ask):
        return None
    groups = ask()
    tables: set[Tensor] = {params[name] for name in groups.embedding}
    head: set[Tensor] = {params[name] for name in groups.head}
    return tables, head or tables


def _found_groups(module: nn.Module) -> tuple[set[Tensor], set[Tensor]]:
    tables = _tables(module)
    sizes = {table.num_embeddings for table in tables}
    head = _asked(module, "get_output_embeddings")
    if head is None:
        linears = [part for part in module.modules() if isinstance(part, nn.Linear)]
        head = next((linear for linear in reversed(linears) if linear.out_features in sizes), None)
    return {table.weight for table in tables}, set() if head is None else set(head.parameters())


def _tables(module: nn.Module) -> list[nn.Embedding | nn.EmbeddingBag]:
    named = _asked(module, "get_input_embeddings")
    if named is not None:
        return [named] if isinstance(named, nn.Embedding) else []
    return [
        part
        for name, part in module.named_modules()
        if isinstance(part, nn.Embedding | nn.EmbeddingBag) and not _NO_TOKENS.search(name)
    ]


def _asked(module: nn.Module, method: str) -> nn.Module | None:
    """Return what a model of transformers answers; some raise for want of an embedding."""
    ask: Any = getattr(module, method, None)
    try:
        answer = ask() if callable(ask) else None
    except NotImplementedError:
        return None
    return answer if isinstance(answer, nn.Module) else None
