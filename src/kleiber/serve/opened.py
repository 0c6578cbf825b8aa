"""A model that is served, behind its engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from kleiber.errors import UsageError
from kleiber.infer.batching import BatchedText, open_batched_text
from kleiber.models.config_file import read_config
from kleiber.runs import RunFolder
from kleiber.serve.given import Reads, reads
from kleiber.serve.settings import ServeSettings

if TYPE_CHECKING:
    from kleiber.infer.classification import Classifier
    from kleiber.infer.embedding import Embedder

__all__ = ["Kind", "Opened", "open_served"]

_Progress: TypeAlias = Callable[[str], None] | None
Kind: TypeAlias = Literal["text", "classifier", "encoder"]


@dataclass(frozen=True)
class Opened:
    """One model and what it can be asked; that which its kind says is there, the rest is None."""

    name: str
    """By which requests ask for it."""
    folder: Path
    kind: Kind
    engine: str
    precision: str
    notes: tuple[str, ...] = ()
    """How its engine was found and what is done otherwise than asked, a sentence each."""
    text: BatchedText | None = None
    classifier: Classifier | None = None
    reads: Reads | None = None
    """What one input of a classifier is."""
    embedder: Embedder | None = None
    opened_at: int = field(default_factory=lambda: int(time.time()))
    """Seconds since 1970."""

    def close(self) -> None:
        """Give up what it runs."""
        if self.text is not None:
            self.text.close()


def open_served(
    folders: Sequence[Path], settings: ServeSettings, *, on_progress: Callable[[str], None] | None = None
) -> dict[str, Opened]:
    """Return the models of folders by name: a run's is that of its folder.

    Args:
        folders: Of runs, or in the Hugging Face layout.
        settings: Engine, precision and how many texts a model writes at once.
        on_progress: Is told what takes long.

    Raises:
        UsageError: Two have one name, or a model is of no kind that is served.
        RunFolderError: There is no model, or it does not load.
        DataError: There is no tokenizer beside it.
        MissingExtraError: The engine's package is not installed.
        RecipeError: The engine does not take the model.
    """
    names = [_name_of(folder) for folder in folders]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"two models are named '{name}': requests could not tell them apart.",
                got=[str(folder) for folder in folders if _name_of(folder) == name],
                hint="folders with different names",
            )
    kinds = [kind_of(folder) for folder in folders]  # all are looked at before the first is opened
    opened: dict[str, Opened] = {}
    try:
        for name, folder, kind in zip(names, folders, kinds, strict=True):
            if on_progress is not None:
                on_progress(f"opening {folder}")
            opened[name] = _OPENERS[kind](name, folder, settings, on_progress)
    except BaseException:
        for model in opened.values():
            model.close()
        raise
    return opened


def kind_of(folder: Path) -> Kind:
    """Return what the model of a folder does.

    Raises:
        UsageError: Nothing that is served.
        RunFolderError: There is no model, or its config cannot be read.
    """
    run = RunFolder(folder)
    config = read_config(run.find_model())
    if run.exists():
        task = run.read_record().recipe.task.name
        kinds: dict[str, Kind] = {"lm": "text", "classification": "classifier", "contrastive": "encoder"}
        if task not in kinds:
            raise UsageError(
                f"{folder} was trained for the task {task}; served are models that write text, classify or embed.",
                got=task,
                hint="kleiber serve RUN   with task.name=lm, classification or contrastive",
            )
        return kinds[task]
    names = [str(name) for name in config.get("architectures") or ()]
    return "text" if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names) else "encoder"


def _name_of(folder: Path) -> str:
    return folder.resolve().name


def _text(name: str, folder: Path, settings: ServeSettings, on_progress: _Progress) -> Opened:
    engine: Any = settings.engine
    precision: Any = settings.precision
    # Who may wait is counted by the server, in whole requests; the batch's own queue is never the narrower one.
    text = open_batched_text(
        folder,
        engine=engine,
        precision=precision,
        num_threads=settings.num_threads,
        max_running=settings.max_running,
        max_waiting=settings.max_running + settings.max_waiting,
        context=settings.context,
        on_progress=on_progress,
    )
    notes = text.notes if text.choice is None else (text.choice.says(), *text.notes)
    return Opened(name, folder, "text", text.engine, text.precision, notes, text=text)


def _classifier(name: str, folder: Path, settings: ServeSettings, on_progress: _Progress) -> Opened:
    from kleiber.infer.classification import open_classifier  # noqa: PLC0415 - what reads files is heavy

    engine: Any = settings.engine
    classifier = open_classifier(
        folder, engine=engine, num_threads=settings.num_threads, on_progress=on_progress
    )
    found = classifier.predictor
    # What reads its inputs is opened now: a tokenizer or a table that is gone is known before the first request.
    kind = reads(classifier.reader)
    return Opened(
        name, folder, "classifier", found.engine, found.precision, classifier=classifier, reads=kind
    )


def _encoder(name: str, folder: Path, settings: ServeSettings, on_progress: _Progress) -> Opened:
    from kleiber.infer.embedding import open_embedder  # noqa: PLC0415 - imports transformers

    engine: Any = settings.engine
    embedder = open_embedder(folder, engine=engine, num_threads=settings.num_threads, on_progress=on_progress)
    return Opened(name, folder, "encoder", embedder.engine, embedder.precision, embedder=embedder)


_OPENERS: dict[Kind, Callable[[str, Path, ServeSettings, _Progress], Opened]] = {
    "text": _text,
    "classifier": _classifier,
    "encoder": _encoder,
}
