"""A process that has imported mcpmesh once and forks a copy of itself for each command of a test.

A command starts in milliseconds then, in a process of its own, with real signals, pipes and terminals.
Started with the path of a Unix socket; it ends when its stdin is closed.

For each command a client sends a request (JSON, with the command's stdin, stdout and stderr), and receives two
lines: the process id, then the exit code.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import Any

REQUEST_BYTES = 1 << 20


def serve(path: str) -> None:
    """Forks a waiting process for each connection, which forks the command."""
    import_everything()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            readable, _, _ = select.select([listener, 0], [], [])
            if 0 in readable:
                return
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                wait_for_command(connection)
            connection.close()


def wait_for_command(connection: socket.socket) -> None:
    """Starts the requested command and reports its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, handles, _, _ = socket.recv_fds(connection, REQUEST_BYTES, 3)
    pid = os.fork()
    if pid == 0:
        connection.close()
        run(json.loads(data), handles)
    for handle in handles:
        os.close(handle)
    connection.send(str(pid).encode())
    connection.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
    os._exit(0)


def run(request: dict[str, Any], handles: list[int]) -> None:
    """Becomes the command."""
    for number, handle in enumerate(handles):
        os.dup2(handle, number)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["mcpmesh", *request["arguments"]]
    sys.stdin = os.fdopen(0)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, errors="replace") for number in (1, 2))
    from mcpmesh.cli.app import app
    from mcpmesh.cli.clock import Clock
    from mcpmesh.cli.invocation import Common

    code: Any = 0
    try:
        app(prog_name="mcpmesh", obj=Common(clock=Clock(**request["clock"])))
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        os._exit(code if isinstance(code, int) else 0)


def import_everything() -> None:
    """What the commands import when they need it."""
    import asyncio
    import shutil

    import httpx
    import rich.live
    import rich.spinner
    import rich.text
    import yaml

    import mcpmesh.catalog.loader
    import mcpmesh.cli.app
    import mcpmesh.cli.foreground
    import mcpmesh.cli.wait.status_watch

    del asyncio, shutil, httpx, rich, yaml, mcpmesh


if __name__ == "__main__":
    serve(sys.argv[1])
