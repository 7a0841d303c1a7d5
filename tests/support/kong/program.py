"""The stand-in as a program named `kong`: `start`, `prepare`, `health` and `version`, as Kong 3.9 has them.

Settings are KONG_* variables. `kong start` prepares a prefix and runs an nginx
of a master and a worker there. Their environment is wiped as nginx wipes its
own, a worker outlives a master that was killed, a master starts a dead worker
anew, TERM ends at once and QUIT after the calls under way. It daemonises unless
KONG_NGINX_DAEMON is off. In an image (image/) the entrypoint calls `prepare` and
runs nginx itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# The version that it reports everywhere.
VERSION = "3.9.1-stand-in"
PREFIX = "/usr/local/kong"


def main() -> int:
    """The command line; an exit code."""
    command, *words = sys.argv[1:] or [""]
    if command == "version":
        print(VERSION)
        return 0
    if command == "nginx":
        return master(Path(words[words.index("-p") + 1]))
    commands = {"start": start, "prepare": prepare, "health": health}
    if command not in commands or words[:-1] not in ([], ["--prefix"], ["-p"]):
        return _error(f"the stand-in knows no such command: {' '.join(sys.argv[1:])}")
    return commands[command](Path(words[-1] if words else os.environ.get("KONG_PREFIX", PREFIX)))


def start(prefix: Path) -> int:
    """`kong start`: prepares the prefix, and runs nginx."""
    pid_file = _pid_file(prefix)
    if _runs(pid_file):
        return _error(f"Kong is already running in {prefix}")
    if failed := prepare(prefix):
        return failed
    daemon = os.environ.get("KONG_NGINX_DAEMON", "on") == "on"
    argv = [sys.executable, str(Path(__file__).resolve()), "nginx", "-p", str(prefix), "-c", "nginx.conf"]
    nginx = subprocess.Popen(argv, env={}, start_new_session=daemon)
    if not daemon:
        code = nginx.wait()
        return _error(f"failed to start nginx (exit code: {code})") if code > 0 else 0
    end = time.monotonic() + 20
    while not pid_file.exists() and nginx.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    print("Kong started")
    return 0


def prepare(prefix: Path) -> int:
    """`kong prepare`: checks the settings and the declared document and writes them into the prefix."""
    if os.environ.get("KONG_DATABASE") != "off":
        return _error("the stand-in has no database: KONG_DATABASE has to be off")
    try:
        for folder in ("pids", "logs"):
            (prefix / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return _error(f"could not prepare Kong prefix at {prefix}: {error}")
    kept = prefix / "dbless.json"
    if declared := os.environ.get("KONG_DECLARATIVE_CONFIG"):
        from tests.support.kong.state import Refusal, State

        kept.unlink(missing_ok=True)
        try:
            State(kept).load_text(Path(declared).read_text())
        except Refusal as refusal:
            return _error(f"error parsing declarative config file {declared}:\n{refusal}")
    settings = {key: value for key, value in os.environ.items() if key.startswith("KONG_")}
    (prefix / ".kong_env").write_text(json.dumps(settings))
    return 0


def health(prefix: Path) -> int:
    """`kong health`: whether the nginx of this prefix runs."""
    if not _runs(_pid_file(prefix)):
        return _error(f"Kong is not running at {prefix}")
    print(f"nginx.......running\n\nKong is healthy at {prefix}")
    return 0


def master(prefix: Path) -> int:
    """The master: listens, keeps one worker, and passes signals on to it."""
    settings = json.loads((prefix / ".kong_env").read_text())
    try:
        sockets = {name: _listen(settings[name]) for name in ("KONG_PROXY_LISTEN", "KONG_ADMIN_LISTEN")}
    except OSError as error:
        print(f"nginx: [emerg] bind() failed ({error.errno}: {error.strerror})", file=sys.stderr)
        return 1
    _pid_file(prefix).write_text(f"{os.getpid()}\n")
    leaving: list[int] = []
    worker = 0

    def leave(number: int, _: object) -> None:
        leaving.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, leave)
    while not leaving:
        worker = os.fork()
        if worker == 0:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            work(prefix, sockets["KONG_PROXY_LISTEN"], sockets["KONG_ADMIN_LISTEN"])
        _, status = os.waitpid(worker, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            return os.WEXITSTATUS(status)
    _pid_file(prefix).unlink(missing_ok=True)
    return 0


def work(prefix: Path, proxy_socket: socket.socket, admin_socket: socket.socket) -> None:
    """The worker; never returns."""
    import uvicorn
    from tests.support.kong.admin import admin
    from tests.support.kong.proxy import Proxy
    from tests.support.kong.state import State

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            yield

    def server(app: object) -> Server:
        return Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))  # type: ignore[arg-type]

    async def serve() -> None:
        state = State(prefix / "dbless.json")
        servers = server(Proxy(state)), server(admin(state))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, os._exit, 0)

        def quit_gracefully() -> None:
            for each in servers:
                each.should_exit = True

        loop.add_signal_handler(signal.SIGQUIT, quit_gracefully)
        await asyncio.gather(servers[0].serve([proxy_socket]), servers[1].serve([admin_socket]))

    code = 1
    try:
        asyncio.run(serve())
        code = 0
    finally:
        os._exit(code)


def _listen(setting: str) -> socket.socket:
    host, _, port = setting.split()[0].rpartition(":")
    sock = socket.socket(socket.AF_INET6 if "[" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host.strip("[]"), int(port)))
    sock.listen(512)
    return sock


def _pid_file(prefix: Path) -> Path:
    return prefix / "pids" / "nginx.pid"


def _runs(pid_file: Path) -> bool:
    try:
        os.kill(int(pid_file.read_text()), 0)
    except (OSError, ValueError):
        return False
    return True


def _error(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
