"""Keys and values of an OpenVINO graph as states, in the form that the CPU's attention over a cache is found in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kleiber.infer.decoding.cached_forward import Heads

__all__ = ["keep_states"]


def keep_states(graph: Any, heads: Heads, pairs: Mapping[str, str], *, tokens: str, order: str) -> None:
    """Turn inputs and outputs of keys and values into states.

    OpenVINO looks for a reordering of sequences (as a beam search needs) behind each state, and for a beginning of each: no tokens.

    Args:
        graph: An `openvino.Model`; it is changed.
        heads: Sizes of the cache.
        pairs: The output that each input of keys or values becomes, by name.
        tokens: Name of the input with the tokens [B, T].
        order: Name that the input gets which says how sequences are reordered [B].
    """
    import openvino.opset13 as ops  # noqa: PLC0415 - of an extra
    from openvino._offline_transformations import (  # noqa: PLC0415 - where OpenVINO keeps it
        apply_make_stateful_transformation,
    )

    order_B = ops.parameter([-1], dtype=np.int32, name=order)
    order_B.output(0).get_tensor().add_names({order})
    graph.add_parameters([order_B])
    for name in pairs:
        past = graph.input(name)
        readers = list(past.get_target_inputs())
        ordered = ops.gather(past.get_node(), order_B, np.int64(0))
        for reader in readers:
            reader.replace_source_output(ordered.output(0))
    apply_make_stateful_transformation(graph, dict(pairs))
    batch = ops.gather(ops.shape_of(graph.input(tokens).get_node()), np.array([0]), np.int64(0))
    nothing = np.array([heads.num_kv_heads, 0, heads.head_dim])
    empty = ops.broadcast(ops.constant(np.float32(0)), ops.concat([batch, ops.constant(nothing)], 0))
    for node in graph.get_ops():
        if node.get_type_name() == "ReadValue":
            node.set_arguments([empty.output(0)])
    graph.validate_nodes_and_infer_types()
