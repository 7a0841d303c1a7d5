"""Every server that is installed starts in one mesh and answers through the whole path; every other says why not."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from mcp import Client, MCPError
from running_shim import descendants, running
from tests.integration.twenty.servers import SERVERS, TWENTY, shim_config
from tests.integration.twenty.table import Row, publish, summary, table
from tests.support.mesh import RealMesh

SAID_CHARACTERS = 90
# The internet may be there, behind a firewall, or slow to be refused.
CALL_SECONDS = 60.0

ROWS: dict[str, Row] = {}
COUNTS: list[str] = []


def pss_mib(pids: set[int]) -> float:
    """Proportional memory of processes."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def filled(value: Any, **places: str) -> Any:
    """Arguments with the addresses put in."""
    return json.loads(json.dumps(value).replace("{web}", places["web"]).replace("{home}", places["home"]))


def test_the_catalog_has_all_twenty() -> None:
    assert list(yaml.safe_load((TWENTY / "mesh.yaml").read_text())["services"]) == list(SERVERS)
    assert len(SERVERS) == 20


def test_what_is_installed_is_ready_and_the_rest_says_what_is_missing(twenty: RealMesh) -> None:
    lines = {line["name"]: line for line in twenty.status()["services"]}
    assert set(lines) == set(SERVERS)
    for name, line in lines.items():
        detail = line["detail"].replace(str(twenty.folder), "examples/twenty")
        ROWS[name] = Row(name, line["state"], detail, line["tools"], ", ".join(line["protocol_versions"]))
    for name, server in SERVERS.items():
        line = lines[name]
        if server.installed:
            assert line["state"] == "ready", f"{name}: {line['detail']}"
            assert line["tools"] > 0, name
        else:
            assert line["state"] == "failed", name
            assert server.program in line["detail"], line["detail"]
            assert "does not exist; install it" in line["detail"], line["detail"]
    told = twenty.run("status", code=None).stdout
    assert all(name in told for name in SERVERS)


@pytest.mark.parametrize("name", SERVERS)
async def test_it_lists_its_tools_and_answers_through_the_ingress(twenty: RealMesh, web: str, name: str) -> None:
    server = SERVERS[name]
    row = ROWS[name]
    if row.state != "ready":
        assert not server.installed
        return
    async with Client(f"{twenty.ingress}/mcp/{name}", read_timeout_seconds=CALL_SECONDS) as client:
        tools, cursor = [], None
        while True:
            page = await client.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if cursor is None:
                break
        assert len(tools) == row.tools
        assert server.tool in {tool.name for tool in tools}, sorted(tool.name for tool in tools)
        arguments = filled(server.arguments, web=web, home=str(twenty.folder))
        try:
            result = await client.call_tool(server.tool, arguments)
            said = " ".join(getattr(part, "text", "") for part in result.content)
        except MCPError as error:
            said = f"{error.code} {error.message}"
    row.said = " ".join(said.split())[:SAID_CHARACTERS]
    row.worked = bool(server.answer) and server.answer in said
    # What lacks something says so instead; what lacks nothing has to work.
    assert row.worked or server.lacks, said
    assert said.strip()


def test_what_all_of_them_take_is_counted(up: tuple[RealMesh, float]) -> None:
    twenty, seconds = up
    servers = {pid for guard in twenty.pids("guard") for pid in descendants(guard)}
    assert len(servers) >= sum(row.state == "ready" for row in ROWS.values())
    COUNTS.append(summary(list(ROWS.values()), seconds, pss_mib(servers), len(servers)))


def test_down_leaves_nothing(twenty: RealMesh) -> None:
    twenty.down()
    assert twenty.processes() == []


# Only now, when nothing of the mesh shares memory or time with them.
@pytest.mark.parametrize("name", SERVERS)
def test_alone_it_starts_and_leaves_nothing(home: Path, database_url: str, name: str) -> None:
    server = SERVERS[name]
    row = ROWS[name]
    if row.state != "ready":
        assert not server.installed
        return
    began = time.monotonic()
    with running(**shim_config(name, home, DATABASE_URL=database_url)) as shim:
        shim.wait_ready(90)
        row.start_seconds = time.monotonic() - began
        pids = shim.servers()
        row.pss_mib, row.processes = pss_mib(pids), len(pids)


def test_the_table_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    text = f"{COUNTS[0]}\n\n{table([ROWS[name] for name in SERVERS])}"
    with capsys.disabled():
        print(f"\n{text}")
    publish(text)
