"""What happens while a mesh comes up, stays or goes: a moving picture on a terminal, else lines."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from mcpmesh.cli.render.output import Output, harmless
from mcpmesh.model.mesh_status import MeshStatus, State
from mcpmesh.model.report_items import Event, Level

if TYPE_CHECKING:
    from rich.console import Group

_MARKS = {
    State.READY: ("✓", "green"),
    State.DEGRADED: ("!", "yellow"),
    State.FAILED: ("✗", "bold red"),
    State.DRAINING: ("-", "dim"),
    State.UNKNOWN: ("?", "yellow"),
}


class Progress:
    """Takes events and boards, and shows them on stderr; with --json, events are lines on stdout.

    While it is `moving`, a terminal shows what is under way in its last
    lines, down to single deeds; `settle` ends that. Progress is shown only
    until then, changes and troubles always, single deeds nowhere else.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._live: Any = None
        self._title = ""
        self._latest = ""
        self._doing: dict[str, str] = {}
        self._board: MeshStatus | None = None
        self._started = time.monotonic()

    def moving(self, sentence: str) -> None:
        """Something long begins."""
        self._title, self._latest = sentence, ""
        self._board = None
        self._started = time.monotonic()
        if self._output.json:
            return
        if not sys.stderr.isatty() or self._output.err.is_dumb_terminal:
            self._output.note(sentence)
        elif self._live is None:
            from rich.live import Live

            self._live = Live(
                console=self._output.err,
                transient=True,
                refresh_per_second=8,
                get_renderable=self._picture,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def settle(self) -> None:
        """It is over: the picture vanishes, what was said stays."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def event(self, event: Event, quiet: bool = False) -> None:
        """Something happened; `quiet` leaves progress out."""
        if self._output.json:
            self._output.item({"event": event})
            return
        sentence = event.sentence
        if event.service:
            sentence = f"{event.service}: {sentence.removeprefix(f'{event.service}: ')}"
            self._doing[event.service] = event.sentence
        self._latest = sentence
        if event.level is Level.DETAIL or (event.level is Level.PROGRESS and (quiet or self._live is not None)):
            return
        mark = ("! ", "bold yellow") if event.level is Level.TROUBLE else ""
        self._output.note(mark, sentence)

    def say(self, sentence: str) -> None:
        """A sentence that is no event of the agent's."""
        if not self._output.json:
            self._output.note(sentence)

    def board(self, status: MeshStatus) -> None:
        """How far it has come."""
        self._board = status

    def waiting_for(self) -> str:
        """The last thing that was begun."""
        return self._latest or self._title

    def _picture(self) -> Group:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        seconds = int(time.monotonic() - self._started)
        lines: list[Any] = []
        for service in self._board.services if self._board else ():
            if service.state is State.READY:
                continue
            mark, style = _MARKS.get(service.state, ("·", "cyan"))
            doing = self._doing.get(service.name, "") if service.state is State.STARTING else service.detail
            doing = doing.removeprefix(f"{service.state}, ")
            text = Text.assemble((f"{mark} ", style), (service.name, "bold"), no_wrap=True, overflow="ellipsis")
            text.append(f"  {service.state}" + (f": {harmless(doing).partition(chr(10))[0]}" if doing else ""), "dim")
            lines.append(text)
        if self._board is not None and self._board.services:
            ready = sum(service.state is State.READY for service in self._board.services)
            lines.append(Text(f"{ready} of {len(self._board.services)} services ready", "dim"))
        sentence = Text(f"{self._title} ({seconds} s)", no_wrap=True, overflow="ellipsis")
        if self._latest:
            sentence.append(f": {harmless(self._latest).partition(chr(10))[0]}", "dim")
        # Made anew each time, a spinner has to be told how long it turns.
        spinner = Spinner("dots", sentence)
        spinner.start_time = 0.0
        return Group(*lines, spinner)
