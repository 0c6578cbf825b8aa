"""The run's diary: one JSON line a log step, and the same as TensorBoard events."""

from __future__ import annotations

import contextlib
import json
import time
from types import TracebackType
from typing import Any, Self

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from kleiber.errors import StorageError
from kleiber.runs import METRIC_KEYS, RunFolder
from kleiber.runs.files import storage_errors, write_text

__all__ = ["Journal"]


class Journal:
    """Appends to `metrics.jsonl` and a TensorBoard event file; a resumed run forgets lines after its step.

    Args:
        folder: The run.
        step: Steps done: what was logged after it is dropped, since it is done again.

    Raises:
        StorageError: The disk refused.
    """

    def __init__(self, folder: RunFolder, step: int) -> None:
        self._metrics_path, events_folder = folder.metrics_path, folder.path / "events"
        # TensorBoard reads the files of a folder in the order of their names.
        self._events_path = events_folder / f"events.out.tfevents.{time.time_ns()}"
        kept = [line for line in folder.read_metrics() if line["step"] <= step]
        write_text(self._metrics_path, "".join(json.dumps(line) + "\n" for line in kept))
        with storage_errors(self._events_path), contextlib.ExitStack() as streams:
            events_folder.mkdir(exist_ok=True)
            self._metrics = streams.enter_context(self._metrics_path.open("a", encoding="utf-8"))
            # tensorboard's EventFileWriter would do the same in a thread, whose errors come late or never.
            self._events = RecordWriter(streams.enter_context(self._events_path.open("wb")))
            self._add_event(wall_time=time.time(), file_version="brain.Event:2")
            # A session start tells TensorBoard to purge the events of steps that come again.
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._add_event(step=step + 1, session_log=start)
            self._streams = streams.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: TracebackType | None) -> None:
        try:
            with storage_errors(self._metrics_path):
                self._streams.close()
        except StorageError:
            if error is None:  # a second error must not hide the first
                raise

    def write(self, line: dict[str, Any]) -> None:
        """Append a line with the keys `METRIC_KEYS`.

        Raises:
            StorageError: The disk refused.
        """
        if tuple(line) != METRIC_KEYS:
            raise ValueError(f"a line of metrics has the keys {METRIC_KEYS}, not {tuple(line)}")
        with storage_errors(self._metrics_path):
            self._metrics.write(json.dumps(line) + "\n")
            self._metrics.flush()
        values = [
            summary_pb2.Summary.Value(tag=key, simple_value=value)
            for key, value in line.items()
            if key not in {"step", "time_s"} and value is not None
        ]
        with storage_errors(self._events_path):
            summary = summary_pb2.Summary(value=values)
            self._add_event(step=line["step"], wall_time=line["time_s"], summary=summary)

    def _add_event(self, **fields: Any) -> None:
        self._events.write(event_pb2.Event(**fields).SerializeToString())
        self._events.flush()
