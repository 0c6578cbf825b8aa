"""What the tests of several rooms need: real text, small, from the running Python's own library; a record."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from kleiber.runs import DataMeta, ParamCount, Predicted, Recipe, Record, Result, environment, hash_of, now

_RESULT = Result(
    num_steps=10, num_tokens=20_000, loss=3.1, val_loss=3.2, val_loss_half_width=0.02, val_metrics={"bits_per_byte": {"value": 1.3, "low": 1.3, "high": 1.3}},
    tokens_per_s=9e3, step_time_s=0.0125, mfu_frac=0.2, peak_flops_per_s=1e11, total_time_s=10.0,
    peak_memory_bytes=10**8,
)  # fmt: skip


# One thread: two test processes share two cores, and the bits do not depend on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# No test asserts an absolute time: a busy neighbour would fail it.
settings.register_profile("kleiber", deadline=None)
settings.load_profile("kleiber")

_SMALL_TEXT = (
    "argparse.py",
    "ast.py",
    "bdb.py",
    "calendar.py",
    "cmd.py",
    "configparser.py",
    "csv.py",
    "difflib.py",
)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache of this test session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLEIBER_CACHE", str(cache))


@pytest.fixture(scope="session")
def small_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with eight modules of the standard library, 0.4 MB."""
    folder = tmp_path_factory.mktemp("text")
    for name in _SMALL_TEXT:
        shutil.copy(Path(sysconfig.get_path("stdlib")) / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def train_once(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Callable[..., Path]:
    """Return a function that trains what the values of a recipe say, for all tests of a file or a room; it returns the run."""
    from kleiber.train import train  # noqa: PLC0415 - imports torch, which most tests do without

    def run(*values: str) -> Path:
        folder = tmp_path_factory.mktemp("trained") / "original"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KLEIBER_CACHE", str(cache))
            train(Recipe().with_values(list(values)), folder)
        return folder

    return run


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """Return a function that makes the record of a finished run; `result` holds changes to the result."""

    def make(run: str = "small", *, result: dict[str, Any] | None = None, **changes: Any) -> Record:
        recipe, time = Recipe(), now()
        record = Record(
            run=run, status="finished", started_at=time, ended_at=time, recipe=recipe, recipe_hash=hash_of(recipe),
            seed=3, environment=environment(1),
            data=DataMeta(
                source="stdlib", corpus_hash="c", python_version="3.12.0", tokenizer_hash="t", eval_hash="e",
                shape={"inputs": "tokens", "vocab_size": 1024, "context": 128}, num_documents=9, num_train_tokens=5_000, num_val_tokens=512,
                val_bytes_per_token=3.5,
            ),
            num_params=ParamCount(embedding=10, body=20, head=0, is_tied=True), train_flops=6e6,
            flops_convention="causal", predicted=Predicted(),
            result=_RESULT.model_copy(update=result or {}),
        )  # fmt: skip
        return record.model_copy(update=changes)

    return make
