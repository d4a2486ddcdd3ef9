"""How much memory this process may still take, by all the limits that it is under."""

import contextlib
from pathlib import Path

import psutil
import torch

with contextlib.suppress(ImportError):  # Windows has no such limits
    import resource

# The files of a container's limit and use, of cgroups version 2 and version 1, and the
# line of the last file that counts the cache of files, which is freed when needed.
CGROUPS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)
ROOT = Path("/sys/fs/cgroup")


def fits_on(device, size: int) -> bool:
    """Whether data of `size` bytes may be moved to a device as a whole.

    On a GPU it may take a quarter of what is free, since most is needed to train.
    """
    if torch.device(device).type != "cuda":
        return True
    return size <= torch.cuda.mem_get_info(device)[0] // 4


def free_memory() -> int:
    """Bytes that are free: on the machine, in its container, and under `ulimit -d`."""
    free = [psutil.virtual_memory().available]
    for *names, counts, cached in CGROUPS:
        # A file is absent, or holds the word max where there is no limit.
        with contextlib.suppress(OSError, ValueError, KeyError):
            limit, used = (int((ROOT / name).read_text()) for name in names)
            lines = (ROOT / counts).read_text().splitlines()
            free.append(limit - used + int(dict(map(str.split, lines))[cached]))
    if hasattr(psutil.Process, "rlimit"):
        limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
        if limit != resource.RLIM_INFINITY:
            free.append(limit - psutil.Process().memory_info().data)
    return max(0, min(free))
