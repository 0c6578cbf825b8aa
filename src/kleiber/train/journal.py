"""The run's diary: one JSON line a log step, and the same as TensorBoard events."""

from __future__ import annotations

import json
from typing import Any, Self

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from kleiber.runs import METRIC_KEYS, RunFolder
from kleiber.runs.files import storage_errors, write_text

__all__ = ["Journal"]


class Journal:
    """Appends to `metrics.jsonl` and a TensorBoard event file; a resumed run forgets lines after its step.

    Args:
        folder: The run.
        step: Steps done: what was logged after it is dropped, since it is done again.
    """

    def __init__(self, folder: RunFolder, step: int) -> None:
        self._path = folder.metrics_path
        kept = [line for line in folder.read_metrics() if line["step"] <= step]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        self._stream = self._path.open("a", encoding="utf-8")
        self._events = EventFileWriter(str(folder.path / "events"))
        # A session start tells TensorBoard to purge the events of steps that come again.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._events.add_event(event_pb2.Event(step=step + 1, session_log=start))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._events.close()

    def write(self, line: dict[str, Any]) -> None:
        """Append a line with the keys `METRIC_KEYS`."""
        if tuple(line) != METRIC_KEYS:
            raise ValueError(f"a line of metrics has the keys {METRIC_KEYS}, not {tuple(line)}")
        with storage_errors(self._path):
            self._stream.write(json.dumps(line) + "\n")
            self._stream.flush()
        values = [
            summary_pb2.Summary.Value(tag=key, simple_value=value)
            for key, value in line.items()
            if key not in {"step", "time_s"} and value is not None
        ]
        summary = summary_pb2.Summary(value=values)
        self._events.add_event(event_pb2.Event(step=line["step"], wall_time=line["time_s"], summary=summary))
