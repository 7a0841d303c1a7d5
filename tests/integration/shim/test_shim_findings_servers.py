"""Servers that go wrong in ways of their own, and a shim that stays."""

from __future__ import annotations

import sys

from shim_running import running, until

# Answers its first line with a number that JSON allows and no program can hold.
HUGE_NUMBER = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    if asked["method"] == "initialize":
        said = '"result":{"protocolVersion":"2025-11-25","capabilities":{},"x":1e999}'
    else:
        said = '"error":{"code":-32601,"message":"unknown"}'
    print('{"jsonrpc":"2.0","id":%s,%s}' % (json.dumps(asked["id"]), said), flush=True)
"""


def test_an_unreadable_answer_to_initialize_is_a_failed_start_and_not_the_shims_end():
    with running(command=sys.executable, args=["-c", HUGE_NUMBER], limits={"backoff_seconds": 0.05}) as shim:
        until(lambda: shim.state()["state"] == "crash-loop")
        assert "answered initialize with what can't be read" in shim.state()["error"]
        assert shim.stop() == 0
