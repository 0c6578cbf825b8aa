"""A ladder killed (SIGKILL) at ten random moments beside one that nobody disturbed: the same rows, weights and law?

    python bench/ladders/interrupted.py --folder runs/interrupted

Three widths, two seeds, two horizons: some minutes of two cores. Every kill takes all processes of the ladder at once, at a moment
drawn by how far it has come, so that a slow machine changes nothing. The last line of stdout is one JSON document.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import novels
import numpy as np
from safetensors.numpy import load_file

from kleiber.runs import RunFolder, find_runs
from kleiber.scaling import fit
from kleiber.study.design import LadderDesign
from kleiber.study.ladder import ladder_rows, prepare_data

WIDTHS, HORIZONS, SEEDS = (16, 32, 48), (150, 300), (1, 2)


def main() -> None:
    parser = novels.parser(__doc__, "runs/bench/interrupted")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    design = novels.ladder(
        arguments, widths=WIDTHS, horizons=HORIZONS, seeds=SEEDS, target_width=96, target_steps=600
    )
    # Checkpoints are rare beside the kills, so that steps are done twice.
    design = prepare_data(design.with_values(["base.train.checkpoint_every=40", "base.train.log_every=10"]))
    for name in ("whole", "cut"):
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "design.yaml"
    design.write(path)
    start = time.monotonic()
    _finish(path, folder / "whole")
    whole_s = time.monotonic() - start
    num_lines = _num_lines(folder / "whole")
    print(f"undisturbed: {whole_s:.1f} s, {num_lines} lines logged", flush=True)
    kills = kill_often(
        path, folder / "cut", arguments.kills, num_lines, np.random.default_rng(arguments.seed)
    )
    _finish(path, folder / "cut")
    found = {"whole_s": whole_s, "kills": kills, **compare(design, folder)}
    found["checks"] = [
        novels.judged("kills", str(arguments.kills), str(len(kills)), holds=len(kills) == arguments.kills),
        novels.judged("rows", "equal", f"{found['num_equal_rows']} of {found['num_rows']} are", holds=found["same_rows"]),
        novels.judged("weights", "equal bit for bit", f"{found['num_equal_models']} of {found['num_models']} are",
                      holds=found["num_equal_models"] == found["num_models"]),
        novels.judged("law", "the same hash", " and ".join(found["law_hashes"]), holds=len(set(found["law_hashes"])) == 1),
    ]  # fmt: skip
    novels.end(folder / "interrupted.json", found)


def _command(design: Path, folder: Path) -> list[str]:
    return [sys.executable, "-m", "kleiber", "ladder", "run", str(design), "-o", str(folder)]


def _finish(design: Path, folder: Path) -> None:
    subprocess.run(_command(design, folder), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_often(
    design: Path, folder: Path, num_kills: int, num_lines: int, moments: np.random.Generator
) -> list[dict[str, Any]]:
    """Start the ladder again and again, each time killing it while runs are under way; return what stood at each moment."""
    kills: list[dict[str, Any]] = []
    while len(kills) < num_kills:
        process = subprocess.Popen(
            _command(design, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = _num_lines(folder)
        while process.poll() is None and _num_lines(folder) == before:
            time.sleep(0.02)  # something is trained every time: else a kill would meet only imports
        lines = before + moments.uniform(0, num_lines / (2 * num_kills))
        while process.poll() is None and _num_lines(folder) < lines:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.2))
        if process.poll() is not None:
            raise SystemExit(f"the ladder ended before kill {len(kills) + 1}: give it longer horizons.")
        _kill(process)
        finished = sum(run.read_record().status == "finished" for run in find_runs([folder / "ladder"]))
        kills.append({"num_lines": _num_lines(folder), "num_finished": finished})
        print(
            f"kill {len(kills)}: {finished} runs had finished, {kills[-1]['num_lines']} lines logged",
            flush=True,
        )
    return kills


def _num_lines(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("ladder/*/metrics.jsonl"))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the ladder and its workers, which stand in sessions of their own."""
    for pid in (process.pid, *_descendants(process.pid)):
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.kill(pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.2)


def _descendants(parent: int) -> list[int]:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    children = [int(pid) for pid in path.read_text().split()]
    return [pid for child in children for pid in (child, *_descendants(child))]


def compare(design: LadderDesign, folder: Path) -> dict[str, Any]:
    """Return whether both ladders hold the same rows, weights and law."""
    rows = [ladder_rows(design, folder / name) for name in ("whole", "cut")]
    hashes = [fit(one).hash for one in rows]
    runs = list(find_runs([folder / "whole" / "ladder"]))
    equal = [_are_equal(run, RunFolder(folder / "cut" / "ladder" / run.name)) for run in runs]
    return {
        "num_rows": len(rows[0]),
        "num_equal_rows": sum(a == b for a, b in zip(*rows, strict=True)),
        "same_rows": rows[0] == rows[1],
        "num_models": len(runs),
        "num_equal_models": sum(equal),
        "law_hashes": hashes,
    }


def _are_equal(first: RunFolder, second: RunFolder) -> bool:
    ours, theirs = (load_file(run.model_path / "model.safetensors") for run in (first, second))
    return ours.keys() == theirs.keys() and all((ours[name] == theirs[name]).all() for name in ours)


if __name__ == "__main__":
    main()
