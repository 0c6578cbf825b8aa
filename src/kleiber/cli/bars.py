"""Progress bars of runs: one run, or several side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kleiber.units import format_count, format_loss

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from kleiber.fleet import JobEvent
    from kleiber.train import Progress

__all__ = ["RunBars"]


@dataclass
class RunBars:
    """Shows each run as a line of a progress bar, as long as it trains."""

    bar: Bar
    _tasks: dict[str, TaskID] = field(default_factory=dict)

    def show(self, progress: Progress) -> None:
        """Move the bar of the run that reports."""
        if progress.run not in self._tasks:
            self._tasks[progress.run] = self.bar.add_task(progress.run, total=progress.num_steps, note="")
        task = self._tasks[progress.run]
        note = f"loss {format_loss(progress.loss)}, {format_count(progress.tokens_per_s)} {progress.unit}s/s"
        self.bar.update(task, completed=progress.step, note=note)
        if progress.step >= progress.num_steps:
            self.bar.remove_task(self._tasks.pop(progress.run))

    def on_event(self, event: JobEvent) -> None:
        """Follow the runs of an executor."""
        from kleiber.fleet import Progressed

        if isinstance(event, Progressed):
            self.show(event.value)
