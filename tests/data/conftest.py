from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from kleiber.data import TextData, open_data
from kleiber.data.text_spool import TextSpool
from kleiber.runs import DataRecipe

MODULES = ("argparse.py", "ast.py", "calendar.py", "datetime.py", "difflib.py", "shutil.py", "textwrap.py")


@pytest.fixture(scope="session")
def modules_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven modules of the standard library: 300 KB of real text."""
    folder = tmp_path_factory.mktemp("modules")
    for name in MODULES:
        shutil.copyfile(Path(sysconfig.get_path("stdlib")) / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextSpool]:
    """Where texts go; whatever other tests put there stands before them."""
    with TextSpool(tmp_path_factory.mktemp("spool")) as spool:
        yield spool


@pytest.fixture(scope="session")
def small_recipe(modules_folder: Path) -> DataRecipe:
    return DataRecipe(
        source=f"text:{modules_folder}", vocab_size=400, context=32, val_frac=0.1, val_tokens=2048
    )


@pytest.fixture(scope="session")
def small_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def small_data(small_recipe: DataRecipe, small_cache: Path) -> TextData:
    return open_data(small_recipe, seed=0, cache=small_cache)
