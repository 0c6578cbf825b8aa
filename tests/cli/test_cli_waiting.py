"""Threads sleep early, before torch is loaded, unless the environment says otherwise."""

import os
import subprocess
import sys

import pytest

from kleiber.cli.waiting import let_threads_sleep


def test_it_is_settled_where_nobody_has_said_anything():
    environment = {"PATH": "/bin"}
    let_threads_sleep(environment)
    assert environment == {"PATH": "/bin", "GOMP_SPINCOUNT": "2000"}


@pytest.mark.parametrize("said", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_what_the_environment_says_stands(said):
    environment = dict(said)
    let_threads_sleep(environment)
    assert environment == said


def test_torch_is_not_loaded_before_it_is_settled():
    code = (
        "import os, sys\n"
        "from kleiber.cli import main\n"
        "main.main = lambda _: int('torch' in sys.modules or os.environ['GOMP_SPINCOUNT'] != '2000')\n"
        "main.run()"
    )
    clean = {
        key: value for key, value in os.environ.items() if key not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    }
    assert subprocess.run([sys.executable, "-c", code], env=clean, check=False).returncode == 0
