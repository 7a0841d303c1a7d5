"""The status of a mesh as text that fits the terminal: a headline, the table, troubles, addresses."""

from __future__ import annotations

from mcpmesh.cli.render.output import Output
from mcpmesh.cli.render.text import Line, wrap
from mcpmesh.cli.status_checks import wanted_services
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


def print_status(output: Output, status: MeshStatus) -> None:
    """Prints the status as the result of a command."""
    if output.json:
        output.value(status)
        return
    for line in status_lines(status, output.width):
        output.line(*line)


def status_lines(status: MeshStatus, width: int | None) -> list[Line]:
    """All lines of `status` and `up`; with `width` None they are as long as they need to be."""
    return [
        headline(status),
        *_table(status, width),
        *_trouble_lines(status, width),
        [],
        *_addresses(status),
    ]


def headline(status: MeshStatus) -> Line:
    """One line about the whole mesh."""
    services = wanted_services(status)
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
    if width is not None and _table_width([titles, *rows]) > width and status.ingress:
        # The full address of the ingress stands below the table.
        rows = [[*row[:-1], row[-1].removeprefix(status.ingress.rstrip("/"))] for row in rows]
        titles[-1] = "PATH AT THE INGRESS"
    widths = [max(len(row[column]) for row in [titles, *rows]) for column in range(len(titles))]
    lines: list[Line] = [[], [(_join(titles, widths).rstrip(), "dim")]]
    for service, row in zip(status.services, rows, strict=True):
        before, health, after = row[:2], row[2], row[3:]
        lines.append(
            [
                (_join(before, widths[:2]) + _GAP, ""),
                (health, STYLES[service.state]),
                ((" " * (widths[2] - len(health)) + _GAP + _join(after, widths[3:])).rstrip(), ""),
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


def _table_width(rows: list[list[str]]) -> int:
    return sum(max(map(len, column)) for column in zip(*rows, strict=True)) + len(_GAP) * (len(rows[0]) - 1)


def _join(cells: list[str], widths: list[int]) -> str:
    return _GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))


def _trouble_lines(status: MeshStatus, width: int | None) -> list[Line]:
    lines: list[Line] = []
    for service in status.services:
        if service.state in (State.READY, State.DRAINING):
            continue
        mark, style = ("✗ ", "red") if service.state is State.FAILED else ("! ", "yellow")
        for detail in _details(service):
            lines.append([(mark, style), (wrap(f"{service.name}: {detail}", width, 2), "")])
    if status.ingress_error:
        lines.append([("✗ ", "red"), (wrap(f"ingress: {status.ingress_error}", width, 2), "")])
    if status.catalog_error is not None:
        in_force = "the last good one stays in force" if status.services else "what runs is left as it is"
        text = f"the catalog was not applied, {in_force}: {status.catalog_error}"
        lines.append([("✗ ", "red"), (wrap(text, width, 2), "")])
    lines += [[("! ", "yellow"), (wrap(warning, width, 2), "")] for warning in status.warnings]
    return [[], *lines] if lines else []


def _details(service: ServiceStatus) -> list[str]:
    """The details of a service that is not ready and of its instances, each once."""
    lines = [service.detail] if service.detail else []
    for instance in service.instances:
        if instance.state is not State.READY and instance.detail and instance.detail not in service.detail:
            lines.append(f"{instance.id}: {instance.detail}")
    return lines


def _addresses(status: MeshStatus) -> list[Line]:
    lines = []
    if status.ingress is not None:
        line = _address("ingress", status.ingress, status.ingress_ready)
        lines.append([*line, ("  by Kong", "dim")] if status.ingress_kind == "kong" else line)
    if status.consul:
        lines.append(_address("consul", f"{status.consul.rstrip('/')}/ui", status.consul_ready))
    return lines


def _address(label: str, address: str, ready: bool) -> Line:
    return [(f"{label:<9}{address}  ", ""), ("ready", "green") if ready else ("not ready", "bold red")]
