"""The status drawn in its place whenever it changes; printed again where stdout is no terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from mcpmesh.cli.render.output import Output
from mcpmesh.cli.render.status_table import status_lines
from mcpmesh.cli.render.text import strip_control_sequences

if TYPE_CHECKING:
    from rich.text import Text

    from mcpmesh.model.mesh_status import MeshStatus


class LiveStatus:
    """Draws inside `with`; the last status stays on the terminal."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._live: Any = None

    def __enter__(self) -> Self:
        if not self._output.json and self._output.width is not None and not self._output.out.is_dumb_terminal:
            from rich.live import Live

            self._live = Live(console=self._output.out, auto_refresh=False, vertical_overflow="crop")
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, status: MeshStatus) -> None:
        """Shows `status` in place of the one before; with --json as a line."""
        if self._output.json:
            self._output.item(status)
        elif self._live is not None:
            self._live.update(_text(status, self._output.width), refresh=True)
        else:
            for line in status_lines(status, None):
                self._output.line(*line)


def _text(status: MeshStatus, width: int | None) -> Text:
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ellipsis")
    for line in status_lines(status, width):
        for words, style in line:
            text.append(strip_control_sequences(words), style)
        text.append("\n")
    text.rstrip()
    return text
