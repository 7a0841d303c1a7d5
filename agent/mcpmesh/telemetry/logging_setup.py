"""The agent's log: one sentence a line on stderr, with its time, and no content of calls."""

from __future__ import annotations

import logging
import time

# These libraries log each of our requests at INFO.
_VERBOSE_LIBRARIES = ("httpx", "httpcore", "apscheduler", "watchfiles", "asyncio")


def log_to_stderr(level: str) -> None:
    """Sends the log of this process to stderr, from `level` up: "debug", "info", "warning" or "error"."""
    handler = logging.StreamHandler()
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for name in _VERBOSE_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
