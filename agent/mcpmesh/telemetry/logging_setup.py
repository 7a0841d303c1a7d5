"""The agent's log: one sentence a line on stderr, with its time; nothing of a call's content."""

from __future__ import annotations

import logging
import time

# They tell every request of ours at INFO.
_CHATTY = ("httpx", "httpcore", "apscheduler", "watchfiles", "asyncio")


def to_stderr(level: str) -> None:
    """Sends the log of this process to stderr from `level` ("debug", "info", "warning", "error") on."""
    handler = logging.StreamHandler()
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
