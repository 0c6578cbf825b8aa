"""To and from a folder of our own layout: transformers has no architecture of plain recurrent networks."""

from __future__ import annotations

from pathlib import Path

from kleiber.models.own_layout import load_own, save_own
from kleiber.models.rnn.module import RNN
from kleiber.models.rnn.spec import RNNSpec

__all__ = ["load", "save"]

_ARCHITECTURE = "KleiberRNN"


def save(module: RNN, spec: RNNSpec, folder: Path) -> None:
    """Write the weights of `module` and its spec into `folder`.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    save_own(module, spec, folder, _ARCHITECTURE)


def load(folder: Path) -> tuple[RNN, RNNSpec]:
    """Return the module and spec in `folder`; weights of any precision become fp32.

    Raises:
        RunFolderError: A file is missing or truncated, or a tensor does not fit the spec.
    """
    return load_own(folder, _ARCHITECTURE, RNNSpec, RNN)
