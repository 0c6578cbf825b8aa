"""Fixtures for every room: real text, small, from the running Python's own library."""

import os
import shutil
import sysconfig
from pathlib import Path

import pytest

# One thread: two test processes share two cores, and the bits do not depend on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SMALL_TEXT = ("argparse.py", "ast.py", "bdb.py", "calendar.py", "cmd.py", "configparser.py", "csv.py", "difflib.py")


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache, monkeypatch):
    monkeypatch.setenv("KLEIBER_CACHE", str(cache))


@pytest.fixture(scope="session")
def small_text(tmp_path_factory):
    """A folder with eight modules of the standard library, 0.4 MB."""
    folder = tmp_path_factory.mktemp("text")
    for name in SMALL_TEXT:
        shutil.copy(Path(sysconfig.get_path("stdlib")) / name, folder / name)
    return folder
