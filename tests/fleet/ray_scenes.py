"""What a Ray cluster of this machine makes of jobs, as JSON: a process of its own, for Ray leaves much behind in one."""

import functools
import json
import os
import signal
import sys
from pathlib import Path

from fleet_jobs import crash, die, fail, square

from kleiber.errors import KleiberError
from kleiber.fleet import Done, Job, RayExecutor
from kleiber.fleet import ray as fleet_ray


def once(mark, report):
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "went on"


def lose_inbox(folder, report):
    """Kill the actor that takes reports, as if its machine went away."""
    report("before")
    titles = {int(path.parent.name): path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")}
    inboxes = [pid for pid, title in titles.items() if title.startswith(b"ray::_Inbox")]
    assert inboxes
    for pid in inboxes:
        os.kill(pid, signal.SIGKILL)
    report("after")
    return folder


def told(jobs):
    """Return the events and the error of jobs."""
    events = []
    try:
        for event in RayExecutor(2).run(jobs):
            kind = "done" if isinstance(event, Done) else "progress"
            events.append((kind, event.job, event.result if kind == "done" else event.value))
    except KleiberError as error:
        return events, [type(error).__name__, str(error)]
    return events, None


def main(folder):
    import ray  # noqa: PLC0415 - the file is looked at where there is none

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}},
    )
    found = {
        "squares": told([Job(f"j{i}", functools.partial(square, i)) for i in range(4)]),
        "error": told([Job("bad", fail), Job("good", functools.partial(square, 2))]),
        "crash": told([Job("job", crash)]),
        "once": told([Job("job", functools.partial(once, Path(folder) / "mark"))]),
        "lost_inbox": told([Job("job", functools.partial(lose_inbox, folder))]),
        "is_left": ray.is_initialized(),
    }
    fleet_ray._NUM_RETRIES = 0
    found["death"] = told([Job("job", die)])
    found["pid"] = os.getpid()
    ray.shutdown()
    Path(folder, "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
