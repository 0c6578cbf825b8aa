"""The operations of one whole step of a `gpt`, in closed form, without torch.

Legend: B sequences of a micro-batch, T tokens of each, J query and key heads together, H features of a head, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import prod

from kleiber.cost.flops import FlopConvention
from kleiber.cost.module_cost import ModuleParams
from kleiber.cost.operations import Operation
from kleiber.cost.update import update_operations
from kleiber.cost.usage import Usage
from kleiber.models.gpt.layers import TOKEN_BYTES, Layers
from kleiber.models.gpt.spec import GPTSpec, require_closed_form

__all__ = ["module_params", "step_operations"]

_FP32_BYTES = 4


def step_operations(
    spec: GPTSpec, usage: Usage, context: int, *, convention: FlopConvention = "causal"
) -> tuple[Operation, ...]:
    """Return what one step does; equal calls are one operation, those of all blocks stand under `blocks`.

    Training is the loop of `kleiber train`: clipped gradients, fused AdamW, or Muon for the hidden matrices. Other
    optimizers are taken for one pass over weights, gradients and state. Checkpointing runs each block forward
    once more but for its last product, whose result nobody needs; those operations are of the backward phase.
    Serving is one forward call on whole sequences.

    Args:
        spec: The model.
        usage: Batch, precision, optimizer.
        context: Tokens of a sequence.
        convention: Whether half of the attention square is counted.

    Raises:
        RecipeError: The micro-batches do not divide the batch, or the model is a mixture of experts.

    Example:
        >>> spec = GPTSpec.from_dial({"depth": 2, "width": 32}, vocab_size=1024, context=128)
        >>> operations = step_operations(spec, Usage(batch_size=4), 128)
        >>> sum(operation.total_flops for operation in operations) == spec.flops(4, 128).total
        True
    """
    require_closed_form(spec)
    around = Layers(spec, usage, usage.micro_batch_size, context, convention, "forward", "")
    counts: Counter[Operation] = Counter()
    for operation in _block(replace(around, module="blocks")):
        counts[operation] += spec.depth * usage.accumulation
    for operation in _around_blocks(around):
        counts[operation] += usage.accumulation
    update = (
        update_operations(spec.count().total, spec.hidden_shapes(), usage) if usage.mode == "train" else ()
    )
    return (*(replace(operation, num_calls=num) for operation, num in counts.items()), *update)


def module_params(spec: GPTSpec) -> tuple[ModuleParams, ...]:
    """Return the modules under which `step_operations` files its work: the model itself, and all its blocks as one.

    Example:
        >>> spec = GPTSpec.from_dial({"depth": 2, "width": 32}, vocab_size=1024, context=128)
        >>> [(module.path, module.num_params) for module in module_params(spec)]
        [('', 32800), ('blocks', 26816)]
    """
    count = spec.count()
    blocks = count.body - spec.width  # the last norm stands outside
    around = count.total - blocks
    return ModuleParams("", "GPT", around, around), ModuleParams(
        "blocks", f"{spec.depth} x Block", blocks, blocks
    )


def _block(layers: Layers) -> Iterator[Operation]:
    forward = list(_block_forward(layers))
    yield from forward
    if layers.usage.mode == "train":
        if layers.usage.is_checkpointed:
            *needed, _, _ = forward  # without the last product and its sum
            yield from (replace(operation, phase="backward") for operation in needed)
        yield from _block_backward(replace(layers, phase="backward"))


def _block_forward(layers: Layers) -> Iterator[Operation]:
    spec, (*_, J, H) = layers.spec, layers.turned
    yield from layers.norm()
    yield from layers.casts(layers.stream)
    yield from layers.linear(spec.attn_width + 2 * spec.kv_width, spec.width)
    yield layers.one("cat", "copy", (J, H), layers.wide_bytes * (J + 2) * H)  # the gains of all heads
    yield from layers.casts(layers.turned)
    yield from layers.rotary()
    yield from layers.casts(layers.turned)
    yield layers.attention()
    yield from layers.linear(spec.width, spec.attn_width)
    yield layers.residual()
    yield from layers.norm()
    yield from layers.casts(layers.stream)
    yield from layers.linear(2 * spec.mlp_width, spec.width)
    yield from layers.mlp()
    yield from layers.linear(spec.width, spec.mlp_width)
    yield layers.residual()


def _block_backward(layers: Layers) -> Iterator[Operation]:
    spec, (B, T, _, H) = layers.spec, layers.turned
    yield from layers.casts(layers.stream)
    yield from layers.linear(spec.width, spec.mlp_width)
    yield from layers.mlp()
    yield from layers.linear(2 * spec.mlp_width, spec.width)
    yield from layers.casts(layers.stream)
    yield from layers.norm()
    yield layers.residual()
    yield from layers.casts(layers.stream)
    yield from layers.linear(spec.width, spec.attn_width)
    yield layers.attention()
    yield from layers.casts(layers.turned)
    yield from layers.rotary()
    yield from layers.casts(layers.turned)
    for num_heads in (spec.num_heads, spec.num_kv_heads):
        yield layers.one("sum", "reduction", (1, H), layers.wide_bytes * (num_heads + 1) * H)
    joined = (B, T, spec.num_heads + 2 * spec.num_kv_heads, H)
    yield layers.one("cat", "copy", joined, 2 * layers.narrow_bytes * prod(joined))
    yield from layers.linear(spec.attn_width + 2 * spec.kv_width, spec.width)
    yield from layers.casts(layers.stream)
    yield from layers.norm()
    yield layers.residual()


def _around_blocks(layers: Layers) -> Iterator[Operation]:
    """Angles, look-up, last norm, head and loss, forward and backward."""
    spec, (_, T, J, H) = layers.spec, layers.turned
    for _ in ("cosines", "sines"):
        yield layers.one("clone", "copy", (T, J, H), layers.wide_bytes * T * (J + 1) * H)
    yield layers.one(
        "embedding", "lookup", layers.stream, 2 * layers.wide_bytes * prod(layers.stream) + _ids(layers)
    )
    yield from layers.norm()
    yield from layers.casts(layers.stream)
    yield from layers.linear(spec.vocab_size, spec.width)
    if layers.usage.mode == "train":
        yield from _loss(layers)
        backward = replace(layers, phase="backward")
        yield from _loss_backward(backward)
        yield from backward.linear(spec.vocab_size, spec.width)
        yield from backward.casts(layers.stream)
        yield from backward.norm()
        yield from _embedding_backward(backward)


def _ids(layers: Layers) -> int:
    return TOKEN_BYTES * layers.B * layers.T


def _loss(layers: Layers) -> Iterator[Operation]:
    """Cross-entropy, in fp32 whatever the precision."""
    tokens, V = layers.B * layers.T, layers.spec.vocab_size
    yield layers.one("clone", "copy", (tokens,), 2 * _ids(layers))  # the targets
    yield from layers.casts((tokens, V))
    yield layers.one("_log_softmax", "softmax", (tokens, V), 2 * _FP32_BYTES * tokens * V)
    yield layers.one("nll_loss_forward", "softmax", (), _FP32_BYTES * tokens + _ids(layers))


def _loss_backward(layers: Layers) -> Iterator[Operation]:
    tokens, V = layers.B * layers.T, layers.spec.vocab_size
    logits_bytes = _FP32_BYTES * tokens * V
    yield layers.one("nll_loss_backward", "softmax", (tokens, V), logits_bytes + _ids(layers))
    yield layers.one("_log_softmax_backward_data", "softmax", (tokens, V), 3 * logits_bytes)
    yield from layers.casts((tokens, V))


def _embedding_backward(layers: Layers) -> Iterator[Operation]:
    """The gradient of the table; where it is the head as well, the sum of both gradients."""
    table = (layers.spec.vocab_size, layers.spec.width)
    table_bytes = _FP32_BYTES * prod(table)
    moved = _FP32_BYTES * prod(layers.stream) + _ids(layers) + table_bytes
    yield layers.one("embedding_dense_backward", "lookup", table, moved)
    if layers.spec.is_tied:
        yield layers.one("add", "elementwise", table, 3 * table_bytes)
