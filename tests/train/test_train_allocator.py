import subprocess
import sys

import pytest

_CODE = """
import resource, sys
from kleiber.train.allocator import keep_freed_memory
if sys.argv[1] == "pinned" and not keep_freed_memory():
    sys.exit("no mallopt")
import numpy as np
for _ in range(200):  # 2 MB blocks: above glibc's first threshold, below the pinned one
    np.ones(2**18)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    np.ones((3, 2**18 // 2)), np.ones(2**18)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_kept():
    def faults(mode):
        done = subprocess.run([sys.executable, "-c", _CODE, mode], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("pinned") < 0.5 * faults("default")


_RETURNING = """
import re, sys
from kleiber.train.allocator import return_freed_memory
if sys.argv[1] == "pinned" and not return_freed_memory():
    sys.exit("no mallopt")
import numpy as np
def held_bytes():
    return 1024 * int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = held_bytes()
large = [np.ones(6_000) for _ in range(2_000)]  # 48 KB each, 96 MB together
small = [bytes(3_000) for _ in range(2_000)]    # on top of them: they pin the heap
del large
print(held_bytes() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_goes_back():
    def held_bytes(mode):
        done = subprocess.run(
            [sys.executable, "-c", _RETURNING, mode], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert held_bytes("pinned") < 15e6
    assert held_bytes("default") > 60e6
