"""The mesh as a table that fits the terminal: what is ready, where, and what is wrong."""

from __future__ import annotations

from mcpmesh.cli.render.output import Line, wrapped
from mcpmesh.model.mesh_status import MeshStatus, ServiceStatus, State

STYLES = {
    State.READY: "green",
    State.DEGRADED: "yellow",
    State.STARTING: "cyan",
    State.FAILED: "bold red",
    State.DRAINING: "dim",
    State.UNKNOWN: "yellow",
}
_GAP = "  "


def all_ready(status: MeshStatus) -> bool:
    """Whether there is nothing to mend and nothing to wait for."""
    return (
        all(service.state is State.READY for service in wanted(status))
        and status.consul_ready
        and (status.ingress is None or status.ingress_ready)
        and not status.ingress_error
        and status.catalog_error is None
    )


def wanted(status: MeshStatus) -> list[ServiceStatus]:
    """The services of the catalog: all but those that are on their way out."""
    return [service for service in status.services if service.state is not State.DRAINING]


def board(status: MeshStatus, width: int | None) -> list[Line]:
    """Everything that `status` and `up` show; `width` None means as long as need be."""
    return [
        headline(status),
        *_table(status, width),
        *_troubles(status, width),
        [],
        *_addresses(status),
    ]


def headline(status: MeshStatus) -> Line:
    """One line on the whole."""
    services = wanted(status)
    if not services and status.catalog_error is not None:
        return [("mesh ", ""), (status.name, "bold"), (": no catalog that can be used", "bold red")]
    ready = sum(service.state is State.READY for service in services)
    line: Line = [("mesh ", ""), (status.name, "bold"), (": ", "")]
    if not services:
        line.append(("no services", "yellow"))
    elif ready == len(services):
        noun = "service is" if ready == 1 else "services are"
        line.append((f"{ready} {noun} ready", "green"))
    else:
        line.append((f"{ready} of {len(services)} services ready", "yellow"))
    if status.paused:
        line.append((", paused (go on with: mcpmesh resume)", "yellow"))
    elif not status.in_sync:
        line.append((", changes under way", "cyan"))
    return line


def _table(status: MeshStatus, width: int | None) -> list[Line]:
    if not status.services:
        return []
    rows = [_row(service) for service in status.services]
    titles = ["SERVICE", "INSTANCES", "HEALTH", "TOOLS", "ADDRESS"]
    if width is not None and _needed([titles, *rows]) > width and status.ingress:
        # The ingress stands below the table in full.
        rows = [[*row[:-1], row[-1].removeprefix(status.ingress.rstrip("/"))] for row in rows]
        titles[-1] = "PATH AT THE INGRESS"
    widths = [max(len(row[column]) for row in [titles, *rows]) for column in range(len(titles))]
    lines: list[Line] = [[], [(_joined(titles, widths).rstrip(), "dim")]]
    for service, row in zip(status.services, rows, strict=True):
        before, health, after = row[:2], row[2], row[3:]
        lines.append(
            [
                (_joined(before, widths[:2]) + _GAP, ""),
                (health, STYLES[service.state]),
                ((" " * (widths[2] - len(health)) + _GAP + _joined(after, widths[3:])).rstrip(), ""),
            ]
        )
    return lines


def _row(service: ServiceStatus) -> list[str]:
    return [
        service.name,
        f"{service.ready}/{service.wanted}",
        str(service.state),
        "-" if service.tools is None else str(service.tools),
        service.address or "-",
    ]


def _needed(rows: list[list[str]]) -> int:
    return sum(max(map(len, column)) for column in zip(*rows, strict=True)) + len(_GAP) * (len(rows[0]) - 1)


def _joined(cells: list[str], widths: list[int]) -> str:
    return _GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))


def _troubles(status: MeshStatus, width: int | None) -> list[Line]:
    lines: list[Line] = []
    for service in status.services:
        if service.state in (State.READY, State.DRAINING):
            continue
        mark, style = ("✗ ", "red") if service.state is State.FAILED else ("! ", "yellow")
        for detail in details(service):
            lines.append([(mark, style), (wrapped(f"{service.name}: {detail}", width, 2), "")])
    if status.ingress_error:
        lines.append([("✗ ", "red"), (wrapped(f"ingress: {status.ingress_error}", width, 2), "")])
    if status.catalog_error is not None:
        instead = "the last good one is" if status.services else "what runs is left as it is"
        text = f"the catalog was not applied, {instead}: {status.catalog_error}"
        lines.append([("✗ ", "red"), (wrapped(text, width, 2), "")])
    lines += [[("! ", "yellow"), (wrapped(warning, width, 2), "")] for warning in status.warnings]
    return [[], *lines] if lines else []


def details(service: ServiceStatus) -> list[str]:
    """What is said of a service that is not ready: its own words, then its instances', each once."""
    said = [service.detail] if service.detail else []
    for instance in service.instances:
        if instance.state is not State.READY and instance.detail and instance.detail not in service.detail:
            said.append(f"{instance.id}: {instance.detail}")
    return said


def _addresses(status: MeshStatus) -> list[Line]:
    lines = []
    if status.ingress is not None:
        line = _address("ingress", status.ingress, status.ingress_ready)
        lines.append([*line, ("  by Kong", "dim")] if status.ingress_kind == "kong" else line)
    if status.consul:
        lines.append(_address("consul", f"{status.consul.rstrip('/')}/ui", status.consul_ready))
    return lines


def _address(what: str, address: str, ready: bool) -> Line:
    return [(f"{what:<9}{address}  ", ""), ("ready", "green") if ready else ("not ready", "bold red")]
