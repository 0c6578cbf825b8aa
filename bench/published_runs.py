"""GPU plans backtested on published training runs: predicted beside published, with the error.

    python bench/published_runs.py [--llm-analysis PYTHON]

Kernels' efficiencies are those of `kleiber.cost.kernel_efficiency`, the same for all runs. `--llm-analysis` names the
interpreter of an environment that has llm-analysis (tried with 0.2.2), which then runs LLaMA's sizes with its
defaults. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from pathlib import Path
from typing import Any, Literal

import yaml

from kleiber.cost.devices import find_device
from kleiber.cost.layouts import check_layout, parse_layout, rank_usage
from kleiber.cost.roofline import DeviceTime, step_time
from kleiber.cost.usage import Usage
from kleiber.models.gpt.blocks import block_shape
from kleiber.models.gpt.operations import step_operations
from kleiber.models.gpt.spec import GPTSpec
from kleiber.runs import Document

RUNS_PATH = Path(__file__).with_suffix(".yaml")
PUE = 1.2
_QUANTITIES = ("gpu_hours", "tokens_per_s", "flops_per_s", "energy_mwh")
_IN_MEAN = {"gpu_hours", "tokens_per_s", "flops_per_s"}


class PublishedRun(Document):
    """One row of `published_runs.yaml`, whose head says what the keys mean."""

    name: str
    device: str
    spec: dict[str, Any]
    spec_is: str | None = None
    tokens: float
    batch: int
    context: int
    layout: str
    layout_is: str
    micro_batches: int = 1
    num_chunks: int = 1
    chunks_are: str | None = None
    optimizer: Literal["adamw", "muon"] = "adamw"
    role: Literal["backtest", "reference"] = "backtest"
    is_checkpointed: bool
    checkpointing_is: str | None = None
    is_fused: bool
    published: dict[Literal["gpu_hours", "tokens_per_s", "flops_per_s", "energy_mwh"], float]
    llm_analysis_error: float | None = None
    remark: str | None = None
    source: str
    is_checked: bool

    def gpt(self) -> GPTSpec:
        """Return the model's sizes."""
        return GPTSpec(**{"context": self.context, "is_tied": False, **self.spec})

    def usage(self) -> Usage:
        """Return the usage of the whole batch."""
        return Usage(
            batch_size=self.batch,
            accumulation=self.micro_batches,
            optimizer=self.optimizer,
            precision="bf16",
            is_checkpointed=self.is_checkpointed,
        )


def read_runs(path: Path = RUNS_PATH) -> list[PublishedRun]:
    """Return the runs in the file."""
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [PublishedRun(name=name, **row) for name, row in rows.items()]


def predict_time(run: PublishedRun) -> DeviceTime:
    """Return the predicted time of a step."""
    spec, usage, layout = run.gpt(), run.usage(), parse_layout(run.layout)
    check_layout(layout, block_shape(spec), usage)
    return step_time(
        step_operations(spec, rank_usage(usage, layout), run.context),
        find_device(run.device),
        layout,
        usage=usage,
        params=spec.count(),
        blocks=block_shape(spec),
        tokens_per_sample=run.context,
        num_chunks=run.num_chunks,
        is_fused=run.is_fused,
    )


def quantities(run: PublishedRun, step_time_s: float) -> dict[str, float]:
    """Return what a step's time means in each of the units that are published."""
    num_devices = parse_layout(run.layout).num_devices
    tokens_per_step = run.batch * run.context
    gpu_hours = run.tokens / tokens_per_step * step_time_s * num_devices / 3600
    device = find_device(run.device)
    flops = run.gpt().flops(run.batch, run.context).total
    return {
        "gpu_hours": gpu_hours,
        "tokens_per_s": tokens_per_step / (step_time_s * num_devices),
        "flops_per_s": flops / (step_time_s * num_devices),
        "energy_mwh": gpu_hours * (device.watts or 0.0) * PUE / 1e6,
    }


def score(run: PublishedRun) -> dict[str, Any]:
    """Return predicted beside published; an error above zero is a plan that says more time than was taken."""
    time = predict_time(run)
    predicted = quantities(run, time.step_time_s)
    (quantity, published), *_ = run.published.items()
    ratio = predicted[quantity] / published
    is_rate = quantity.endswith("_per_s")
    peak = find_device(run.device).peak("bf16")[1]
    return {
        "run": run.name,
        "layout": run.layout,
        "quantity": quantity,
        "predicted": predicted[quantity],
        "published": published,
        "time_error": (1 / ratio if is_rate else ratio) - 1,
        "mfu": predicted["flops_per_s"] / peak,
        "step_time_s": time.step_time_s,
        "communication_frac": time.communication_s / time.step_time_s,
        "bubble_frac": time.bubble_frac,
        "kinds": {one.kind: [one.time_s / time.compute_s, one.bound] for one in time.by_kind[:4]},
        "llm_analysis_error": run.llm_analysis_error,
        "is_checked": run.is_checked,
    }


_LLM_ANALYSIS = """
import json, sys
from llm_analysis.analysis import train
hours = {
    run: train(model_name=model, gpu_name="a100-sxm-80gb", total_num_tokens=tokens, total_num_gpus=2048, tp_size=8,
               pp_size=8, sp_size=8, activation_recomputation=1, global_batch_size=4_000_000, log_level="CRITICAL",
               **efficiencies)["gpu_hours"]
    for run, model, tokens in json.loads(sys.argv[1])
    for efficiencies in [json.loads(sys.argv[2])]
}
print(json.dumps(hours))
"""
_LLM_ANALYSIS_MODELS = {"llama-7b": "7b", "llama-13b": "13b", "llama-33b": "30b", "llama-65b": "65b"}


def llm_analysis_hours(
    python: str, runs: list[PublishedRun], efficiencies: dict[str, float]
) -> dict[str, float]:
    """Return GPU-hours of LLaMA's runs by llm-analysis, called as its authors' `examples/llama/run_train.sh` does.

    Args:
        python: Interpreter that has the package.
        runs: All runs.
        efficiencies: What its user supplies; nothing leaves its defaults, which are 1.
    """
    asked = [
        (run.name, f"decapoda-research_llama-{_LLM_ANALYSIS_MODELS[run.name]}-hf", run.tokens)
        for run in runs
        if run.name in _LLM_ANALYSIS_MODELS
    ]
    done = subprocess.run(
        [python, "-c", _LLM_ANALYSIS, json.dumps(asked), json.dumps(efficiencies)],
        check=True,
        capture_output=True,
        text=True,
    )
    hours: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return hours


def compare_llm_analysis(python: str, runs: list[PublishedRun]) -> dict[str, dict[str, float]]:
    """Print and return its errors, with its defaults and with its authors' efficiencies."""
    published = {run.name: run.published["gpu_hours"] for run in runs if run.name in _LLM_ANALYSIS_MODELS}
    errors = {}
    for title, efficiencies in (
        ("its defaults", {}),
        ("0.5 of the peak supplied", {"flops_efficiency": 0.5, "hbm_memory_efficiency": 0.9}),
    ):
        hours = llm_analysis_hours(python, runs, efficiencies)
        errors[title] = {name: value / published[name] - 1 for name, value in hours.items()}
        shown = ", ".join(f"{name} {error:+.1%}" for name, error in errors[title].items())
        print(f"llm-analysis with {title}: {shown}")
    return errors


def print_table(scores: list[dict[str, Any]]) -> None:
    """Print predicted beside published."""
    print(
        f"{'run':22s} {'quantity':13s} {'predicted':>11s} {'published':>11s} {'time error':>10s} {'MFU':>6s} "
        f"{'comm.':>6s}  llm-analysis (efficiencies supplied)"
    )
    for one in scores:
        peer = "-" if one["llm_analysis_error"] is None else f"{one['llm_analysis_error']:+.1%}"
        doubt = "" if one["is_checked"] else "  (published figure not checked)"
        print(
            f"{one['run']:22s} {one['quantity']:13s} {one['predicted']:11.4g} {one['published']:11.4g} "
            f"{one['time_error']:+10.1%} {one['mfu']:6.1%} {one['communication_frac']:6.1%}  {peer}{doubt}"
        )


def summary(scores: list[dict[str, Any]]) -> dict[str, float]:
    """Return the errors of what was published as time: energy is another question."""
    errors = [one["time_error"] for one in scores if one["quantity"] in _IN_MEAN]
    return {
        "mean_absolute_error": statistics.mean(map(abs, errors)),
        "mean_error": statistics.mean(errors),
        "worst_absolute_error": max(map(abs, errors)),
        "num_figures": len(errors),
    }


def main() -> None:
    """Print the tables and, last, the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--llm-analysis", metavar="PYTHON", help="interpreter that has llm-analysis")
    arguments = parser.parse_args()
    runs = read_runs()
    document: dict[str, Any] = {}
    for role, title in (
        ("reference", "references, to which one factor is fitted"),
        ("backtest", "backtests"),
    ):
        scores = [score(run) for run in runs if run.role == role]
        errors = summary(scores)
        print(
            f"\n{title}: time {errors['mean_absolute_error']:.1%} off in the mean, {errors['worst_absolute_error']:.1%} at worst, {errors['mean_error']:+.1%} with its sign"
        )
        print_table(scores)
        document[role] = {"runs": scores, **errors}
    if arguments.llm_analysis:
        document["llm_analysis"] = compare_llm_analysis(arguments.llm_analysis, runs)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
