from __future__ import annotations

import subprocess
import sys


def loaded_by(module: str) -> set[str]:
    says = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", says], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_process_of_a_target_loads_no_engine_and_no_compression():
    apart = {"kleiber.compress", "kleiber.infer", "onnxruntime", "openvino"}

    assert not loaded_by("kleiber.study.target_run") & apart
    assert loaded_by("kleiber.study.demo") & apart  # where the job stood, and what it would have loaded
