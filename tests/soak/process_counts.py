"""The descriptors and the memory of a shim, counted through /proc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Count:
    """Counts of one process."""

    descriptors: int
    rss_kib: int
    anonymous_kib: int
    """Heap and stacks, without file-backed memory: a leak shows here, whatever other processes map."""

    def grown(self, since: Count) -> float:
        """The growth of memory since then in percent: of all resident or of anonymous memory, whichever is worse."""
        return max(self.rss_kib / since.rss_kib, self.anonymous_kib / since.anonymous_kib) * 100 - 100

    def __str__(self) -> str:
        rss, anonymous = self.rss_kib / 1024, self.anonymous_kib / 1024
        return f"{self.descriptors} descriptors, {rss:.1f} MiB RSS, {anonymous:.1f} MiB anonymous"


def count(pid: int) -> Count:
    """Count a process's descriptors and memory."""
    sizes = {"Rss": 0, "Anonymous": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, size = line.partition(":")
        if name in sizes:
            sizes[name] = int(size.split()[0])
    return Count(len(list(Path(f"/proc/{pid}/fd").iterdir())), sizes["Rss"], sizes["Anonymous"])
