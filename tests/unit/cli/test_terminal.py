"""On a terminal of 80 columns no line wraps, no text of a server acts on it, and NO_COLOR is obeyed."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import struct
import termios
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.unit.api.fake_operations import FILES, POSTGRES, STATUS
from tests.unit.cli.conftest import EAGER, FAST, SECONDS, Agent, Mesh

from mcpmesh.cli.clock import Clock
from mcpmesh.model.agent_reports import Claim, Level, Tool
from mcpmesh.model.mesh_status import State

LONG = replace(
    FILES, name="sequentialthinking", address="http://127.0.0.1:8000/mcp/sequentialthinking", wanted=12, ready=12
)
WORDY = replace(POSTGRES, detail="cannot start it: " + "a reason that needs more than a line " * 5)
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m \u202etxt"
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A pseudo-terminal of 80 by 24 with one command on it."""

    def __init__(self, mesh: Mesh, *arguments: str, clock: Clock = EAGER, **environment: str) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {"TERM": "xterm-256color", "COLUMNS": "", "LINES": "", "NO_COLOR": "", **environment}
        self.process = mesh.start(*arguments, stdin=slave, stdout=slave, stderr=slave, clock=clock, **environment)
        os.close(slave)
        self.text = ""

    def read(self, enough: Callable[[str], bool] = lambda _: False) -> str:
        """All output so far, once it is enough or the command has ended."""
        while not enough(self.text):
            try:
                data = os.read(self._master, 65536)
            except OSError as error:
                assert error.errno == errno.EIO
                break
            if not data:
                break
            self.text += data.decode(errors="replace")
        return self.text

    def hang_up(self) -> None:
        """Closes the terminal."""
        os.close(self._master)

    def close(self) -> int:
        """The exit code."""
        self.read()
        os.close(self._master)
        return self.process.wait(SECONDS)


def shown(text: str) -> list[str]:
    """The lines without colours."""
    return [SEQUENCE.sub("", line).rstrip("\r") for line in text.split("\n")]


@pytest.mark.parametrize("command", [["status"], ["verify"], ["tools"], ["plan"], ["up", "--detach"]])
def test_nothing_is_wider_than_the_terminal(mesh: Mesh, agent: Agent, command: list[str]) -> None:
    agent.operations.mesh_status = replace(STATUS, services=(FILES, LONG, WORDY), sources=(str(mesh.catalog),))
    agent.operations.claims = [Claim("sequentialthinking", "claim " * 30, False, "evidence " * 40, "next " * 40)]
    agent.operations.offered = [Tool("files", "a_tool_with_quite_a_long_name_for_a_tool", "description " * 20)]
    terminal = Terminal(mesh, *command, clock=FAST)
    terminal.read()
    terminal.close()
    lines = [part for line in shown(terminal.text) for part in line.split("\r")]
    assert max(map(len, lines)) <= 80
    assert any(len(line) > 40 for line in lines) or command == ["plan"]


def test_control_sequences_of_servers_do_not_reach_the_terminal(mesh: Mesh, agent: Agent) -> None:
    agent.operations.log = [HOSTILE]
    agent.operations.offered = [Tool("files", f"t{HOSTILE}", HOSTILE)]
    agent.operations.claims = [Claim("files", HOSTILE, True, HOSTILE)]
    agent.operations.mesh_status = replace(STATUS, services=(replace(WORDY, detail=HOSTILE),), warnings=(HOSTILE,))
    agent.operations.messages = [
        {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": HOSTILE}},
        {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": HOSTILE}]}},
    ]
    for command in (["logs", "postgres"], ["tools"], ["verify"], ["status"], ["call", "postgres", "x"]):
        terminal = Terminal(mesh, *command, clock=FAST, NO_COLOR="1")
        text = terminal.read()
        terminal.close()
        assert "red txt" in text
        assert "\x1b]" not in text
        assert "\x1b[2J" not in text
        assert "\x1b[31m" not in text
        assert "\u202e" not in text


def test_a_pipe_gets_every_byte_of_a_log(mesh: Mesh, agent: Agent) -> None:
    agent.operations.log = [HOSTILE]
    with mesh.start("logs", "files") as reading:
        assert reading.stdout is not None
        assert reading.stdout.read() == HOSTILE + "\n"


def test_colours_are_for_terminals_that_show_them(mesh: Mesh, agent: Agent) -> None:
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        terminal = Terminal(mesh, "status", **environment)
        terminal.read()
        assert terminal.close() == 0
        assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", terminal.text)) == coloured
    with mesh.start("status") as piped:
        assert piped.stdout is not None
        assert "\x1b" not in piped.stdout.read()


def test_live_lines_show_the_current_steps_and_vanish_before_the_table(mesh: Mesh, agent: Agent) -> None:
    waiting = replace(FILES, state=State.STARTING, ready=0, instances=())
    agent.operations.mesh_status = replace(STATUS, services=(waiting,), sources=(str(mesh.catalog),))
    terminal = Terminal(mesh, "up")
    terminal.read(lambda text: "0 of 1 services ready" in text)
    agent.do(agent.operations.say("builds Consul, which takes some minutes", Level.PROGRESS, "consul"))
    agent.do(agent.operations.say("start files-1", Level.DETAIL, "files"))
    agent.do(agent.operations.say("exit code 1, next try in 2 s", Level.TROUBLE, "files"))
    terminal.read(lambda text: "! files: exit code 1" in SEQUENCE.sub("", text))
    agent.operations.mesh_status = replace(agent.operations.mesh_status, services=(FILES,))
    terminal.read(lambda text: "Ctrl-C takes it down" in text)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.close() == 0
    assert "\x1b[?25h" in terminal.text  # the cursor is back
    assert 'mesh "default" is down' in terminal.text
    # A live line that was drawn over begins with a carriage return.
    assert not any(line.startswith("start files-1") for line in shown(terminal.text))


def test_a_terminal_that_closes_takes_the_mesh_down(mesh: Mesh, agent: Agent) -> None:
    agent.operations.mesh_status = replace(STATUS, sources=(str(mesh.catalog),))
    terminal = Terminal(mesh, "up")
    terminal.read(lambda text: "Ctrl-C takes it down" in text)
    terminal.hang_up()
    terminal.process.send_signal(signal.SIGHUP)
    assert terminal.process.wait(SECONDS) == 0
    assert agent.operations.asked[-1] == ("down",)


def test_a_watched_status_is_drawn_in_its_place(mesh: Mesh, agent: Agent) -> None:
    terminal = Terminal(mesh, "status", "--watch")
    terminal.read(lambda text: "1 service is ready" in SEQUENCE.sub("", text))
    agent.operations.mesh_status = replace(STATUS, paused=True)
    agent.do(agent.operations.say("paused"))
    terminal.read(lambda text: "paused" in text)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.close() == 0
    assert "\x1b[1A" in terminal.text
