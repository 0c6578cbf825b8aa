"""`audiofolder:DIR`: sounds in a folder for each class, as log-mel spectrograms."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.class_folders import ClassFolders, class_folders
from kleiber.data.corpus import Progress
from kleiber.data.prepared import Prepared, PreparedMeta, file_stats, open_prepared
from kleiber.data.sample_checks import refuse_without_effect
from kleiber.data.sound_blocks import mono_blocks
from kleiber.data.source import Source
from kleiber.data.spectrograms import Clip, prepare_spectrograms
from kleiber.errors import DataError, MissingExtraError
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["AUDIO_SUFFIXES", "open_audio_folder"]

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au"})

_VERSION = 1
_BLOCK = 65_536
"""Samples that are decoded at a time."""
"""Of the preparation: raise it when the same files would give other arrays."""


def open_audio_folder(
    recipe: DataRecipe,
    task: TaskRecipe,  # noqa: ARG001 - an opener's signature
    argument: str,
    *,
    cache: Path,
    on_progress: Progress,
) -> Source:
    """Return the sounds below `argument` as spectrograms, computed into the cache on the first call.

    The channels of a clip are averaged.

    Raises:
        DataError: There is no folder, no class folder or no sound in one, a clip does not decode, or sample rates differ.
        MissingExtraError: soundfile is not installed.
        StorageError: The cache cannot be written.
    """
    refuse_without_effect(recipe)
    folders = class_folders(argument, AUDIO_SUFFIXES, source=recipe.source, what="audio")
    return folders.source_of(_prepared(folders, recipe, cache, on_progress))


def _prepared(folders: ClassFolders, recipe: DataRecipe, cache: Path, on_progress: Progress) -> Prepared:
    def prepare(target: Path) -> PreparedMeta:
        on_progress("computing spectrograms")
        clips, indices, rate, bad = _clips(folders, recipe.source)
        meta = prepare_spectrograms(
            target,
            clips,
            np.array([folders.splits[index] == "train" for index in indices], bool),
            sample_rate=rate,
            source=recipe.source,
            skips_bad=recipe.skips_bad_samples,
            bad=bad,
        )
        kept = np.load(target / "kept.npy")
        np.save(target / "kept.npy", np.array(indices, np.intp)[kept])  # of the files, not of the clips
        return meta

    key = {
        "version": _VERSION,
        "files": file_stats(folders.files),
        "recipe": recipe.model_dump(include={"skips_bad_samples"}),
    }
    return open_prepared(cache, "spectrograms", key, prepare)


def _clips(folders: ClassFolders, source: str) -> tuple[list[Clip], list[int], int, list[str]]:
    """Return the clips whose headers are sound, their indices, their sample rate, and sentences about the others."""
    soundfile = _soundfile()
    clips, indices, bad, rates = [], [], [], {}
    for index, path in enumerate(folders.files):
        try:
            info = soundfile.info(str(path))
        except (soundfile.LibsndfileError, OSError) as error:
            bad.append(f"{folders.name(index)}: {_reason(error)}")
            continue
        clips.append(Clip(folders.name(index), info.frames, partial(_read, soundfile, path)))
        indices.append(index)
        rates[folders.name(index)] = int(info.samplerate)
    counts = Counter(rates.values())
    if len(counts) > 1:
        common = counts.most_common(1)[0][0]
        strange = next(name for name, rate in rates.items() if rate != common)
        raise DataError(
            f"data.source '{source}': clips must have one sample rate; most have {common:,} Hz and {strange} has "
            f"{rates[strange]:,}.",
            hint=f"sox {strange} -r {common} resampled.wav",
        )
    return clips, indices, next(iter(counts), 8000), bad


def _read(soundfile: Any, path: Path) -> npt.NDArray[np.float32]:
    try:
        with soundfile.SoundFile(str(path)) as sound:
            blocks = list(mono_blocks(sound, _BLOCK))
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(_reason(error)) from None
    return np.concatenate([np.zeros(0, np.float32), *blocks])


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).rstrip(".")


def _soundfile() -> Any:
    try:
        import soundfile  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError.of("soundfile", "data", "Reading sound") from None
    return soundfile
