"""The table of docs/servers.md, and what stands in a line of it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.integration.twenty.servers import ROOT, SERVERS

PAGE = ROOT / "docs/servers.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


@dataclass
class Row:
    """One service as it was found."""

    name: str
    state: str
    detail: str = ""
    tools: int = 0
    revisions: str = ""
    start_seconds: float = 0.0
    pss_mib: float = 0.0
    processes: int = 0
    said: str = ""
    """What the call said."""
    worked: bool = False
    """Whether that was the answer that it gives where nothing is missing."""

    def cells(self) -> list[str]:
        server = SERVERS[self.name]
        if self.state != "ready":
            return [self.name, server.package, *[""] * 5, f"does not start: {self.detail}"]
        call = f"`{server.tool}` works" if self.worked else f"`{server.tool}`: “{self.said}”"
        lacks = f"; needs {server.lacks}" if server.lacks else ""
        return [
            self.name,
            server.package,
            f"{self.start_seconds:.2f}",
            f"{self.pss_mib:.0f}",
            str(self.processes),
            str(self.tools),
            self.revisions,
            call + lacks,
        ]


HEAD = ["service", "package", "start s", "MiB", "processes", "tools", "revisions", "without internet and tokens"]


def table(rows: list[Row]) -> str:
    """Markdown."""
    cells = [[cell.replace("|", "\\|") for cell in row.cells()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in (HEAD, ["---"] * len(HEAD), *cells))


def summary(rows: list[Row], up_seconds: float, pss_mib: float, processes: int) -> str:
    """The counts."""
    ready = [row for row in rows if row.state == "ready"]
    return (
        f"{len(ready)} of {len(rows)} services ready, {sum(row.tools for row in ready)} tools, "
        f"all up {up_seconds:.1f} s after `mcpmesh up`; {processes} server processes with {pss_mib:.0f} MiB (PSS), "
        "spares included."
    )


def publish(text: str) -> None:
    """Put it into the page, in place of what was measured before."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
