"""The board, drawn again in its place whenever it changes; where there is no terminal, printed again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from mcpmesh.cli.render.output import Output, harmless
from mcpmesh.cli.render.status_table import board

if TYPE_CHECKING:
    from rich.text import Text

    from mcpmesh.model.mesh_status import MeshStatus


class Picture:
    """`with` it; the last board stays when it ends."""

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

    def show(self, seen: MeshStatus) -> None:
        """Draws `seen`."""
        if self._output.json:
            self._output.item(seen)
        elif self._live is not None:
            self._live.update(_text(seen, self._output.width), refresh=True)
        else:
            for line in board(seen, None):
                self._output.line(*line)


def _text(seen: MeshStatus, width: int | None) -> Text:
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ellipsis")
    for line in board(seen, width):
        for words, style in line:
            text.append(harmless(words), style)
        text.append("\n")
    text.rstrip()
    return text
