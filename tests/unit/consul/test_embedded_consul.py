"""The embedded Consul, with a small program in place of Consul's; the real one is in tests/integration/consul."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcpmesh.consul.embedded_consul import PORTS, EmbeddedConsul
from mcpmesh.errors import WorkloadError
from mcpmesh.kit.packaged_files import resource_path
from mcpmesh.kit.ports import PortAllocator

# Answers what a start asks of Consul: a leader, a trust domain, and one intention to write.
_PROGRAM = """#!{python} -SE
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
folder = os.path.dirname(os.path.realpath(sys.argv[0]))
machine = json.load(open(sys.argv[-1]))
open(folder + "/calls", "a").write(json.dumps(sys.argv[1:]) + "\\n")
print("on stdout", flush=True)
{first}
class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        answers = {{"/v1/status/leader": "127.0.0.1:1", "/v1/agent/connect/ca/roots": {{"TrustDomain": "t.consul"}}}}
        self.answer(answers[self.path.partition("?")[0]])
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        open(folder + "/intentions", "a").write(body + "\\n")
        self.answer({{"ID": "1"}})
    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
HTTPServer(("127.0.0.1", machine["ports"]["http"]), Answers).serve_forever()
"""


class Home:
    """The home of one mesh, and the program that runs as its Consul."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.ports = {name: PortAllocator(17100).take() for name in PORTS}
        self.progress: list[str] = []
        self.bin.mkdir()
        self.runs("")

    def runs(self, first: str) -> None:
        """Makes the program do `first` before it listens."""
        program = self.bin / "consul"
        program.write_text(_PROGRAM.format(python=sys.executable, first=first))
        program.chmod(0o755)

    def consul(self, **ports: int) -> EmbeddedConsul:
        return EmbeddedConsul(self.bin / "consul", "m", self.home, {**self.ports, **ports})

    async def start(self, seconds: float = 60.0, **ports: int) -> int:
        return await self.consul(**ports).start(self.progress.append, seconds)

    def lines(self, name: str) -> list[Any]:
        path = self.bin / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def machine(self) -> Any:
        return json.loads((self.home / "consul" / "machine.json").read_text())


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    made = Home(tmp_path)
    yield made
    await made.consul().stop(1.0)


async def test_it_is_started_with_our_configuration_and_that_of_the_machine(home: Home) -> None:
    pid = await home.start()
    running = home.consul().running()
    assert running and running.pid == pid
    assert (running.mark.mesh, running.mark.role, running.mark.instance) == ("m", "consul", "consul")
    assert running.mark.ports == home.ports
    folder = home.home / "consul"
    configurations = ["-config-file", str(folder / "server.hcl"), "-config-file", str(folder / "machine.json")]
    assert home.lines("calls") == [["agent", *configurations]]
    assert (folder / "server.hcl").read_text() == resource_path("consul/server.hcl").read_text()
    assert home.machine() == {
        "node_name": "mcpmesh-m",
        "data_dir": str(folder / "data"),
        "log_file": str(home.home / "logs" / "consul.log"),
        "log_rotate_bytes": 5 * 1024 * 1024,
        "log_rotate_max_files": 4,
        "ports": {**home.ports, "dns": -1, "https": -1, "grpc_tls": -1, "serf_wan": -1},
    }
    assert home.consul().address == f"http://127.0.0.1:{home.ports['http']}"
    assert home.consul().grpc_address == f"127.0.0.1:{home.ports['grpc']}"
    assert (home.home / "logs" / "consul.err.log").read_text() == ""


async def test_calls_are_denied_by_default_but_that_is_written_only_once(home: Home) -> None:
    await home.start()
    await home.consul().stop()
    await home.start()
    assert [(item["SourceName"], item["Action"]) for item in home.lines("intentions")] == [("*", "deny")]


async def test_a_running_one_is_adopted(home: Home) -> None:
    first = await home.start()
    assert await home.start() == first
    assert home.progress == [f"Consul runs already (pid {first}); adopting it"]
    assert len(home.lines("calls")) == 1


async def test_one_with_another_configuration_is_replaced(home: Home) -> None:
    first = await home.start()
    second = await home.start(grpc=PortAllocator(17200).take())
    assert second != first and len(home.lines("calls")) == 2
    assert home.progress == ["Consul runs with another configuration; starting it again"]


async def test_one_that_ends_at_once_is_an_error_with_its_output(home: Home) -> None:
    home.runs('sys.exit("\\n".join(f"line {number}" for number in range(9)))')
    with pytest.raises(WorkloadError) as caught:
        await home.start()
    assert str(caught.value) == "cannot start Consul: it ended at once; the end of its log:\n" + "\n".join(
        f"  line {number}" for number in range(1, 9)
    )


async def test_one_that_is_not_ready_in_time_is_stopped(home: Home) -> None:
    home.runs("import time; time.sleep(600)")
    with pytest.raises(WorkloadError, match=r"not elected itself in 0 s \(MCPMESH_CONSUL__START_SECONDS\)") as caught:
        await home.start(seconds=0.3)
    assert str(caught.value).endswith(f"the end of its log:\n  (none; see {home.home / 'logs'})")
    assert home.consul().running() is None


async def test_the_log_comes_before_the_errors_and_both_are_cut_to_their_last_lines(home: Home) -> None:
    home.runs('open(machine["log_file"], "w").write("elected\\n"); sys.exit("crash")')
    with pytest.raises(WorkloadError, match=r"its log:\n  elected\n  crash$"):
        await home.start()


async def test_a_killed_one_is_started_again(home: Home) -> None:
    first = await home.start()
    os.kill(first, signal.SIGKILL)
    assert await home.start() != first


async def test_stopping_one_that_does_not_run_does_nothing(home: Home) -> None:
    await home.consul().stop()
