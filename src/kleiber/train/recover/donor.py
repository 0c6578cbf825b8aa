"""The folder of a model that somebody goes on from or learns from: where it is, what it reads, its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kleiber.data.tokenizer import load_tokenizer, tokenizer_hash
from kleiber.errors import RecipeError, RunFolderError
from kleiber.models import Spec, load
from kleiber.models.config_file import model_hash
from kleiber.models.family import FamilyModule
from kleiber.models.seen_data import is_modelled, seen_by
from kleiber.models.stored import Activations, Forms, read_activations, read_forms
from kleiber.runs import DataMeta, DataShape, RunFolder

__all__ = ["Donor"]


@dataclass(frozen=True)
class Donor:
    """A model on disk, by what a recipe calls it."""

    key: str
    """`recover.model` or `recover.teacher`."""
    typed: str

    @property
    def folder(self) -> Path:
        """Where `config.json` and the weights are.

        Raises:
            RecipeError: There is no such folder, or a run in it has not finished.
        """
        try:
            return self._place.find_model()
        except RunFolderError as error:
            raise RecipeError(f"{self.key}: {error.message}", hint=error.hint) from None

    @property
    def run(self) -> RunFolder | None:
        """The run that made it, where it is one."""
        return self._place if self._place.exists() else None

    @property
    def _place(self) -> RunFolder:
        return RunFolder(Path(self.typed).expanduser())

    @property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of config and weights."""
        return model_hash(self.folder)

    def load(self, shape: DataShape) -> tuple[FamilyModule, Spec]:
        """Return the model in evaluation mode, and its spec.

        Args:
            shape: Of the data, which a model that no run of ours wrote does not say.

        Raises:
            RecipeError: transformers cannot build it on such data.
            RunFolderError: A file is missing or truncated.
        """
        module, spec = load(self.folder, shape)
        return module.eval(), spec

    def forms(self, module: FamilyModule) -> Forms:
        """Return how the weights are stored, by the names that they have in what `load` gave."""
        return read_forms(self.folder, module)

    def activations(self) -> Activations:
        """Return how numbers that are no weights are held."""
        return read_activations(self.folder)

    def require_fit(self, spec: Spec, meta: DataMeta) -> None:
        """Refuse a model that reads other tokens, or knows other classes, than the data has.

        Args:
            spec: Of the model.
            meta: Of the data.

        Raises:
            RecipeError: Naming what differs.
        """
        mine, asked = seen_by(spec), meta.shape
        for name in ("inputs", "vocab_size", "channels", "height", "width", "num_features", "num_outputs"):
            ours, theirs = getattr(mine, name), getattr(asked, name)
            # The table of a model may have more rows than its tokenizer has entries.
            if ours != theirs and not (
                name == "vocab_size" and (ours or 0) > (theirs or 0) and not is_modelled(mine)
            ):
                raise RecipeError(
                    f"{self.key} '{self.typed}' was made for other data than '{meta.source}': {name} is {ours}, and the data "
                    f"has {theirs}.",
                    hint=self._fit_hint(name),
                )
        if (mine.context or 0) < (asked.context or 0):
            raise RecipeError(
                f"{self.key} '{self.typed}' reads at most {mine.context} at a time, and data.context asks for more.",
                got=asked.context,
                hint=f"--set data.context={mine.context}",
            )
        self._require_tokens(meta)
        self._require_classes(meta)

    def _require_tokens(self, meta: DataMeta) -> None:
        if meta.tokenizer_hash is None or not (self.folder / "tokenizer.json").is_file():
            return
        found = tokenizer_hash(load_tokenizer(self.folder))
        if found != meta.tokenizer_hash:
            raise RecipeError(
                f"{self.key} '{self.typed}' reads by another tokenizer than '{meta.source}' is read by: its numbers mean "
                "other tokens.",
                got=(found, meta.tokenizer_hash),
                hint=self._fit_hint("vocab_size"),
            )

    def _require_classes(self, meta: DataMeta) -> None:
        known = self.run.read_record().data.classes if self.run is not None else ()
        if known and meta.classes and known != meta.classes:
            raise RecipeError(
                f"{self.key} '{self.typed}' was trained on other classes than '{meta.source}' has.",
                got=(list(known)[:5], list(meta.classes)[:5]),
                hint="data with the same classes in the same order",
            )

    def _fit_hint(self, name: str) -> str:
        if name == "vocab_size" and (self.folder / "tokenizer.json").is_file():
            return f"--set data.tokenizer={self.folder}   reads the data by its tokenizer"
        return "the data that it was trained on"
