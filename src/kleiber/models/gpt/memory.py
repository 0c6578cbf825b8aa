"""What a `gpt` holds in memory during a step, in closed form: instantly and without torch.

A tape follows the tensors of one block forward and backward; the other blocks do the same. A test compares it with a
trace of the real module.
"""

from __future__ import annotations

from dataclasses import replace

from kleiber.cost.memory import StepMemory
from kleiber.cost.optimizers import optimizer_cost
from kleiber.cost.tape import Tape
from kleiber.cost.usage import OptimizerName, Usage
from kleiber.models.gpt.gradients import Gradients
from kleiber.models.gpt.spec import GPTSpec, require_closed_form
from kleiber.models.gpt.tensors import FP32_BYTES, Tensors

__all__ = ["step_memory"]

_TOKEN_BYTES = 8


def step_memory(
    spec: GPTSpec, usage: Usage, context: int, *, val_batch: int = 0, is_fused: bool = False
) -> StepMemory:
    """Return what one step holds, moment by moment: its tensors, and nothing that libraries hold beside them.

    Training keeps weights, gradients and state in fp32; half precision is autocast, with its narrow copies of the
    weights; weights are counted with the table of rotations. Serving reads whole sequences without a cache, its weights in the precision.

    Args:
        spec: The model.
        usage: A micro-batch is `batch_size / accumulation` sequences.
        context: Tokens of a sequence.
        val_batch: Sequences of a validation in fp32; 0 leaves validation out.
        is_fused: Whether the optimizer is one kernel, as that of `kleiber train`. Otherwise it is torch's default on a
            CPU, which goes through the parameters one by one and holds temporary tensors of one.

    Raises:
        RecipeError: The micro-batches do not divide the batch, or the model is a mixture of experts.

    Example:
        >>> spec = GPTSpec.from_dial({"depth": 2, "width": 32}, vocab_size=1024, context=128)
        >>> memory = step_memory(spec, Usage(batch_size=4), 128)
        >>> memory.gradients == memory.optimizer // 2 == 4 * spec.count().total
        True
        >>> memory.fullest_moment
        'backward of the loss'
    """
    require_closed_form(spec)
    num_params = spec.count().total
    tensors = Tensors(Tape(), spec, usage, usage.micro_batch_size, context)
    moments, activations = _moments(tensors)
    weights = tensors.wide_bytes * (num_params + 2 * spec.context * spec.head_dim)
    if usage.mode == "infer":
        return StepMemory(weights, 0, 0, activations, moments)
    loop_sizes = [] if is_fused else _loop_sizes(spec, usage.optimizer)
    cost = optimizer_cost(usage.optimizer, num_params, spec.hidden_shapes(), loop_sizes=loop_sizes)
    tensors.tape.enter("optimizer step")
    tensors.tape.make(temporaries=cost.temporary_bytes)
    copies: dict[str, int] = {}
    if tensors.is_mixed:
        bare, activations = _moments(replace(tensors, tape=Tape(), has_copies=False))
        copies = {name: moments[name] - held for name, held in bare.items()}
    if val_batch:
        moments["validation"] = _validation(spec, val_batch, context)
    return StepMemory(weights, FP32_BYTES * num_params, cost.state_bytes, activations, moments, copies)


def _moments(tensors: Tensors) -> tuple[dict[str, int], int]:
    """Run the passes; return what each moment holds, and what the forward pass makes, at its most."""
    tokens, moments = _read(tensors), tensors.tape.moments
    if tensors.usage.mode == "infer":
        _forward(tensors)
        return moments, max(moments.values()) - tokens
    gradients, is_added = FP32_BYTES * tensors.spec.count().total, tensors.usage.accumulation > 1
    if is_added:
        tensors.tape.make(gradients=gradients)
    _forward(tensors)
    _loss(tensors)
    activations = max(moments.values()) - tokens - gradients * is_added
    _backward(Gradients(tensors, is_added))
    return moments, activations


def _read(tensors: Tensors) -> int:
    """Make the sequences; return their bytes."""
    tensors.tape.enter("forward of the blocks")
    # One token more each: the last one is a target alone.
    tensors.tape.make(tokens=_TOKEN_BYTES * tensors.batch * (tensors.context + 1))
    return tensors.tape.held_bytes


def _forward(tensors: Tensors) -> None:
    """Run from the sequences to the logits."""
    tape, spec, usage = tensors.tape, tensors.spec, tensors.usage
    is_trained = usage.mode == "train"
    is_kept = is_trained and not usage.is_checkpointed
    num_heads = spec.num_heads + spec.num_kv_heads
    if tensors.is_mixed and not is_kept:
        tape.make(casts=tensors.copy_bytes(spec.depth * tensors.block_weights))
    rotations = 2 * tensors.wide_bytes * tensors.context * num_heads * spec.head_dim
    tape.make(rotations=rotations, stream=tensors.wide(spec.width))

    def block() -> None:
        tensors.block(is_kept=is_kept)
        if not is_trained:
            tape.drop("block_in")

    tape.repeat(block, spec.depth, first="forward of the blocks", last="forward of the blocks")
    tape.enter("forward of the head")
    tensors.norm("final_norm", is_kept=is_trained)
    if not is_trained:
        tape.drop("stream")
    tensors.linear("logits", "final_norm", spec.vocab_size, is_kept=is_trained)


def _loss(tensors: Tensors) -> None:
    """Run the cross-entropy, in fp32 whatever the precision."""
    tape, num_tokens = tensors.tape, tensors.num_tokens
    logits_bytes = FP32_BYTES * num_tokens * tensors.spec.vocab_size
    tape.enter("forward of the loss")
    cast = logits_bytes if tensors.is_mixed else 0
    tape.make(targets=_TOKEN_BYTES * num_tokens, cast=cast, log_probs=logits_bytes)
    tape.drop("logits", "cast")


def _backward(gradients: Gradients) -> None:
    """Go back from the log-probabilities to the embedding."""
    tensors = gradients.forward
    tape = tensors.tape
    if tensors.is_mixed and tensors.usage.is_checkpointed:
        tape.drop("casts")  # autocast ends with the forward pass
    tape.enter("backward of the loss")
    gradients.loss()
    tape.enter("backward of the head")
    gradients.head()
    first, last = "backward of the last block", "backward of the first block"
    tape.repeat(gradients.block, tensors.spec.depth, first=first, last=last)
    tape.enter("backward of the embedding")
    gradients.embedding()
    tape.drop("rotations")


def _validation(spec: GPTSpec, batch: int, context: int) -> int:
    """Return what a forward pass and its loss hold [bytes]."""
    tensors = Tensors(Tape(), spec, Usage(mode="infer"), batch, context)
    _read(tensors)
    _forward(tensors)
    _loss(tensors)
    return max(tensors.tape.moments.values())


def _loop_sizes(spec: GPTSpec, optimizer: OptimizerName) -> list[int]:
    """Return the values of each parameter that the optimizer steps by itself, in order; Muon steps the matrices."""
    table, norm = spec.vocab_size * spec.width, spec.width
    around = [table, norm] if spec.is_tied else [table, norm, table]
    if optimizer == "muon":
        return around
    # One block and the next begin and end with the same.
    qkv = (spec.attn_width + 2 * spec.kv_width) * spec.width
    gate = spec.mlp_width * spec.width
    return [*around, norm, qkv, spec.head_dim, spec.width * spec.attn_width, norm, 2 * gate, gate]
