"""A language model as a graph in which OpenVINO finds attention over a cache in pages.

openvino-genai looks for a stateful model with the inputs `input_ids`, `attention_mask`, `position_ids` and `beam_idx`, and makes
one of it whose attention reads pages. In that one all tokens of a step stand in a row, each with its position: positions come in
from outside, and no size may be read from the past, which is gone then.

Legend: B sequences, T new tokens, P tokens read before, N query heads, K key/value heads, H features of a head, V vocabulary.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kleiber.infer.decoding.cached_forward import Heads, cached_forward, cached_heads
from kleiber.infer.decoding.joined_cache import JoinedCache, seen_before
from kleiber.infer.decoding.openvino_states import keep_states
from kleiber.infer.decoding.step_graph import past_name, present_name
from kleiber.infer.lowering import lower, to_bytes
from kleiber.infer.lowering.export import export
from kleiber.infer.lowering.lower import Lowered
from kleiber.infer.sessions import openvino_core
from kleiber.models.family import FamilyModule
from kleiber.models.stored import Activations, Forms

__all__ = ["MODEL_FILE", "paged_graph", "write_paged"]

MODEL_FILE = "openvino_model.xml"
"""The name that openvino-genai looks for."""
_TOKENS, _POSITIONS, _MASK, _ORDER = "input_ids", "position_ids", "attention_mask", "beam_idx"
_BATCH, _NUM_TOKENS, _NUM_PAST = 2, 3, 5
"""Sizes of the examples; all different, so that the exporter takes none for another."""


def paged_graph(module: FamilyModule, forms: Forms, activations: Activations) -> Lowered:
    """Return a graph: `input_ids` [B, T], `position_ids` [B, T], `past_i` [B, K, P, H] -> `logits` [B, T, V], `present_i`.

    Args:
        module: fp32, of the family gpt or hf; its weights are those that `forms` stand for.
        forms: How weights are stored.
        activations: How the inputs of layers are held.

    Raises:
        UsageError: The module does not go on from text.
        RecipeError: It cannot be exported.
    """
    heads = cached_heads(module)
    batch = torch.export.Dim("batch")
    token_axes = {0: batch, 1: torch.export.Dim.DYNAMIC}
    past_axes = {0: batch, 2: torch.export.Dim("past", max=max(heads.context, _NUM_PAST + 1))}
    tokens_BT = torch.zeros(_BATCH, _NUM_TOKENS, dtype=torch.long)
    past = [
        torch.zeros(_BATCH, heads.num_kv_heads, _NUM_PAST, heads.head_dim) for _ in range(2 * heads.depth)
    ]
    model = export(
        _stepping(module),
        (tokens_BT, tokens_BT.clone(), *past),
        [token_axes, token_axes, *[past_axes] * len(past)],
    )
    names = (_TOKENS, _POSITIONS, *map(past_name, range(len(past))))
    for value, name in zip(model.graph.inputs, names, strict=True):
        value.name = name
    for value, name in zip(
        model.graph.outputs, ("logits", *map(present_name, range(len(past)))), strict=True
    ):
        value.name = name
    return lower(model, "openvino", forms=forms, activations=activations)


def write_paged(lowered: Lowered, heads: Heads, folder: Path) -> None:
    """Write a graph of `paged_graph` into a folder as openvino-genai reads it.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    import openvino  # noqa: PLC0415 - of an extra
    from openvino._offline_transformations import (  # noqa: PLC0415 - where OpenVINO keeps it
        apply_moc_transformations,
    )

    graph = openvino_core().read_model(to_bytes(lowered.model))
    pairs = {past_name(index): present_name(index) for index in range(2 * heads.depth)}
    _size_by_tokens(graph, heads, list(pairs))
    keep_states(graph, heads, pairs, tokens=_TOKENS, order=_ORDER)
    _add_mask(graph)
    # Takes away what stands between cache and attention and does nothing: pages are looked for without it.
    apply_moc_transformations(graph, cf=False)
    openvino.save_model(graph, str(folder / MODEL_FILE), compress_to_fp16=False)


def _stepping(module: FamilyModule) -> FamilyModule:
    """Return the module with the same parameters, by the same names, called with tokens, positions and the past."""

    def forward(self: FamilyModule, *inputs: Tensor) -> tuple[Tensor, ...]:
        tokens_BT, positions_BT, *past = inputs
        is_seen_TS = seen_before(positions_BT.shape[1], past[0].shape[2])
        cache = JoinedCache(past, positions_BT[:, :1], is_seen_TS)
        return cached_forward(self, tokens_BT, cache), *cache.present

    step = copy.copy(module)
    step.__class__ = type(f"{type(module).__name__}Step", (type(module),), {"forward": forward})
    return step


def _size_by_tokens(graph: Any, heads: Heads, names: list[str]) -> None:
    """Take the number of sequences from the tokens wherever the exporter took it from the past, of which only the length is left."""
    import openvino.opset13 as ops  # noqa: PLC0415 - of an extra

    zero, one = np.array([0]), np.int64(0)
    for name in names:
        past = graph.input(name)
        shapes = [
            reader.get_node()
            for reader in past.get_target_inputs()
            if reader.get_node().get_type_name() == "ShapeOf"
        ]
        if not shapes:
            continue
        batch = ops.gather(ops.shape_of(graph.input(_TOKENS).get_node()), zero, one)
        length = ops.gather(ops.shape_of(past.get_node()), np.array([2]), one)
        whole = ops.concat([batch, np.array([heads.num_kv_heads]), length, np.array([heads.head_dim])], 0)
        for shape in shapes:
            shape.output(0).replace(whole.output(0))


def _add_mask(graph: Any) -> None:
    """Add an input that nothing reads: pages say by themselves which tokens there are."""
    import openvino.opset13 as ops  # noqa: PLC0415 - of an extra

    mask = ops.parameter([-1, -1], dtype=np.int64, name=_MASK)
    mask.output(0).get_tensor().add_names({_MASK})
    graph.add_parameters([mask])
