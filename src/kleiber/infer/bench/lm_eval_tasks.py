"""Tasks of lm-evaluation-harness, asked of a language model behind any engine."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kleiber.errors import DataError, KleiberError, MissingExtraError, UsageError, nearest
from kleiber.infer.bench.likelihood import continuation_likelihood, text_likelihood
from kleiber.infer.generation import Request, Sampling, generate
from kleiber.infer.text_model import TextModel
from kleiber.runs import Document, Estimate
from kleiber.tasks.intervals import Z_95

__all__ = ["HarnessResult", "harness_model", "require_harness", "run_tasks"]

_MAX_TOKENS = 256
"""Of an answer that is written, where the task does not say."""


class HarnessResult(Document):
    """One task's measures."""

    task: str
    num_samples: int | None
    """Asked; None where the harness does not tell."""
    metrics: dict[str, Estimate]
    """By name; the interval is by the harness's standard error, a point where it has none."""


def run_tasks(
    model: TextModel,
    tasks: Sequence[str],
    *,
    max_samples: int | None = None,
    seed: int = 0,
    own_tasks: Path | None = None,
) -> tuple[HarnessResult, ...]:
    """Return the measures of some tasks of the harness.

    Args:
        model: That answers.
        tasks: As the harness names them, such as `hellaswag`.
        max_samples: Of each task; None asks all.
        seed: Of examples that are shown and of resamples.
        own_tasks: A folder with tasks of one's own, written as the harness's are.

    Raises:
        MissingExtraError: lm-eval is not installed.
        UsageError: A task that the harness does not know, or no such folder.
        DataError: A task's data is not at hand.
    """
    require_harness()
    from lm_eval import simple_evaluate  # noqa: PLC0415 - of an extra
    from lm_eval.tasks import TaskManager  # noqa: PLC0415 - of an extra

    if own_tasks is not None and not own_tasks.is_dir():
        raise UsageError(
            f"{own_tasks} is no folder with tasks of lm-eval.", hint="--lm-eval NAME --own-tasks FOLDER"
        )
    manager = TaskManager(include_path=None if own_tasks is None else str(own_tasks))
    for task in tasks:
        if task not in manager.all_tasks:
            raise UsageError(
                f"--lm-eval: lm-eval has no task '{task}'. {nearest(task, manager.all_tasks)}",
                hint="--lm-eval hellaswag,arc_easy",
            )
    try:
        found = simple_evaluate(
            model=harness_model(model),
            tasks=list(tasks),
            limit=max_samples,
            task_manager=manager,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
            log_samples=False,
            bootstrap_iters=1000,
        )
    except KleiberError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever datasets, the hub or the file system raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(
            f"--lm-eval: the data of {', '.join(tasks)} is not at hand: {reason}",
            hint="the same command once where there is a network: datasets keeps what it loads",
        ) from None
    return tuple(_result(task, found) for task in found["results"])


def require_harness() -> None:
    """Refuse to go on without the harness.

    Raises:
        MissingExtraError: lm-eval is not installed.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingExtraError.of("lm-eval", "lmeval", "--lm-eval")


def harness_model(model: TextModel) -> Any:
    """Return a model as the harness asks it: an `lm_eval.api.model.LM`."""
    from lm_eval.api.model import LM  # noqa: PLC0415 - of an extra

    class Asked(LM):  # type: ignore[misc] # of a package without types
        """A language model behind an engine of Kleiber's."""

        def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
            """Return how likely each continuation is, and whether it is the greedy one."""
            found = (continuation_likelihood(model, *one.args) for one in requests)
            return [(one.logprob, one.is_greedy) for one in found]

        def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
            """Return how likely each text is by itself."""
            return [text_likelihood(model, one.args[0]).logprob for one in requests]

        def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
            """Return what the model writes after each prompt."""
            return [_written(model, *one.args) for one in requests]

    return Asked()


def _written(model: TextModel, prompt: str, how: dict[str, Any]) -> str:
    until = how.get("until", ())
    is_drawn = bool(how.get("do_sample"))
    request = Request(
        max_tokens=int(how.get("max_gen_toks", _MAX_TOKENS)),
        stop=(until,) if isinstance(until, str) else tuple(until),
        sampling=Sampling(temperature=float(how.get("temperature", 1.0)) if is_drawn else 0.0),
    )
    return "".join(piece.text for piece in generate(model, prompt, request))


def _result(task: str, found: dict[str, Any]) -> HarnessResult:
    measures = found["results"][task]
    metrics = {}
    for key, value in measures.items():
        name, comma, how = key.partition(",")
        if not comma or name.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = measures.get(f"{name}_stderr,{how}")
        reach = Z_95 * error if isinstance(error, int | float) and math.isfinite(error) else 0.0
        # The harness's error of a perplexity is of few heavy texts, and may reach below what there is.
        low = max(0.0, value - reach) if "perplexity" in name else float(value) - reach
        metrics[name if how == "none" else f"{name} ({how})"] = Estimate(
            value=float(value), low=low, high=float(value) + reach
        )
    num = found.get("n-samples", {}).get(task, {}).get("effective")
    return HarnessResult(task=task, num_samples=num, metrics=metrics)
