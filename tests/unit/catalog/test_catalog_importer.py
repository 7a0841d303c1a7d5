from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcpmesh.catalog.importer import import_file
from mcpmesh.catalog.loader import load
from mcpmesh.errors import CatalogError

if TYPE_CHECKING:
    from conftest import Folder


def test_an_imported_file_reads_like_one_written_by_hand(folder: Folder) -> None:
    path = folder.write(
        ".mcp.json",
        json.dumps(
            {
                "inputs": [{"id": "k"}],
                "mcpServers": {
                    "My Files": {
                        "type": "stdio",
                        "command": "npx",
                        "args": ["-y", "server", "${HOME}/docs"],
                        "env": {"TOKEN": "${TOKEN:-}", "DB": "file:./dev.db", "VERSION": 1.10},
                        "autoApprove": ["read"],
                    },
                    "old": {"type": "sse", "url": "https://x/sse", "disabled": True},
                },
            }
        ),
    )
    assert (
        import_file(path).text
        == """\
# Made from .mcp.json by `mcpmesh import`; docs/catalog.md explains every key.
# Paths are relative to this file's folder: keep it where .mcp.json is.
version: 1
x-inputs:
- id: k

services:
  # was mcpServers.My Files
  my-files:
    command: npx
    args: [-y, server, '${HOME}/docs']
    env:
      TOKEN: ${TOKEN:-}
      DB: $$file:./dev.db
      VERSION: '1.1'
    x-autoApprove: [read]
  old:
    url: https://x/sse
    disabled: true
    x-type: sse
"""
    )


def test_a_literal_secret_is_named_in_a_warning_and_not_shown(folder: Folder) -> None:
    servers = {
        "a": {"command": "x", "args": ["--api-key=hunter2"], "env": {"API_TOKEN": "hunter2", "LEVEL": "hunter2"}}
    }
    path = folder.write(".mcp.json", json.dumps({"mcpServers": servers}))
    warnings = import_file(path).warnings
    advice = "may hold a secret in plain text; put it into a variable, ${NAME}, or a file, file:PATH"
    assert warnings == (
        f"{path}:1: mcpServers.a.env.API_TOKEN: {advice}",
        f"{path}:1: mcpServers.a.args[0]: {advice}",
    )


def test_an_imported_file_stays_readable(folder: Folder) -> None:
    long = "a long text " * 20 + "end"
    server = {"env": {"A": "é"}, "args": [long], "command": "x", "note": [["a"], {"b": []}], "cwd": "work"}
    path = folder.write(".mcp.json", json.dumps({"$schema": "x", "mcpServers": {"a": server}}))
    assert (
        import_file(path, folder.path / "elsewhere").text
        == f"""\
# Made from .mcp.json by `mcpmesh import`; docs/catalog.md explains every key.
version: 1

services:
  a:
    command: x
    args: [{long}]
    env:
      A: é
    cwd: {folder.path}/work
    x-note:
    - [a]
    - b: []
"""
    )


def test_a_file_name_with_a_line_break_stays_in_its_comment(folder: Folder) -> None:
    path = folder.write("a\nb.json", '{"mcpServers": {"a": {"command": "x"}}}')
    assert import_file(path).text.startswith("# Made from a?b.json by `mcpmesh import`; ")


def test_a_file_without_servers_is_imported_as_one_without_services(folder: Folder) -> None:
    imported = import_file(folder.write(".mcp.json", '{"mcpServers": {}}'))
    assert imported.text.endswith("version: 1\n\nservices: {}\n")


@pytest.mark.parametrize(
    ("server", "field"),
    [
        ({"command": "x", "args": ["--token=t"]}, "args[0]"),
        ({"url": "http://x/", "headers": {"Authorization": "Bearer t"}}, "headers.Authorization"),
        ({"command": "x", "env": {"API_KEY": "t"}}, "env.API_KEY"),
        ({"command": "x", "env": {"API_KEY": "${KEY}", "PASSWORD": "", "REGION": "eu"}}, None),
        ({"command": "x", "args": ["--token=${T}", "--token", "token=t", "--region=eu"]}, None),
    ],
)
def test_only_literal_values_of_secret_names_are_warned_of(folder: Folder, server: Any, field: str | None) -> None:
    path = folder.write(".mcp.json", json.dumps({"mcpServers": {"a": server}}))
    places = [warning.split(": ")[1] for warning in import_file(path).warnings]
    assert places == ([f"mcpServers.a.{field}"] if field else [])


@pytest.mark.parametrize("cwd", ["/srv", "~/work", "${WORK}"])
def test_a_working_directory_that_any_folder_reads_alike_is_kept(folder: Folder, cwd: str) -> None:
    path = folder.write(".mcp.json", json.dumps({"mcpServers": {"a": {"command": "x", "cwd": cwd}}}))
    imported = import_file(path, folder.path / "elsewhere")
    assert f"cwd: {cwd}\n" in imported.text
    advice = "begins with a variable; make its value absolute where it is a relative path"
    assert imported.warnings == ((f"{path}:1: mcpServers.a.cwd: {advice}",) if cwd == "${WORK}" else ())


def test_an_imported_file_means_the_same_in_another_folder(folder: Folder) -> None:
    servers = {
        "a": {"command": "./a"},
        "b": {"command": "b", "cwd": "work"},
        "c": {"command": "c", "cwd": "/srv"},
        "d": {"url": "http://x/"},
    }
    path = folder.write(".mcp.json", json.dumps({"mcpServers": servers}))
    (folder.path / "other").mkdir()
    target = folder.write("other/mesh.yaml", import_file(path, folder.path / "other").text)
    assert folder.load(target).services == folder.load(path).services


@pytest.mark.parametrize(
    "text",
    ["version: 1\nservices: {}", "a", "", "[", '{"mcpServers": {"a": {}}}', '{"mcpServers": 3}'],
)
def test_what_is_no_mcp_json_or_starts_nothing_is_refused(folder: Folder, text: str) -> None:
    with pytest.raises(CatalogError):
        import_file(folder.write(".mcp.json", text))


_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12) | st.sampled_from(
    [
        "${HOME}/x",
        "$${A}",
        "file:x",
        "$$file:x",
        "no",
        "1.10",
        "0x1F",
        "~",
        "a: b",
        "# c",
        "'",
        '"',
        "a\nb",
        "\t",
        "- x",
    ]
)
_SERVER = st.one_of(
    st.fixed_dictionaries(
        {"command": st.sampled_from(["npx", "./bin/x", "/usr/bin/y", "~/z"])},
        optional={
            "args": st.lists(_TEXT | st.integers() | st.booleans(), max_size=4),
            "env": st.dictionaries(st.sampled_from(["A", "TOKEN", "on", "1"]), _TEXT | st.integers(), max_size=3),
            "cwd": st.sampled_from(["work", "/srv", "~/w", "."]),
            "disabled": st.booleans(),
            "note": st.recursive(
                st.none() | st.booleans() | st.floats(allow_nan=False) | _TEXT, st.lists, max_leaves=4
            ),
        },
    ),
    st.fixed_dictionaries({"type": st.just("http"), "url": st.sampled_from(["http://x/", "https://${HOST}/mcp"])}),
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(servers=st.dictionaries(st.sampled_from(["a", "B c", "1", "on", "null", "x-y"]), _SERVER, max_size=4))
def test_an_imported_file_loads_to_the_same_catalog(tmp_path: Path, servers: dict[str, Any]) -> None:
    environ = {"HOME": "/home/me", "HOST": "example.com"}
    source, target = tmp_path / ".mcp.json", tmp_path / "mesh.yaml"
    source.write_text(json.dumps({"mcpServers": servers}))
    try:
        expected = load([source], environ).services
    except CatalogError:  # such as a ${ that is never closed
        return
    target.write_text(import_file(source).text)
    assert load([target], environ).services == expected
