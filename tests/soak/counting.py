"""What a shim has, counted through /proc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Count:
    """Of one process."""

    descriptors: int
    rss_kib: int
    pss_kib: int

    def grown(self, since: Count) -> float:
        """How much more memory than then, in percent: the worse of resident and proportional."""
        return max(self.rss_kib / since.rss_kib, self.pss_kib / since.pss_kib) * 100 - 100

    def __str__(self) -> str:
        return f"{self.descriptors} descriptors, {self.rss_kib / 1024:.1f} MiB RSS, {self.pss_kib / 1024:.1f} MiB PSS"


def count(pid: int) -> Count:
    """Its descriptors and its memory now."""
    sizes = {"Rss": 0, "Pss": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, size = line.partition(":")
        if name in sizes:
            sizes[name] = int(size.split()[0])
    return Count(len(list(Path(f"/proc/{pid}/fd").iterdir())), sizes["Rss"], sizes["Pss"])
