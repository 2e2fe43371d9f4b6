"""What the control groups of a container, a service or a job leave to its processes, of version 1 and 2: CPUs and bytes; and where they
are.

Whoever counts the CPUs or the memory of a machine sees all of them, whatever the limit: so many threads would take turns on a few CPUs.
"""

import math
from collections.abc import Iterator
from pathlib import Path

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# Bytes that no machine has.
NO_LIMIT = 2**62


def cpus(groups: Path = GROUPS, own: Path = OWN) -> float:
    """The CPUs' worth of time that these processes may take, such as 1.5; infinite where nothing limits them."""
    limits = [math.inf]
    for group in around("cpu", groups, own):
        told = _read(group / "cpu.max").split() or [_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")]
        if len(told) == 2 and all(part.isdigit() and int(part) for part in told):
            limits.append(int(told[0]) / int(told[1]))
    return min(limits)


def memory(groups: Path = GROUPS, own: Path = OWN) -> int:
    """The bytes that these processes may hold; NO_LIMIT where nothing limits them."""
    return min([NO_LIMIT, *(limit for limit, _ in _of_memory(groups, own))])


def room(groups: Path = GROUPS, own: Path = OWN) -> int:
    """The bytes that the limit still leaves; NO_LIMIT where there is none."""
    return min([NO_LIMIT, *(max(limit - used, 0) for limit, used in _of_memory(groups, own))])


def _of_memory(groups: Path, own: Path) -> Iterator[tuple[int, int]]:
    """The limit of each group that has one, and what is used of it and cannot be had back: less the pages of files that nobody uses, which
    the kernel gives up first (as Kubernetes counts a working set)."""
    for group in around("memory", groups, own):
        for *names, idle in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = (_read(group / name) for name in names)
            if limit.isdigit():
                files = next((line.split()[1] for line in _read(group / "memory.stat").splitlines() if line.startswith(f"{idle} ")), "0")
                yield int(limit), max(0, int(used) - int(files)) if used.isdigit() else 0


def around(controller: str, groups: Path = GROUPS, own: Path = OWN) -> list[Path]:
    """The folders of the groups that this process is in and of those around them, the innermost first, for `cpu` or `memory`.

    In a container the path that the kernel tells may be one of the host's, which is not there: its own group is the topmost that it sees.
    """
    found = []
    for line in _read(own).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers or controller in controllers.split(","):
            # Several controllers may share a hierarchy, such as `cpu,cpuacct`, with links to it by the name of each, or without.
            for top in [groups / controllers, groups / controller] if controllers else [groups]:
                place = top / path.lstrip("/")
                found += [place, *(parent for parent in place.parents if parent.is_relative_to(top))]
    return list(dict.fromkeys([*found, groups / controller, groups]))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
