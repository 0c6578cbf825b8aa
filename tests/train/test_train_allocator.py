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
