"""What devices send each other in a step of a layout: bytes, seconds, and what of it hides behind computation."""

from __future__ import annotations

from dataclasses import dataclass

from kleiber.cost.devices import Device
from kleiber.cost.layouts import BlockShape, Layout
from kleiber.cost.stages import pipeline_stages
from kleiber.cost.usage import PRECISIONS, Usage
from kleiber.errors import RecipeError
from kleiber.runs import ParamCount

__all__ = [
    "COMMUNICATION_SAYS",
    "LINK_EFFICIENCY_FRAC",
    "Communication",
    "all_gather_bytes",
    "all_reduce_bytes",
    "bubble_frac",
    "communication_of",
    "ring_bytes_per_s",
]

LINK_EFFICIENCY_FRAC = 0.8
"""Of a link's rate: NCCL's all-reduce of large messages is published at 230 to 250 of the 300 GB/s of an A100's NVLink,
and about as much of InfiniBand's."""

COMMUNICATION_SAYS = (
    "Gathers of weights and reductions of gradients (in fp32) hide behind computation but for one block's; "
    "what tensor and pipeline parallelism send does not. In a pipeline weights are gathered once a step and kept."
)

_FP32_BYTES = 4


@dataclass(frozen=True)
class Communication:
    """Of one device in one step; bytes are what it sends."""

    tensor_bytes: float
    """Sums of activations among `tp` devices."""
    tensor_s: float
    pipeline_bytes: float
    """Activations and their gradients to the next and the last stage."""
    pipeline_s: float
    data_bytes: float
    """Weights gathered and gradients reduced by `fsdp` and `ddp`."""
    data_s: float
    num_pieces: int
    """Into which the latter is divided: blocks of a stage."""

    def exposed_s(self, compute_s: float) -> float:
        """Return what does not hide behind `compute_s` of computation [s].

        Example:
            >>> Communication(0, 1.0, 0, 0.5, 0, 4.0, num_pieces=8).exposed_s(3.0)
            2.5
        """
        hidden = min(compute_s, self.data_s * (1 - 1 / self.num_pieces))
        return self.tensor_s + self.pipeline_s + self.data_s - hidden


def all_reduce_bytes(num_bytes: float, num_devices: int) -> float:
    """Return what each device sends in a ring that sums `num_bytes` over all.

    Source:
        Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations".

    Example:
        >>> all_reduce_bytes(1000.0, 4)
        1500.0
    """
    return 2 * all_gather_bytes(num_bytes, num_devices)


def all_gather_bytes(num_bytes: float, num_devices: int) -> float:
    """Return what each device sends in a ring that gathers `num_bytes` from all, or scatters their sum.

    Example:
        >>> all_gather_bytes(1000.0, 4)
        750.0
    """
    return num_bytes * (num_devices - 1) / num_devices


def bubble_frac(num_stages: int, num_micro_batches: int, num_chunks: int = 1) -> float:
    """Return the part of a step in which a stage waits for others.

    Args:
        num_stages: Of the pipeline.
        num_micro_batches: A step.
        num_chunks: Pieces of the depth that each device takes in turn; 1 is one forward, one backward.

    Source:
        Narayanan et al. 2021, arXiv:2104.04473, sections 2.2.1 and 2.2.2, there as a ratio to the other part.

    Example:
        >>> bubble_frac(4, 9), bubble_frac(4, 9, num_chunks=3)
        (0.25, 0.1)
    """
    return (num_stages - 1) / (num_chunks * num_micro_batches + num_stages - 1)


def ring_bytes_per_s(device: Device, num_devices: int, stride: int) -> float:
    """Return the rate of a ring through each `stride`-th device [bytes/s].

    Inside a node it is that of the interconnect. Beyond it, every device of the ring in a node sends through its own
    port, at most as fast as the interconnect feeds them.

    Raises:
        RecipeError: The device has no interconnect.

    Example:
        >>> from kleiber.cost.devices import find_device
        >>> h100 = find_device("h100-sxm")
        >>> [ring_bytes_per_s(h100, 64, stride) / 1e9 for stride in (1, 8)]
        [320.0, 40.0]
    """
    in_node = min(num_devices, max(1, device.devices_per_node // stride))
    rates = [in_node * device.network_bytes_per_s] if in_node < num_devices else []
    if in_node > 1:
        if device.interconnect_bytes_per_s is None:
            raise RecipeError(
                f"{device.name} has no interconnect_bytes_per_s: what its devices send each other cannot be timed.",
                hint="--device h100-sxm",
            )
        rates.append(device.interconnect_bytes_per_s)
    return LINK_EFFICIENCY_FRAC * min(rates)


def communication_of(
    layout: Layout,
    device: Device,
    params: ParamCount,
    blocks: BlockShape | None,
    usage: Usage,
    *,
    tokens_per_sample: int = 1,
) -> Communication:
    """Return what the busiest device sends in a step.

    Tensor parallelism sums the activations of each block twice forward and twice backward, and twice more where the
    block runs forward again. A pipeline's stage sends each micro-batch on and its gradient back. `fsdp` gathers the
    weights for the forward and for the backward pass of every micro-batch and scatters the summed gradients; in a
    pipeline, whose stages go to and fro between micro-batches, it does so once a step. `ddp` sums gradients once a step.

    Args:
        layout: Checked by `check_layout`; neighbours are `tp` first, then `fsdp`, `ddp`, `pp`.
        device: Rates inside a node and beyond.
        params: Of the whole model.
        blocks: Of a Transformer.
        usage: Of the whole batch.
        tokens_per_sample: Context of a text model.

    Raises:
        RecipeError: The device has no interconnect.

    Source:
        Shoeybi et al. 2019, arXiv:1909.08053, section 3; Korthikanti et al. 2022, arXiv:2205.05198, section 4.2;
        Rajbhandari et al. 2020, arXiv:1910.02054, section 7; Narayanan et al. 2021, arXiv:2104.04473, section 3.2; FSDP
        in a pipeline: Grattafiori et al. 2024, arXiv:2407.21783, section 3.3.2.
    """
    is_train = usage.mode == "train"
    tokens = tokens_per_sample * usage.batch_size / layout.num_ranks  # of one share, a step
    stage = max(pipeline_stages(params, blocks, layout), key=lambda stage: stage.num_params)
    num_blocks = max(1, round(stage.block_frac * (blocks.depth if blocks else 1)))
    activation_bytes = PRECISIONS[usage.precision] * tokens * (blocks.width if blocks else 0)
    num_sums = num_blocks * ((4 + 2 * usage.is_checkpointed) if is_train else 2)
    tensor_bytes = num_sums * all_reduce_bytes(activation_bytes, layout.tp)
    pipeline_bytes = (2 if is_train else 1) * activation_bytes / layout.tp if layout.pp > 1 else 0.0
    own_params = stage.num_params / layout.tp
    is_kept = layout.pp > 1 or not is_train
    gathered = (1 if is_kept else 2) * PRECISIONS[usage.precision] * own_params
    reduced = _FP32_BYTES * own_params if is_train else 0.0
    fsdp_bytes = (1 if layout.pp > 1 else usage.accumulation) * all_gather_bytes(
        gathered + reduced, layout.fsdp
    )
    ddp_bytes = all_reduce_bytes(reduced / layout.fsdp, layout.ddp)
    inner = layout.tp * layout.num_ranks
    return Communication(
        tensor_bytes=tensor_bytes,
        tensor_s=_seconds(tensor_bytes, device, layout.tp, 1),
        pipeline_bytes=pipeline_bytes,
        pipeline_s=_seconds(pipeline_bytes, device, layout.pp, inner),
        data_bytes=fsdp_bytes + ddp_bytes,
        data_s=_seconds(fsdp_bytes, device, layout.fsdp, layout.tp)
        + _seconds(ddp_bytes, device, layout.ddp, layout.tp * layout.fsdp),
        num_pieces=num_blocks,
    )


def _seconds(num_bytes: float, device: Device, num_devices: int, stride: int) -> float:
    return num_bytes / ring_bytes_per_s(device, num_devices, stride) if num_bytes else 0.0
