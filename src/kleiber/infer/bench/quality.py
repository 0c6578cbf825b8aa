"""Quality of every candidate on the same samples, against torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from kleiber.errors import KleiberError
from kleiber.infer.bench.candidates import Candidate
from kleiber.infer.bench.decoder_module import DecoderModule
from kleiber.infer.bench.first_samples import FirstSamples
from kleiber.infer.bench.model import Benched
from kleiber.infer.bench.opening import has_towers
from kleiber.infer.engines import PredictorModule
from kleiber.infer.measure import TextCalls
from kleiber.runs import Estimate
from kleiber.runs.bench_result import BenchSettings
from kleiber.runs.receipt import QualityChange
from kleiber.tasks import Scores
from kleiber.tasks.quality import quality_changes, quality_loss

__all__ = ["RowQuality", "candidate_module", "measured_quality", "question_of"]


@dataclass(frozen=True)
class RowQuality:
    """Of one candidate against the reference of its question."""

    changes: tuple[QualityChange, ...] = ()
    loss: Estimate | None = None
    passes: bool | None = None
    notes: tuple[str, ...] = ()


def question_of(model: Benched) -> str:
    """Return what models must share to be compared: the samples that they answer, or the model itself without any."""
    return model.document.eval_hash or model.name


def candidate_module(candidate: Candidate) -> torch.nn.Module:
    """Return a candidate as the module that a task measures."""
    work = candidate.work
    if has_towers(candidate.model.spec):  # in torch, which runs nothing but the module
        return candidate.model.held(candidate.precision)[0]
    return DecoderModule(work.decoder) if isinstance(work, TextCalls) else PredictorModule(work.predictor)


def measured_quality(
    candidates: Sequence[Candidate],
    settings: BenchSettings,
    *,
    on_each: Callable[[str], object] = lambda _: None,
) -> tuple[RowQuality, ...]:
    """Return the quality of each candidate, as it would answer, beside the first model's of the same samples in torch.

    Args:
        candidates: Opened.
        settings: How many samples, and what may be lost.
        on_each: Is told each before it answers.
    """
    references: dict[str, Scores] = {}
    found = []
    for candidate in candidates:
        model = candidate.model
        if model.data is None or model.task is None:
            found.append(RowQuality())
            continue
        data = FirstSamples(model.data, settings.quality_samples)
        question = question_of(model)
        if question not in references:
            on_each(f"{model.name}, torch")
            references[question] = model.task.scores(model.module, data, model.split)
        on_each(candidate.title)
        try:
            scores = model.task.scores(candidate_module(candidate), data, model.split)
            found.append(_against(references[question], scores, candidate, settings))
        except KleiberError as error:
            found.append(RowQuality(passes=False, notes=(f"Its quality cannot be told: {error.message}",)))
    return tuple(found)


def _against(reference: Scores, scores: Scores, candidate: Candidate, settings: BenchSettings) -> RowQuality:
    changes = quality_changes(
        candidate.model.task_name,
        reference,
        scores,
        engine=candidate.work.engine,
        names=("reference", candidate.title),
        seed=settings.seed,
    )
    loss = quality_loss(next(one for one in changes if one.is_main))
    return RowQuality(changes, loss, loss.value <= settings.max_quality_loss)
