from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from mcpmesh.errors import CatalogError, Problem
from mcpmesh.model.service import Remote, Stdio, Timeouts

if TYPE_CHECKING:
    from conftest import Folder


def test_a_later_file_overlays_mappings_key_by_key_and_replaces_lists(folder: Folder) -> None:
    base = folder.services("""
        a: {command: a, args: [x, y], env: {A: "1", B: "2"}, timeouts: {start: 5s, drain: 1s}}
        b: {command: b}
    """)
    over = folder.write(
        "prod.yaml",
        """
        version: 1
        services:
          a: {args: [z], env: {B: "3", C: "4"}, timeouts: {start: 9s}}
          c: {command: c}
    """,
    )
    services = folder.load(base, over).services
    assert list(services) == ["a", "b", "c"]
    assert services["a"].start == Stdio(
        "a", ("z",), {"A": SecretStr("1"), "B": SecretStr("3"), "C": SecretStr("4")}, folder.path
    )
    assert services["a"].timeouts == Timeouts(start=9, drain=1)


def test_null_removes_a_key_or_a_whole_service(folder: Folder) -> None:
    base = folder.services("a: {command: a, env: {A: b}, tags: [x]}\nb: {command: b}")
    over = folder.write("over.yaml", "version: 1\nservices: {a: {command: null, url: http://x/, env: null}, b: null}")
    services = folder.load(base, over).services
    assert [(spec.start, spec.tags) for spec in services.values()] == [(Remote("http://x/"), ("x",))]


def test_a_null_with_nothing_to_remove_is_reported(folder: Folder) -> None:
    path = folder.services("a: {command: a, env: {A: }, tags: }")
    assert folder.load(path).warnings == (
        f"{path}:3: services.a.env.A: is empty and has nothing to remove",
        f"{path}:3: services.a.tags: is empty and has nothing to remove",
    )
    over = folder.write("over.yaml", "version: 1\nservices: {b: null}")
    assert folder.refused(path, over) == [
        (2, "services.b", "is empty, and no earlier file has it to be removed; say how it starts")
    ]


def test_a_mesh_yaml_overlays_an_mcp_json(folder: Folder) -> None:
    base = folder.write(".mcp.json", '{"mcpServers": {"My Files": {"command": "a", "args": ["x"]}}}')
    over = folder.write("mesh.yaml", "version: 1\nservices: {my-files: {instances: 3, isolation: shared}}")
    spec = folder.load(base, over).services["my-files"]
    assert (spec.instances, spec.start.args) == (3, ("x",))  # type: ignore[union-attr]


def test_a_problem_names_the_file_that_has_it(folder: Folder) -> None:
    base = folder.services("a: {command: a}")
    over = folder.write("over.yaml", "version: 1\nservices:\n  a:\n    instances: many")
    with pytest.raises(CatalogError) as caught:
        folder.load(base, over)
    assert caught.value.problems == [Problem(over, 4, "services.a.instances", "has to be a whole number")]


def test_unreadable_files_are_all_named(folder: Folder) -> None:
    good = folder.services("a: {instances: many}")
    bad = folder.write("bad.yaml", "a: [")
    missing = folder.path / "missing.yaml"
    assert [message.split(";")[0].split(":")[0] for _, _, message in folder.refused(good, bad, missing)] == [
        "is neither YAML nor JSON here",
        "does not exist",
    ]


def test_relative_paths_start_from_the_file_that_says_them(folder: Folder) -> None:
    (folder.path / "sub").mkdir()
    (folder.path / "sub" / "token").write_text("t\n")
    (folder.path / "sub" / "token").chmod(0o600)
    base = folder.services("a: {command: ./a, args: ['${CATALOG_DIR}']}\nb: {command: ./b}")
    over = folder.write(
        "sub/over.yaml",
        "version: 1\nservices: {a: {env: {T: 'file:token', D: '${CATALOG_DIR}'}}, b: {cwd: .}, c: {command: ./c}}",
    )
    a, b, c = (spec.start for spec in folder.load(base, over).services.values())
    sub = folder.path / "sub"
    env = {"T": SecretStr("t"), "D": SecretStr(str(sub))}
    assert a == Stdio(str(folder.path / "a"), (str(folder.path),), env, folder.path)
    assert b == Stdio(str(sub / "b"), cwd=sub)
    assert c == Stdio(str(sub / "c"), cwd=sub)
