"""Memory that volumes took goes back to the system, also after volumes of many sizes.

In a process of its own, whose allocator nothing has touched.
"""

import platform
import subprocess
import sys

import pytest

VOLUMES = """
import sys
import numpy as np
from slem_app.serving.allocator import keep_little

def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 >> 20

if sys.argv[1] == "little":
    assert keep_little()
np.ones(30 * 2**20, np.uint8)  # freed at once: from now on glibc would keep blocks of this size
before, small = resident(), []
for size in range(8, 24, 2):
    volumes = [np.ones(size * 2**20, np.uint8) for _ in range(4)]
    small.append(np.ones(2**16, np.uint8))  # what is kept of each, behind them in the heap
    del volumes
print(resident() - before)
"""


def rise(how: str) -> int:
    """MiB by which a process has grown after volumes that are there no more."""
    words = [sys.executable, "-c", VOLUMES, how]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_volumes_that_are_gone_take_no_memory() -> None:
    assert rise("little") < 8
    assert rise("as it is") > 16  # or else there is nothing to mend, and the module can go
