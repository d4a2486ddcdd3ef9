"""How much memory this process may still take, by all the limits that it is under."""

import contextlib
from pathlib import Path

import psutil

with contextlib.suppress(ImportError):  # Windows has no such limits
    import resource

# The files of a container's limit and use, of cgroups version 2 and version 1.
CGROUPS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
ROOT = Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Bytes that are free: on the machine, in its container, and under `ulimit -d`."""
    free = [psutil.virtual_memory().available]
    for names in CGROUPS:
        # A file is absent, or holds the word max where there is no limit.
        with contextlib.suppress(OSError, ValueError):
            limit, used = (int((ROOT / name).read_text()) for name in names)
            free.append(limit - used)
    if hasattr(psutil.Process, "rlimit"):
        limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
        if limit != resource.RLIM_INFINITY:
            free.append(limit - psutil.Process().memory_info().data)
    return max(0, min(free))
