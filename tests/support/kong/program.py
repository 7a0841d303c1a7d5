"""The stand-in as a program named `kong`: `kong start --prefix FOLDER`, settings in KONG_* variables, as Kong 3.9.

`kong start` runs an nginx of a master and a worker. Their environment is wiped
as nginx wipes its own, a worker outlives a master that was killed, a master
starts a dead worker anew, TERM ends at once and QUIT after the calls under way.
It daemonises unless KONG_NGINX_DAEMON is off.
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


def main() -> int:
    """The command line; an exit code."""
    words = sys.argv[1:]
    if words[:1] == ["version"]:
        print("3.9.1")
        return 0
    if words[:1] == ["nginx"]:
        return master(Path(words[2]))
    if words[:2] != ["start", "--prefix"] or len(words) != 3:
        print(f"Error: the stand-in knows no such command: {' '.join(words)}", file=sys.stderr)
        return 1
    return start(Path(words[2]))


def start(prefix: Path) -> int:
    """`kong start`: checks, prepares the prefix, and runs nginx."""
    if os.environ.get("KONG_DATABASE") != "off":
        return _error("the stand-in has no database: KONG_DATABASE has to be off")
    pid_file = prefix / "pids" / "nginx.pid"
    if pid_file.exists() and _alive(int(pid_file.read_text())):
        return _error(f"Kong is already running in {prefix}")
    for folder in ("pids", "logs"):
        (prefix / folder).mkdir(parents=True, exist_ok=True)
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


def master(prefix: Path) -> int:
    """The master: listens, keeps one worker, and passes signals on to it."""
    settings = json.loads((prefix / ".kong_env").read_text())
    try:
        sockets = {name: _listen(settings[name]) for name in ("KONG_PROXY_LISTEN", "KONG_ADMIN_LISTEN")}
    except OSError as error:
        print(f"nginx: [emerg] bind() failed ({error.errno}: {error.strerror})", file=sys.stderr)
        return 1
    (prefix / "pids" / "nginx.pid").write_text(f"{os.getpid()}\n")
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
    (prefix / "pids" / "nginx.pid").unlink(missing_ok=True)
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


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _error(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
