"""What one device holds of a step when the model is spread over several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kleiber.cost.layouts import BlockShape, Layout
from kleiber.cost.memory import StepMemory
from kleiber.cost.stages import Stage, pipeline_stages
from kleiber.cost.usage import PRECISIONS, Usage
from kleiber.runs import ParamCount

__all__ = ["SHARDING_SAYS", "sharded_memory"]

SHARDING_SAYS = {
    "ddp": "ddp: gradients live in the buckets (gradient_as_bucket_view), so that there is no second copy of them",
    "fsdp": (
        "fsdp: weights, gradients and optimizer state are split; embedding, head and two blocks are gathered at once,"
        " and the gradients of one block are whole; in a pipeline those of the whole stage are"
    ),
    "tp": "tp: with sequence parallelism, so that all activations are split, those between the matrices too",
    "pp": (
        "pp: one forward, one backward; the first stage holds as many micro-batches as there are stages,"
        " the embedding is on the first and the head on the last"
    ),
}
"""What the memory of each way to spread a model assumes."""

_FP32_BYTES = 4
_GATHERED_BLOCKS = 2


def sharded_memory(
    memory: StepMemory,
    params: ParamCount,
    blocks: BlockShape | None,
    layout: Layout,
    usage: Usage,
    *,
    tokens_per_sample: int = 1,
    gradients_at: Mapping[str, int] | None = None,
) -> StepMemory:
    """Return what the fullest device holds [bytes].

    Weights, gradients and state are split by `tp`, `pp` and `fsdp` (ZeRO stage 3), activations by `tp` (with
    sequence parallelism) and `pp`; `ddp` splits nothing.

    Args:
        memory: Of the whole model on one device, for the micro-batches of one share of the batch: of a step with
            `rank_usage(usage, layout)`.
        params: Of the whole model.
        blocks: Of a Transformer.
        layout: Checked by `check_layout`.
        usage: Of the whole batch.
        tokens_per_sample: Context of a text model; with the vocabulary it says what the head's results take.
        gradients_at: Which part of each moment is gradients. Without it the optimizer's moments hold all of them,
            with accumulation every moment of training does, and otherwise those of the loss and of the forward
            pass none and others what activations leave.

    Source:
        Rajbhandari et al. 2020, arXiv:1910.02054, section 5 and figure 1; Korthikanti et al. 2022, arXiv:2205.05198,
        equations 4 and 5; Narayanan et al. 2021, arXiv:2104.04473, section 2.2; FSDP in a pipeline: Grattafiori et al.
        2024, arXiv:2407.21783, section 3.3.2.
    """
    if layout.fsdp == layout.tp == layout.pp == 1:
        return memory
    samples = max(1, usage.batch_size // (layout.num_ranks * usage.accumulation))
    head_bytes = samples * tokens_per_sample * (blocks.vocab_size if blocks else 0) * _FP32_BYTES
    split = _Split(memory, params, layout, usage, min(head_bytes, memory.activations), gradients_at or {})
    stages = [split.of(stage) for stage in pipeline_stages(params, blocks, layout)]
    return max(stages, key=lambda stage: stage.summary().peak)


@dataclass(frozen=True)
class _Split:
    """Splits one step's memory."""

    memory: StepMemory
    params: ParamCount
    layout: Layout
    usage: Usage
    head_bytes: int
    """What the loss keeps of the head's results."""
    gradients_at: Mapping[str, int]

    def of(self, stage: Stage) -> StepMemory:
        """Return what a device of this stage holds."""
        memory = self.memory
        return StepMemory(
            weights=self._params_bytes(memory.weights, stage),
            gradients=self._params_bytes(memory.gradients, stage),
            optimizer=self._params_bytes(memory.optimizer, stage),
            activations=self._activation_bytes(memory.activations, stage),
            moments={name: self._moment(name, held, stage) for name, held in memory.moments.items()},
        )

    def _params_bytes(self, num_bytes: int, stage: Stage) -> int:
        share = stage.num_params / max(1, self.params.total)
        return round(num_bytes * share / (self.layout.tp * self.layout.fsdp))

    def _activation_bytes(self, num_bytes: int, stage: Stage) -> int:
        """Return the stage's part of what one micro-batch holds, times the micro-batches it has under way.

        The first of `pp` stages has begun `pp` micro-batches when the first comes back, the last but one.
        """
        in_blocks = min(num_bytes, self.memory.activations - self.head_bytes)
        under_way = 1 if stage.has_head else min(self.layout.pp, self.usage.accumulation)
        rest = num_bytes - in_blocks if stage.has_head else 0
        return round((in_blocks * stage.block_frac * under_way + rest) / self.layout.tp)

    def _moment(self, name: str, held: int, stage: Stage) -> int:
        copies = self.memory.copies.get(name, 0)
        held -= copies
        gradients = min(held, self._gradients(name, held))
        rest = held - gradients
        if name.startswith("optimizer"):
            return self._params_bytes(held, stage)
        # Autocast's copies of weights are split as these are; FSDP gathers narrow weights in their place.
        lasting = gradients + (copies if self.layout.fsdp == 1 else 0)
        own = self._params_bytes(lasting, stage) + self._activation_bytes(rest, stage)
        return own + self._gathered_bytes(stage, is_backward=name.startswith("backward"))

    def _gradients(self, name: str, held: int) -> int:
        if name in self.gradients_at:
            return self.gradients_at[name]
        if self.usage.mode == "infer" or name == "validation":
            return 0
        if self.usage.accumulation > 1:
            return self.memory.gradients
        if name.startswith(("forward", "backward of the loss")):
            return 0
        return min(self.memory.gradients, max(0, held - self.memory.activations))

    def _gathered_bytes(self, stage: Stage, *, is_backward: bool) -> int:
        """Return whole weights and gradients that `fsdp` holds for a moment."""
        if self.layout.fsdp == 1:
            return 0
        is_kept = self.layout.pp > 1
        in_blocks = stage.block_params if is_kept else _GATHERED_BLOCKS * stage.largest_params
        weights = PRECISIONS[self.usage.precision] * (stage.table_params + min(in_blocks, stage.block_params))
        gradients = _FP32_BYTES * (stage.num_params if is_kept else stage.largest_params)
        return (weights + gradients * (is_backward and self.usage.mode == "train")) // self.layout.tp
