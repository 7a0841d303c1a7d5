from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from mcpmesh.model.service import (
    Catalog,
    Health,
    Isolation,
    Plain,
    Protocol,
    Remote,
    ServiceSpec,
    Stdio,
    Timeouts,
    Upstream,
)

if TYPE_CHECKING:
    from conftest import Folder


def test_a_command_is_enough_for_a_service(folder: Folder) -> None:
    path = folder.services("files: {command: mcp-server-filesystem}")
    spec = ServiceSpec(name="files", start=Stdio(command="mcp-server-filesystem", cwd=folder.path), route="/mcp/files")
    assert folder.load(path) == Catalog(services={"files": spec}, sources=(path,))


def test_every_key_of_a_stdio_server_arrives_in_the_model(folder: Folder) -> None:
    path = folder.services("""
        db: {tcp: "127.0.0.1:5432", allow: [files]}
        files:
          command: [./bin/server, --stdio]
          args: [./data, 8080, 1.10, yes]
          env: {LEVEL: debug, PORT: 0755, EMPTY: "", FLAG: true}
          cwd: work
          isolation: shared
          instances: 3
          tags: [a, b]
          allow: ["*", claude, claude]
          upstreams: [db]
          route: /tools/files/
          timeouts: {start: 1m30s, request: 500ms, drain: 0.5}
          health: {interval: 5}
          balance: round_robin
          x-note: {anything: [1, 2]}
    """)
    assert folder.load(path).services["files"] == ServiceSpec(
        name="files",
        start=Stdio(
            command=str(folder.path / "work" / "bin" / "server"),
            args=("--stdio", "./data", "8080", "1.10", "yes"),
            env={
                "LEVEL": SecretStr("debug"),
                "PORT": SecretStr("0755"),
                "EMPTY": SecretStr(""),
                "FLAG": SecretStr("true"),
            },
            cwd=folder.path / "work",
            isolation=Isolation.SHARED,
        ),
        instances=3,
        tags=("a", "b"),
        allow=("*", "claude"),
        upstreams=(Upstream("db"),),
        route="/tools/files",
        timeouts=Timeouts(start=90.0, request=0.5, drain=0.5),
        health=Health(interval=5.0),
        balance="round_robin",
    )


def test_a_url_is_a_remote_server_with_a_route(folder: Folder) -> None:
    path = folder.services("""
        tracker:
          url: https://tracker.example.com/mcp
          headers: {Authorization: Bearer abc, X-Api-Key: 12}
    """)
    spec = folder.load(path).services["tracker"]
    assert spec.start == Remote(
        url="https://tracker.example.com/mcp",
        headers={"Authorization": SecretStr("Bearer abc"), "X-Api-Key": SecretStr("12")},
    )
    assert spec.route == "/mcp/tracker"


def test_what_runs_already_is_named_by_its_address_and_has_no_route_unless_given(folder: Folder) -> None:
    path = folder.services("""
        api: {http: "127.0.0.1:9000", route: /api, health: {path: /healthz}}
        inner: {http: {address: "[::1]:80"}}
        db: {tcp: "db.local:5432"}
    """)
    services = folder.load(path).services
    assert [(spec.start, spec.route, spec.health.path) for spec in services.values()] == [
        (Plain(Protocol.HTTP, address="127.0.0.1:9000", cwd=folder.path), "/api", "/healthz"),
        (Plain(Protocol.HTTP, address="[::1]:80", cwd=folder.path), None, None),
        (Plain(Protocol.TCP, address="db.local:5432", cwd=folder.path), None, None),
    ]


def test_a_plain_service_is_launched_where_it_has_a_command(folder: Folder) -> None:
    path = folder.services("""
        web:
          http: {command: ./serve.py, args: [--quiet]}
          env: {MODE: test}
          cwd: /srv/web
          instances: 2
    """)
    spec = folder.load(path).services["web"]
    assert spec.start == Plain(
        Protocol.HTTP,
        command="/srv/web/serve.py",
        args=("--quiet",),
        env={"MODE": SecretStr("test")},
        cwd=Path("/srv/web"),
    )
    assert spec.instances == 2


def test_false_takes_the_route_away(folder: Folder) -> None:
    path = folder.services("a: {command: a, route: false}\nb: {command: b, route: true}")
    assert [spec.route for spec in folder.load(path).services.values()] == [None, "/mcp/b"]


def test_a_program_without_a_slash_is_looked_up_on_the_path_and_an_absolute_one_is_kept(folder: Folder) -> None:
    folder.environ["HOME"] = "/home/me"
    path = folder.services("a: {command: npx}\nb: {command: /usr/bin/node}\nc: {command: ~/bin/c, cwd: ~/work}")
    starts = [spec.start for spec in folder.load(path).services.values()]
    assert [start.command for start in starts] == ["npx", "/usr/bin/node", "/home/me/bin/c"]  # type: ignore[union-attr]


def test_defaults_begin_every_service_and_its_own_keys_win(folder: Folder) -> None:
    path = folder.write(
        "mesh.yaml",
        """
        version: 1
        defaults:
          env: {LEVEL: info, REGION: eu}
          tags: [all]
          timeouts: {start: 10s, drain: 3s}
          isolation: shared
        services:
          a: {command: a}
          b:
            command: b
            env: {LEVEL: debug, REGION: null}
            tags: []
            timeouts: {start: 20s}
            isolation: session
    """,
    )
    a, b = folder.load(path).services.values()
    assert isinstance(a.start, Stdio) and isinstance(b.start, Stdio)
    assert a.start.env == {"LEVEL": SecretStr("info"), "REGION": SecretStr("eu")}
    assert b.start.env == {"LEVEL": SecretStr("debug")}
    assert (a.tags, b.tags) == (("all",), ())
    assert (a.timeouts, b.timeouts) == (Timeouts(start=10, drain=3), Timeouts(start=20, drain=3))
    assert (a.start.isolation, b.start.isolation) == (Isolation.SHARED, Isolation.SESSION)


def test_defaults_that_mean_nothing_to_a_service_do_not_hurt_it(folder: Folder) -> None:
    path = folder.write(
        "mesh.yaml",
        """
        version: 1
        defaults: {env: {A: b}, cwd: work, isolation: shared, instances: 2, health: {path: /up, interval: 1s}}
        services:
          remote: {url: "https://example.com/mcp"}
          db: {tcp: "127.0.0.1:5432"}
    """,
    )
    remote, db = folder.load(path).services.values()
    assert (remote.instances, db.instances) == (2, 1)
    assert remote.health == db.health == Health(interval=1.0)


def test_anchors_and_merge_keys_save_repetition(folder: Folder) -> None:
    path = folder.write(
        "mesh.yaml",
        """
        version: 1
        x-node: &node {command: node, tags: [node]}
        services:
          a: {<<: *node, args: [a.js]}
          b: {<<: *node, tags: [other]}
    """,
    )
    a, b = folder.load(path).services.values()
    assert (a.start, a.tags, b.tags) == (Stdio("node", ("a.js",), cwd=folder.path), ("node",), ("other",))
