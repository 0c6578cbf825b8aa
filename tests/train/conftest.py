import signal
import subprocess
import sys
import time

import pytest

from kleiber.runs import Recipe, RunFolder

_TRAIN = (
    "import sys; from pathlib import Path; from kleiber.runs import read_recipe; from kleiber.train import train;"
    "train(read_recipe(Path(sys.argv[1])), Path(sys.argv[2]))"
)


@pytest.fixture
def train_and_kill(tmp_path):
    """Return a function that trains in a process of its own and kills it some time after it has logged so many lines."""

    def run(recipe, folder, num_lines, wait_s=0.0):
        recipe.write(tmp_path / "r.yaml")
        command = [sys.executable, "-c", _TRAIN, str(tmp_path / "r.yaml"), str(folder)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(RunFolder(folder).read_metrics()) < num_lines:
            time.sleep(0.01)
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        process.wait()

    return run


@pytest.fixture
def recipe(small_text):
    """A model that trains for 20 steps in a second."""
    return Recipe().with_values(
        [
            "model.depth=1",
            "model.width=16",
            f"data.source=text:{small_text}",
            "data.vocab_size=300",
            "data.context=32",
            "data.val_frac=0.2",
            "data.val_tokens=1024",
            "train.num_steps=20",
            "train.schedule.warmup_steps=4",
            "train.checkpoint_every=5",
            "train.val_every=10",
            "train.log_every=5",
            "parallel.num_threads=1",
        ]
    )
