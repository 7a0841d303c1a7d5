"""`python -m tests.soak [sessions|isolation]...`: the full soaks; ends with 1 where a bound is broken."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.soak import isolation, sessions
from tests.soak.report import Report
from tests.soak.server import built

SOAKS: dict[str, Callable[[str], Report]] = {
    "sessions": lambda server: sessions.soak(server, sessions.FULL),
    "isolation": lambda server: isolation.soak(server, isolation.FULL),
}


def main(words: list[str]) -> int:
    """The exit code."""
    broken: list[str] = []
    with built() as server:
        for word in words or SOAKS:
            print(f"soak: {word}", flush=True)
            broken += SOAKS[word](server).broken
    print(f"soak: broken: {', '.join(broken)}" if broken else "soak: every bound holds", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
