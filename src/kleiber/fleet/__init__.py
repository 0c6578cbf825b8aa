"""Where jobs run: today this machine's cores."""

from kleiber.fleet.job import Done, Executor, Job, JobEvent, Progressed
from kleiber.fleet.local import LocalExecutor

__all__ = ["Done", "Executor", "Job", "JobEvent", "LocalExecutor", "Progressed"]
