"""What routes start from: receipts of compressions and trained models, read from run folders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from kleiber.errors import ConventionError, RunFolderError, UsageError
from kleiber.runs import RunFolder
from kleiber.runs.receipt import EngineRatio, QualityChange, Receipt
from kleiber.scaling import Law, PublishedLaw
from kleiber.study.advice.served import Request, Served
from kleiber.study.advice.spread import Spread
from kleiber.study.advice.ways import Start, Way
from kleiber.units import format_count, format_loss

__all__ = ["compressed", "read_donor", "receipt_folders"]

_MEASURES = ("loss", "perplexity")
_DONOR_HINT = "--donor runs/NAME   of a finished gpt"


def compressed(
    folder: Path, request: Request, *, weight_bytes: float, is_here: bool, name: str | None = None
) -> Way:
    """Return compressing a larger model as a receipt says that another was compressed.

    Its loss rises by as many nats as it rose there. Where the receipt was measured on the machine that will serve, its
    times count; elsewhere its bytes and multiply-adds.

    Args:
        folder: Of the compressed run, or a receipt.
        request: As it will be served.
        weight_bytes: Of one weight of a model that is not compressed, as it will be served.
        is_here: Whether this machine will serve.
        name: Of the route; None takes the folder's.

    Raises:
        RunFolderError: There is no receipt.
        UsageError: It is of no language model.
    """
    path = folder / "receipt.json" if folder.is_dir() else folder
    if not path.is_file():
        raise RunFolderError(
            f"{folder} has no receipt.json: it was not compressed.",
            hint="kleiber compress runs/NAME --steps quantize:bits=4 -o runs/NAME-int4",
        )
    receipt = Receipt.read(path)
    before, after, steps = receipt.before, receipt.after, ", ".join(one.step for one in receipt.steps)
    times = _times(receipt, request) if is_here else None
    # What is stored in fp32 is served in no more bytes than an uncompressed model's weights.
    bytes_a_weight = min(after.stored_bytes / after.num_params, weight_bytes)
    bytes_ratio = after.num_params * bytes_a_weight / (before.num_params * weight_bytes)
    served = Served(
        bytes_ratio=bytes_ratio,
        flops_ratio=after.macs / before.macs,
        read_time_ratio=times[0].value if times else None,
        write_time_ratio=times[1].value if times else None,
    )
    measured = (
        f"times as {receipt.engine} took them here"
        if times
        else "counted here by bytes and multiply-adds, for its times are of another machine"
    )
    return Way(
        "compress",
        f"large, then as {name or path.parent.name}",
        f"{folder}: {steps}, measured on {format_count(before.num_params)} parameters: loss {_rise(receipt).value:+.4f} nats/token, "
        f"served bytes x {bytes_ratio:.3f}, multiply-adds x {after.macs / before.macs:.3f}; {measured}. A model of another size may lose "
        "more or less.",
        rise=_rise(receipt),
        train_factor=1 + receipt.cost.training_frac,
        served=served,
        serve_factor=_factor(times[1]) if times else Spread.exact(1.0),
    )  # fmt: skip


def receipt_folders(folders: Sequence[Path]) -> dict[Path, str]:
    """Return where receipts are, each with a name that no other has: the folders themselves, or those in them."""
    found: list[Path] = []
    for folder in folders:
        inside = sorted(path.parent for path in folder.glob("*/receipt.json"))
        found += [folder] if (folder / "receipt.json").is_file() or not inside else inside
    names = [path.name for path in found]
    return {path: path.name if names.count(path.name) == 1 else str(path) for path in found}


def _rise(receipt: Receipt) -> Spread:
    """Return by how much the loss rose [nats/token]; that of the engine that the gate went by, where it answered."""
    known = [one for one in receipt.quality if one.name in _MEASURES]
    if "perplexity" not in {one.name for one in known}:
        raise UsageError(
            "Compression receipts are of use here where a language model was compressed.",
            got=f"{receipt.source}: {receipt.main_quality.name}",
            hint="leave this one out of --receipts",
        )
    ordered = sorted(known, key=lambda one: (one.engine != receipt.engine, _MEASURES.index(one.name)))
    return _nats(ordered[0])


def _nats(change: QualityChange) -> Spread:
    if change.name == "loss":
        return Spread(change.difference.value, change.difference.low, change.difference.high)
    ratio = change.ratio
    return Spread(math.log(ratio.value), math.log(ratio.low), math.log(ratio.high))


def _times(receipt: Receipt, request: Request) -> tuple[Spread, Spread] | None:
    """Return what reading and writing took, after over before; None where only one of them was measured, or neither."""
    by_workload = {one.workload: one for one in receipt.engines if one.engine == receipt.engine}
    read, write = by_workload.get("forward"), by_workload.get("decode")
    if read is None or write is None:
        return None
    return _time_ratio(read, batch=1), _time_ratio(write, batch=request.batch)


def _time_ratio(ratio: EngineRatio, *, batch: int) -> Spread:
    """Return a time's ratio: at batch 1 that of the latency, of many the inverse of the throughput's."""
    if batch == 1:
        return Spread(ratio.latency.value, ratio.latency.low, ratio.latency.high)
    through = ratio.throughput
    return Spread(1 / through.value, 1 / through.high, 1 / through.low)


def _factor(ratio: Spread) -> Spread:
    return Spread(1.0, ratio.low / ratio.value, ratio.high / ratio.value)


def read_donor(folder: Path, law: Law | PublishedLaw) -> Start:
    """Return a trained model as the start of a larger one.

    Args:
        folder: Of its run.
        law: That routes are compared under.

    Raises:
        UsageError: The run is no finished language model.
        ConventionError: Its loss is of another evaluation set than the law's.
    """
    record = RunFolder(folder).read_record()
    if record.recipe.task.name != "lm":
        raise UsageError("A donor is a language model.", got=record.recipe.task.name, hint=_DONOR_HINT)
    if record.status != "finished" or record.result is None:
        what = "is a compressed model" if record.kind == "compress" else "has not finished"
        raise UsageError(
            f"{folder} {what}, and a donor is a run that was trained.", got=record.status, hint=_DONOR_HINT
        )
    known = law.eval_hash if isinstance(law, Law) else None
    if known is not None and known != record.data.eval_hash:
        raise ConventionError(
            f"The law's losses are of evaluation set {known}, and {folder}'s loss {format_loss(record.result.val_loss)} is of another.",
            got=record.data.eval_hash,
        )
    return Start(
        run=record.run,
        num_params=float(record.num_params.by(law.convention)),
        loss=record.result.val_loss,
        train_flops=record.train_flops,
    )
