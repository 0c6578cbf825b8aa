import subprocess
import sys
import threading
import time

from kleiber.train import lock
from kleiber.train.lock import exclusive, is_held

_SCRIPT = """
import sys
from pathlib import Path
from kleiber.train.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_held_while_the_process_lives(tmp_path):
    assert not is_held(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        assert is_held(tmp_path)
        process.kill()
    assert not is_held(tmp_path)
    with exclusive(tmp_path):
        assert is_held(tmp_path)


def test_a_file_is_not_held(tmp_path):
    (tmp_path / "file").touch()
    assert not is_held(tmp_path / "file")


def test_a_folder_in_which_nothing_was_written_is_removed_again(tmp_path):
    with exclusive(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()
    with exclusive(tmp_path / "new"):
        (tmp_path / "new" / "record.json").touch()
    assert (tmp_path / "new" / "record.json").exists()
    (tmp_path / "empty").mkdir()
    with exclusive(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()


def test_a_lock_that_was_removed_while_one_waited_for_it_is_no_lock(tmp_path, monkeypatch):
    folder, take = tmp_path / "new", lock._take
    removals = iter([True])

    def take_late(handle):
        if next(removals, False):  # the holder goes, and takes its folder along
            lock._remove_unused(folder)
        return take(handle)

    monkeypatch.setattr(lock, "_take", take_late)
    with exclusive(folder):
        monkeypatch.undo()
        assert is_held(folder)


def test_looking_does_not_keep_a_run_from_starting(tmp_path):
    with exclusive(tmp_path):
        pass
    is_over = threading.Event()

    def look():
        while not is_over.is_set():
            is_held(tmp_path)
            time.sleep(1e-4)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(300):
            with exclusive(tmp_path):
                pass
    finally:
        is_over.set()
        looking.join()
