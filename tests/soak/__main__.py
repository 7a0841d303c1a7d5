"""`python -m tests.soak [--short] [sessions|isolation]...`: the soak tests; exits with 1 when a bound is broken."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.soak import isolation, sessions
from tests.soak.namespace import NotAllowed, let_vanish
from tests.soak.report import Report
from tests.soak.server import built

SOAKS: dict[str, Callable[[str, bool], Report]] = {
    "sessions": lambda server, short: sessions.soak(server, sessions.SHORT if short else sessions.FULL),
    "isolation": lambda server, short: isolation.soak(server, isolation.SHORT if short else isolation.FULL),
}


def main(words: list[str]) -> int:
    """The exit code."""
    broken: list[str] = []
    short = "--short" in words
    names = [word for word in words if word != "--short"] or list(SOAKS)
    if "sessions" in names:
        try:
            let_vanish()
        except NotAllowed as error:
            print(f"soak: {error}", file=sys.stderr)
            return 2
    with built() as server:
        for name in names:
            print(f"soak: {name}", flush=True)
            broken += SOAKS[name](server, short).broken
    print(f"soak: broken: {', '.join(broken)}" if broken else "soak: every bound holds", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
