"""Where jobs run: this machine's cores, or a Ray cluster."""

from kleiber.fleet.job import Done, Executor, Job, JobEvent, Progressed
from kleiber.fleet.local import LocalExecutor
from kleiber.fleet.ray import RayExecutor

__all__ = ["Done", "Executor", "Job", "JobEvent", "LocalExecutor", "Progressed", "RayExecutor"]
