from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from kleiber.data.stdlib import stdlib_files
from kleiber.data.text_spool import TextSpool
from kleiber.errors import DataError


def test_tests_tables_and_site_packages_are_left_out(tmp_path: Path) -> None:
    kept = ["abc.py", "asyncio/tasks.py", "doctest.py", "unittest/case.py", "zipfile.py"]
    left_out = [
        "LICENSE.txt", "__pycache__/abc.cpython-311.pyc", "_sysconfigdata__linux_x86_64.py", "config-3.11/python-config.py",
        "encodings/cp1252.py", "encodings/mac_roman.py", "html/entities.py", "idlelib/idle_test/test_run.py",
        "lib2to3/tests/test_fixers.py", "pydoc_data/topics.py", "site-packages/six.py", "test/test_os.py",
        "unittest/test/test_case.py",
    ]  # fmt: skip
    for name in kept + left_out:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    assert list(stdlib_files(tmp_path).names) == kept


def test_this_pythons_own_library_is_listed_in_order() -> None:
    files = stdlib_files()
    assert files.root == Path(sysconfig.get_path("stdlib"))
    assert list(files.names) == sorted(files.names)
    assert {"argparse.py", "asyncio/tasks.py", "unittest/mock.py"} <= set(files.names)
    assert len(files.names) > 400


def test_a_module_is_read_in_the_encoding_it_declares(tmp_path: Path, spool: TextSpool) -> None:
    (tmp_path / "latin.py").write_bytes("# -*- coding: latin-1 -*-\nname = 'é'\n".encode("latin-1"))
    assert next(stdlib_files(tmp_path).documents(spool)).text.endswith("name = 'é'\n")


def test_a_python_without_sources_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this Python has no standard library sources in"):
        stdlib_files(tmp_path)
