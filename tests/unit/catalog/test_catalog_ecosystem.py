from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from mcpmesh.model.service import Catalog, Remote, ServiceSpec, Stdio

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Folder


def _file(folder: Folder, servers: dict[str, Any], key: str = "mcpServers", **others: Any) -> Path:
    return folder.write(".mcp.json", json.dumps({key: servers, **others}))


def test_an_mcp_json_needs_nothing_more(folder: Folder) -> None:
    folder.environ.update(HOME="/home/me", KEY="k", HOST="example.com")
    path = _file(
        folder,
        {
            "files": {"command": "npx", "args": ["-y", "server", "${HOME}/docs"], "env": {"A": "${KEY}"}},
            "remote": {"type": "http", "url": "https://${HOST}/mcp", "headers": {"Authorization": "Bearer ${KEY}"}},
            "typed": {"type": "stdio", "command": "uvx", "cwd": "work"},
            "streamed": {"type": "streamable-http", "url": "https://x/mcp"},
        },
    )
    assert folder.load(path) == Catalog(
        services={
            "files": ServiceSpec(
                "files",
                Stdio("npx", ("-y", "server", "/home/me/docs"), {"A": SecretStr("k")}, folder.path),
                route="/mcp/files",
            ),
            "remote": ServiceSpec(
                "remote",
                Remote("https://example.com/mcp", {"Authorization": SecretStr("Bearer k")}),
                route="/mcp/remote",
            ),
            "typed": ServiceSpec("typed", Stdio("uvx", cwd=folder.path / "work"), route="/mcp/typed"),
            "streamed": ServiceSpec("streamed", Remote("https://x/mcp"), route="/mcp/streamed"),
        },
        sources=(path,),
    )


def test_the_format_is_known_by_content_and_not_by_name(folder: Folder) -> None:
    text = "mcpServers:\n  a:\n    command: x\n"
    assert list(folder.load(folder.write("mesh.yaml", text)).services) == ["a"]
    mesh = folder.write(".mcp.json", '{"version": 1, "services": {"b": {"command": "x"}}}')
    assert list(folder.load(mesh).services) == ["b"]


def test_vs_codes_servers_are_read_with_their_comments(folder: Folder) -> None:
    path = folder.write(
        "mcp.json",
        """\
        {
        \t// one server
        \t"inputs": [],
        \t"servers": {
        \t\t"a": {"type": "stdio", "command": "x", "args": ["http://x//y"], /* twice
        \t\t*/ "env": {"K": "\\ud83d\\ude00"},},
        \t}
        }
        """,
    )
    catalog = folder.load(path)
    assert catalog.services["a"].start == Stdio("x", ("http://x//y",), {"K": SecretStr("😀")}, folder.path)
    assert catalog.warnings == (f"{path}:3: inputs: means nothing to a mesh",)


def test_unknown_keys_are_named_in_a_warning(folder: Folder) -> None:
    path = _file(folder, {"a": {"command": "x", "autoApprove": ["y"], "arg": [], "timeout": 5}}, other={})
    assert folder.load(path).warnings == (
        f"{path}:1: other: means nothing to a mesh",
        f"{path}:1: mcpServers.a.autoApprove: means nothing to a mesh",
        f'{path}:1: mcpServers.a.arg: means nothing to a mesh; did you mean "args"?',
        f"{path}:1: mcpServers.a.timeout: means nothing to a mesh",
    )


def test_a_disabled_server_is_left_out_and_named(folder: Folder) -> None:
    path = _file(folder, {"a": {"command": "${NONE}", "disabled": True}, "b": {"command": "x", "disabled": False}})
    catalog = folder.load(path)
    assert list(catalog.services) == ["b"]
    assert catalog.warnings == (f"{path}:1: mcpServers.a: is disabled and left out",)


def test_names_become_mesh_names_with_a_warning(folder: Folder) -> None:
    path = _file(folder, {"My Server_2!": {"command": "x"}, "Ünï": {"command": "y"}, "a" * 70: {"command": "z"}})
    catalog = folder.load(path)
    assert list(catalog.services) == ["my-server-2", "n", "a" * 63]
    assert catalog.warnings[0] == f'{path}:1: mcpServers.My Server_2!: is called "my-server-2" in the mesh'


def test_names_that_become_one_name_or_none_are_refused(folder: Folder) -> None:
    path = folder.write(
        ".mcp.json",
        """\
        {"mcpServers": {
          "a b": {"command": "x"},
          "A_B": {"command": "y"},
          "!!": {"command": "z"},
          "Consul": {"command": "z"}
        }}
        """,
    )
    assert folder.refused(path) == [
        (3, "mcpServers.A_B", 'is called "a-b" in a mesh, as mcpServers.a b is; rename one of them'),
        (4, "mcpServers.!!", "has a name without letters or digits; rename it"),
        (5, "mcpServers.Consul", "has a name that the mesh uses itself; choose another"),
    ]


def test_an_sse_server_is_refused_with_what_to_use(folder: Folder) -> None:
    path = _file(folder, {"a": {"type": "sse", "url": "https://x/sse"}})
    [(line, field, message)] = folder.refused(path)
    assert (line, field) == (1, "mcpServers.a.type")
    assert "Streamable HTTP" in message
    assert '"type": "http"' in message


def test_an_address_that_looks_like_sse_is_a_warning(folder: Folder) -> None:
    path = _file(folder, {"a": {"url": "https://x/sse"}})
    assert folder.load(path).warnings == (
        f"{path}:1: mcpServers.a.url: looks like an SSE address; if calls fail, ask the server for its "
        "Streamable HTTP one",
    )


@pytest.mark.parametrize(
    ("server", "field", "message"),
    [
        ({"type": "stdio"}, "type", 'says stdio, and there is no "command"; add it, or change the type to http'),
        ({"type": "http"}, "type", 'says http, and there is no "url"; add it, or change the type to stdio'),
        ({"type": "htp", "url": "http://x/"}, "type", 'has to be stdio, http or streamable-http; did you mean "http"?'),
        ({"type": 3, "url": "http://x/"}, "type", "has to be stdio, http or streamable-http"),
        ({"comand": "x"}, "", "does not say how it starts; give it command, image, url, http or tcp"),
        ({"command": "x", "args": "y"}, "args", "has to be a list, such as [one, two]"),
        ("x", "", "has to be a mapping of keys to values"),
    ],
)
def test_a_server_that_cannot_be_started_is_refused(folder: Folder, server: Any, field: str, message: str) -> None:
    place = f"mcpServers.a.{field}" if field else "mcpServers.a"
    assert (1, place, message) in folder.refused(_file(folder, {"a": server}))


def test_a_file_url_in_the_environment_is_no_secret_reference(folder: Folder) -> None:
    path = _file(folder, {"a": {"command": "x", "env": {"DB": "file:./dev.db"}}})
    assert folder.load(path).services["a"].start.env == {"DB": SecretStr("file:./dev.db")}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "server",
    [
        {"url": "https://x/sse", "type": "http"},
        {"url": "https://x/ssex"},
        {"url": "https://x/mcp", "type": "streamable_http"},
        {"url": "https://x/mcp", "type": "streamableHttp"},
        {"command": "x", "type": "stdio"},
    ],
)
def test_a_server_of_a_known_transport_is_read_without_a_warning(folder: Folder, server: dict[str, Any]) -> None:
    path = _file(folder, {"a": server}, **{"$schema": "x", "x-note": 1})
    catalog = folder.load(path)
    assert (list(catalog.services), catalog.warnings) == (["a"], ())


def test_an_address_with_a_slash_after_sse_is_a_warning_too(folder: Folder) -> None:
    assert len(folder.load(_file(folder, {"a": {"url": "https://x/sse/"}})).warnings) == 1


def test_the_type_of_a_disabled_server_is_not_checked(folder: Folder) -> None:
    path = _file(folder, {"a": {"type": "sse", "url": "https://x/", "disabled": True}, "b": {"command": "x"}})
    assert list(folder.load(path).services) == ["b"]


@pytest.mark.parametrize(
    ("text", "services"),
    [
        ('{"servers": {"a": {"command": "x"}}}', ["a"]),
        ('{"servers": {"a": {"command": "x"}}, "mcpServers": {"b": {"command": "x"}}}', ["b"]),
        ('{"version": 1, "services": {"c": {"command": "x"}}, "x-servers": {}}', ["c"]),
    ],
)
def test_the_first_format_whose_key_a_file_has_is_used(folder: Folder, text: str, services: list[str]) -> None:
    assert list(folder.load(folder.write("mcp.json", text)).services) == services


@pytest.mark.parametrize("key", ["version", "services"])
def test_servers_beside_a_key_of_a_mesh_yaml_is_a_misspelt_key_of_it(folder: Folder, key: str) -> None:
    value = "1" if key == "version" else "{}"
    path = folder.write("mesh.yaml", f"{key}: {value}\nservers: {{a: {{command: x}}}}")
    assert (2, "servers", 'is no key of a mesh.yaml; did you mean "services"?') in folder.refused(path)


def test_environment_that_is_no_mapping_is_refused_as_in_a_mesh_yaml(folder: Folder) -> None:
    path = _file(folder, {"a": {"command": "x", "env": ["file:x"]}})
    assert folder.refused(path) == [(1, "mcpServers.a.env", "has to be a mapping of keys to values")]


def test_a_file_reference_in_a_header_is_a_text(folder: Folder) -> None:
    path = _file(folder, {"a": {"url": "http://x/", "headers": {"A": "file:x", "B": "$$file:x", "C": "a file:x"}}})
    assert folder.load(path).services["a"].start == Remote(
        "http://x/", {"A": SecretStr("file:x"), "B": SecretStr("file:x"), "C": SecretStr("a file:x")}
    )
