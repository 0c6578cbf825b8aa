"""What a `gpt` holds in memory while it trains and while it decodes, in closed form, without torch.

The terms follow what the operations of `module.py` save for their backward passes; a test counts those on the
real module.
"""

from __future__ import annotations

from typing import Literal

from kleiber.cost.memory import StepMemory
from kleiber.cost.optimizers import optimizer_cost
from kleiber.models.gpt.spec import GPTSpec

__all__ = ["kv_cache_bytes", "saved_bytes", "train_memory"]

_FP32_BYTES = 4
_TOKEN_BYTES = 8


def saved_bytes(spec: GPTSpec, batch: int, context: int, *, value_bytes: int = _FP32_BYTES) -> int:
    """Return what forward and loss keep for backward [bytes], weights left out.

    Args:
        spec: The model.
        batch: Sequences of a micro-batch.
        context: Tokens of a sequence.
        value_bytes: Of an activation; the loss stays in fp32.
    """
    tokens = batch * context
    top = 3 * spec.width + 1  # the last norm: its input, that input over its scale, the result; the scale
    blocks = spec.depth * _saved_values_a_block(spec)
    heads = (spec.num_heads + spec.num_kv_heads) * spec.head_dim
    shared = 2 * context * heads + spec.depth * heads  # rotations once; the gains laid out for every head
    loss = spec.vocab_size * _FP32_BYTES + 2 * _TOKEN_BYTES  # log-probabilities; inputs and targets
    return value_bytes * (tokens * (top + blocks) + shared) + tokens * loss


def _saved_values_a_block(spec: GPTSpec) -> int:
    """Return the values a block saves for each token."""
    heads = spec.num_heads + spec.num_kv_heads
    norms = 2 * (3 * spec.width + 1)
    projected = spec.attn_width + 2 * spec.kv_width
    turned = 2 * heads * spec.head_dim + heads  # normalized heads, turned heads; their scales
    attention = spec.attn_width + spec.num_heads  # the result; the log-sum of each row of scores
    mlp = 4 * spec.mlp_width  # gate and up, the activated gate, their product
    return norms + projected + turned + attention + mlp


def train_memory(
    spec: GPTSpec,
    micro_batch: int,
    *,
    accumulation: int = 1,
    optimizer: Literal["adamw", "muon"] = "adamw",
    value_bytes: int = _FP32_BYTES,
    val_batch: int = 0,
) -> StepMemory:
    """Return the memory of a training step on sequences of the full context, weights and state in fp32.

    Args:
        spec: The model.
        micro_batch: Sequences that go through at once.
        accumulation: Micro-batches a step; from the second on the gradients of the first are held.
        optimizer: As in `OptimizerRecipe`.
        value_bytes: Of an activation.
        val_batch: Sequences of a validation batch; 0 leaves validation out.
    """
    tokens = micro_batch * spec.context
    weights = _FP32_BYTES * spec.count().total
    cost = optimizer_cost(optimizer, spec.count().total, spec.hidden_shapes())
    saved = saved_bytes(spec, micro_batch, spec.context, value_bytes=value_bytes)
    logits = tokens * spec.vocab_size * _FP32_BYTES
    first_block = value_bytes * tokens * (_saved_values_a_block(spec) + 4 * spec.mlp_width)
    val_tokens = val_batch * spec.context
    val_values = max(2 * spec.vocab_size, spec.width + 4 * spec.mlp_width)
    moments = {
        # The gradient of the log-probabilities and that of the logits, beside all that was saved.
        "backward of the loss": saved + 2 * logits + (weights if accumulation > 1 else 0),
        "backward of the first block": weights + first_block,
        "optimizer step": weights + cost.temporary_bytes,
        "validation": val_tokens * (val_values * _FP32_BYTES + 2 * _TOKEN_BYTES),
    }
    return StepMemory(weights, weights, cost.state_bytes, saved, moments)


def kv_cache_bytes(spec: GPTSpec, batch: int, num_tokens: int, *, value_bytes: int = _FP32_BYTES) -> int:
    """Return what keys and values of `num_tokens` tokens of each of `batch` sequences take [bytes].

    Example:
        >>> spec = GPTSpec.from_dial({"depth": 2, "width": 32}, vocab_size=1024, context=128)
        >>> kv_cache_bytes(spec, 1, 128)  # 2 tensors, 2 blocks, 32 features, 128 tokens, 4 bytes
        65536
    """
    return 2 * spec.depth * spec.kv_width * batch * num_tokens * value_bytes
