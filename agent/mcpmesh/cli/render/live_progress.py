"""Progress of a mesh that starts, runs or stops: live lines on a terminal, else a line for each event."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from mcpmesh.cli.render.output import Output
from mcpmesh.cli.render.text import first_line
from mcpmesh.model.agent_reports import Event, Level
from mcpmesh.model.mesh_status import MeshStatus, ServiceStatus, State

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

_MARKS = {
    State.READY: ("✓", "green"),
    State.DEGRADED: ("!", "yellow"),
    State.FAILED: ("✗", "bold red"),
    State.DRAINING: ("-", "dim"),
    State.UNKNOWN: ("?", "yellow"),
}


class Progress:
    """Shows events on stderr; with --json, each event is a line on stdout.

    Between `start` and `stop` a terminal shows the current steps in live lines at the bottom. Events of level
    progress are printed only where there are no live lines, events of level detail never; changes and troubles always.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._live: Any = None
        self._title = ""
        self._last_event = ""
        self._event_of_service: dict[str, str] = {}
        self._status: MeshStatus | None = None
        self._started = time.monotonic()

    def start(self, sentence: str) -> None:
        """Something that takes time begins."""
        self._title, self._last_event = sentence, ""
        self._status = None
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
                get_renderable=self._render,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def stop(self) -> None:
        """Removes the live lines; printed lines stay."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show_event(self, event: Event, *, hide_progress: bool = False) -> None:
        """Shows an event; `hide_progress` leaves out those of level progress."""
        if self._output.json:
            self._output.item({"event": event})
            return
        sentence = event.sentence
        if event.service:
            sentence = f"{event.service}: {sentence.removeprefix(f'{event.service}: ')}"
            self._event_of_service[event.service] = event.sentence
        self._last_event = sentence
        hide_progress = hide_progress or self._live is not None
        if event.level is Level.DETAIL or (event.level is Level.PROGRESS and hide_progress):
            return
        mark = ("! ", "bold yellow") if event.level is Level.TROUBLE else ""
        self._output.note(mark, sentence)

    def say(self, sentence: str) -> None:
        """A line on stderr that is no event of the agent."""
        if not self._output.json:
            self._output.note(sentence)

    def show_status(self, status: MeshStatus) -> None:
        """Updates the services in the live lines."""
        self._status = status

    def current_step(self) -> str:
        """The last event, or what `start` began."""
        return self._last_event or self._title

    def _render(self) -> Group:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        services = self._status.services if self._status else ()
        lines: list[Any] = [self._service_line(service) for service in services if service.state is not State.READY]
        if services:
            ready = sum(service.state is State.READY for service in services)
            lines.append(Text(f"{ready} of {len(services)} services ready", "dim"))
        seconds = int(time.monotonic() - self._started)
        sentence = Text(f"{self._title} ({seconds} s)", no_wrap=True, overflow="ellipsis")
        if self._last_event:
            sentence.append(f": {first_line(self._last_event)}", "dim")
        # The spinner is made anew for each frame, and shows the frame of the time since `start_time`.
        spinner = Spinner("dots", sentence)
        spinner.start_time = 0.0
        return Group(*lines, spinner)

    def _service_line(self, service: ServiceStatus) -> Text:
        from rich.text import Text

        mark, style = _MARKS.get(service.state, ("·", "cyan"))
        starting = service.state is State.STARTING
        detail = self._event_of_service.get(service.name, "") if starting else service.detail
        detail = first_line(detail.removeprefix(f"{service.state}, "))
        text = Text.assemble((f"{mark} ", style), (service.name, "bold"), no_wrap=True, overflow="ellipsis")
        text.append(f"  {service.state}" + (f": {detail}" if detail else ""), "dim")
        return text
