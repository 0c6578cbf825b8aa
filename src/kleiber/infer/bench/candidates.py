"""Every model behind every engine in every precision that was asked for, opened; what cannot be is told with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kleiber.errors import KleiberError, MissingExtraError, UsageError, nearest
from kleiber.infer.bench.model import Benched
from kleiber.infer.bench.opening import opening_of
from kleiber.infer.engines import ENGINES
from kleiber.infer.measure import Opening, SampleCalls, TextCalls
from kleiber.infer.precision import PRECISIONS, Precision
from kleiber.models.file.spec import FileSpec
from kleiber.models.seen_data import seen_by
from kleiber.runs.bench_result import BenchLeftOut, BenchSettings, CallKind
from kleiber.runs.machine import free_memory_bytes
from kleiber.units import format_bytes

__all__ = [
    "AUTO",
    "STORED",
    "TEXT_ALONE",
    "Candidate",
    "PromptShape",
    "open_candidates",
    "prompt_shape",
    "require_known",
]

AUTO, STORED = "auto", "stored"
_USUAL_PROMPT, _USUAL_NEW = 512, 128
TEXT_ALONE = ("llamacpp",)
"""Engines that run nothing but language models."""
_FP32, _COPIES = 4, 2
"""Bytes of a weight; the module that is read, and what the engine makes of it."""


@dataclass(frozen=True)
class PromptShape:
    """Tokens of a language model's turn."""

    num_prompt: int
    num_new: int


@dataclass(frozen=True)
class Candidate:
    """One model behind one engine in one precision."""

    model: Benched
    asked_engine: str
    asked_precision: str
    precision: Precision | None
    opening: Opening
    work: TextCalls | SampleCalls
    prompt: PromptShape | None
    """None of what is no language model."""

    @property
    def title(self) -> str:
        """Unique in the benchmark."""
        chosen = f"{AUTO}: " if self.asked_engine == AUTO else ""
        return f"{self.model.name}, {chosen}{self.work.engine} {self.asked_precision}"

    @property
    def kinds(self) -> tuple[CallKind, ...]:
        """What is timed of it."""
        return ("prefill", "decode") if self.prompt else ("forward",)


def require_known(settings: BenchSettings) -> None:
    """Refuse names of engines and precisions that there are not.

    Raises:
        UsageError: An unknown one.
    """
    for engine in settings.engines:
        if engine not in (known := (*ENGINES, AUTO)):
            raise UsageError(
                f"unknown engine '{engine}'. {nearest(engine, known)}",
                hint="--engine torch,openvino   or all",
            )
    for precision in settings.precisions:
        if precision not in (known := (STORED, *PRECISIONS)):
            raise UsageError(
                f"unknown precision '{precision}'. {nearest(precision, known)}",
                hint="--precision fp32,int8,int4   or stored",
            )


def prompt_shape(context: int, settings: BenchSettings) -> PromptShape:
    """Return the tokens of a turn: as asked, else 512 and 128, or less where the context is short.

    Args:
        context: Tokens that the model can hold.
        settings: What was asked.

    Raises:
        UsageError: What was asked does not fit.

    Example:
        >>> prompt_shape(256, BenchSettings(num_threads=1)), prompt_shape(2048, BenchSettings(num_threads=1))
        (PromptShape(num_prompt=128, num_new=128), PromptShape(num_prompt=512, num_new=128))
    """
    num_new = settings.new_tokens
    if settings.prompt_tokens is None:
        num_prompt = max(1, min(_USUAL_PROMPT, context // 2 if num_new is None else context - num_new))
    else:
        num_prompt = settings.prompt_tokens
    if num_new is None:
        num_new = min(_USUAL_NEW, context - num_prompt)
    if num_new < 1 or num_prompt + num_new > context:
        raise UsageError(
            f"a prompt of {num_prompt} tokens and {max(1, num_new)} after it do not fit into a context of {context}.",
            hint=f"-p {context // 2} -n {max(1, context // 4)}",
        )
    return PromptShape(num_prompt, num_new)


def open_candidates(
    models: Sequence[Benched],
    settings: BenchSettings,
    place: Path,
    *,
    on_each: Callable[[str], object] = lambda _: None,
) -> tuple[tuple[Candidate, ...], tuple[BenchLeftOut, ...]]:
    """Return what can be timed, and what cannot.

    Args:
        models: To run.
        settings: Engines and precisions; an engine that is named must be installed.
        place: A folder for their inputs, which outlives the candidates.
        on_each: Is told each before it is opened.

    Raises:
        MissingExtraError: An engine that was named is not installed.
        UsageError: Tokens do not fit into a context, memory does not hold all that is asked, or nothing at all can be timed.
    """
    asked = tuple(_asked(models, settings))
    _require_memory([model for model, _, _ in asked])
    found: list[Candidate] = []
    left_out: list[BenchLeftOut] = []
    errors: list[Exception] = []
    for model, precision, engine in asked:
        on_each(f"{model.name}, {engine} {precision}")
        try:
            found.append(_open(model, engine, precision, settings, place))
        except MissingExtraError as error:
            if engine in settings.engines:
                raise
            left_out.append(_left_out(model, engine, precision, error.message))
        except KleiberError as error:
            errors.append(error)
            left_out.append(_left_out(model, engine, precision, error.message))
        except Exception as error:  # noqa: BLE001 - libraries raise what they like, and the others go on
            errors.append(error)
            reason = f"the engine {engine} failed: {_first_line(error)}"
            left_out.append(_left_out(model, engine, precision, reason))
    if not found:
        first = errors[0] if errors else None
        if isinstance(first, UsageError) and len({str(one) for one in errors}) == 1:
            raise first  # what every engine says is said of the model
        reasons = " ".join(dict.fromkeys(one.reason for one in left_out))
        raise UsageError(f"nothing can be measured: {reasons}", hint="--engine torch --precision stored")
    return tuple(found), tuple(left_out)


def _asked(models: Sequence[Benched], settings: BenchSettings) -> Iterator[tuple[Benched, str, str]]:
    for model in models:
        if model.writes_text:
            prompt_shape(model.document.context or 1, settings)  # what does not fit is no engine's fault
        for precision in settings.precisions:
            for engine in settings.engines or ENGINES:
                if model.writes_text or engine in settings.engines or engine not in TEXT_ALONE:
                    yield model, precision, engine


def _require_memory(models: Sequence[Benched]) -> None:
    """Refuse to open more than memory holds: they take turns, so that all are open at once.

    Args:
        models: One for each time that it is opened.
    """
    needed = sum(_COPIES * _FP32 * model.document.num_params for model in models)
    if needed > (free := free_memory_bytes()):
        raise UsageError(
            f"{len(models)} engines and precisions are open at once and need about {format_bytes(needed)}; "
            f"{format_bytes(free)} of memory are free.",
            hint="--engine torch,openvino --precision stored   fewer at a time",
        )


def _left_out(model: Benched, engine: str, precision: str, reason: str) -> BenchLeftOut:
    return BenchLeftOut(model=model.name, engine=engine, precision=precision, reason=reason)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _open(model: Benched, engine: str, precision: str, settings: BenchSettings, place: Path) -> Candidate:
    if engine in TEXT_ALONE and not model.writes_text:
        raise UsageError(
            f"the engine {engine} is for language models.", got=model.name, hint="--engine torch,openvino"
        )
    held: Precision | None = None if precision == STORED else next(p for p in PRECISIONS if p == precision)
    prompt = prompt_shape(model.document.context or 1, settings) if model.writes_text else None
    inputs_path = place / f"{model.name.replace('/', '_')}.npz"
    if not inputs_path.is_file():
        arrays = model.inputs if prompt is None else (model.inputs[0][:, : prompt.num_prompt],)
        np.savez(inputs_path, *arrays)
    spec = model.spec
    opening = opening_of(
        model.folder,
        engine,
        held,
        inputs_path,
        num_threads=settings.num_threads,
        num_new=None if prompt is None else prompt.num_new,
        shape=seen_by(spec) if spec.family == "hf" else None,
        code=(spec.path, spec.name) if isinstance(spec, FileSpec) else None,
    )
    work = opening.open()
    if not isinstance(work, TextCalls | SampleCalls):
        raise TypeError("a benchmark opens calls")
    work.once()
    return Candidate(model, engine, precision, held, opening, work, prompt)
