"""The user's own documents for Kong: reading, merging, and conflicts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcpmesh.errors import DocumentError
from mcpmesh.ingress.kong.document import render_content
from mcpmesh.ingress.kong.user_documents import UserDocuments, document_files, fingerprint, read_documents
from mcpmesh.model.service import ServiceSpec, Stdio

FILES = ServiceSpec("files", Stdio("server"), route="/mcp/files")
OURS = render_content("m", {"files": (FILES, 7000)}, [{"name": "prometheus", "config": {}}])


def documents_in(folder: Path, **documents: str) -> UserDocuments:
    """Writes these documents, with `_format_version` added, and reads the folder."""
    for name, text in documents.items():
        (folder / f"{name}.yml").write_text('_format_version: "3.0"\n' + text)
    return read_documents(folder)


def test_entities_of_all_documents_are_merged_with_ours(tmp_path: Path) -> None:
    found = documents_in(
        tmp_path,
        a="consumers:\n- username: ada\n  keyauth_credentials:\n  - key: sesame\n",
        b="services:\n- name: shop\n  host: shop.example\n",
    )
    joined = found.merged_with(OURS)
    assert [item["name"] for item in joined["services"]] == ["files", "shop"]
    assert joined["consumers"] == [{"username": "ada", "keyauth_credentials": [{"key": "sesame"}]}]
    assert len(OURS["services"]) == 1, "ours was changed"


def test_an_entity_that_refers_to_a_service_is_added_together_with_it(tmp_path: Path) -> None:
    found = documents_in(
        tmp_path, a="plugins:\n- name: key-auth\n  service: files\n- name: acl\n  route: {name: files}\n- name: jwt\n"
    )
    names = [item["name"] for item in found.merged_with(OURS)["plugins"]]
    assert names == ["prometheus", "key-auth", "acl", "jwt"]
    assert [item["name"] for item in found.merged_with(OURS, ["files"])["plugins"]] == ["prometheus", "jwt"]


def test_a_missing_folder_and_other_files_are_no_documents(tmp_path: Path) -> None:
    assert read_documents(tmp_path / "kong.d") == UserDocuments()
    for name in ("readme.md", ".hidden.yml", "keys.yml~"):
        (tmp_path / name).write_text("nonsense: [")
    assert document_files(tmp_path) == [] and read_documents(tmp_path) == UserDocuments()


def test_a_document_of_comments_is_empty(tmp_path: Path) -> None:
    (tmp_path / "later.yml").write_text("# _format_version: 3.0\n")
    assert read_documents(tmp_path) == UserDocuments()


def test_json_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"_format_version": "3.0", "consumers": [{"username": "ada"}]}')
    assert read_documents(tmp_path).merged_with(OURS)["consumers"] == [{"username": "ada"}]


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("services: []\n", 1, '`_format_version` has to be "3.0"'),
        ('_format_version: "1.1"\n', 1, '`_format_version` has to be "3.0"'),
        ('_format_version: "3.0"\nservices: {}\n', 2, "has to be a list of entities"),
        ('_format_version: "3.0"\nservices:\n- name\n', 3, "has to be a mapping"),
        ("- a\n", 1, 'has to be a declarative document of Kong\'s, with `_format_version: "3.0"` and lists'),
        (
            '_format_version: "3.0"\n_transform: false\n',
            2,
            "credentials have to be written in the clear here; leave it out",
        ),
        ('_format_version: "3.0"\nservices: [\n', 3, "neither YAML nor JSON"),
    ],
)
def test_a_malformed_document_is_an_error_with_file_and_line(
    tmp_path: Path, text: str, line: int, expected: str
) -> None:
    (tmp_path / "a.yml").write_text(text)
    with pytest.raises(DocumentError) as caught:
        read_documents(tmp_path)
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == (tmp_path / "a.yml", line)
    assert problem.message == expected if "YAML" not in expected else expected in problem.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("services:\n- {name: files, host: a}\n", 'services[0]: service name "files" is taken: the mesh itself'),
        ("routes:\n- {name: files, paths: [/x]}\n", 'routes[0]: route name "files" is taken: the mesh itself'),
        ("routes:\n- {name: x, paths: [/mcp/files]}\n", 'route path "/mcp/files" is taken: the mesh itself'),
        ("routes:\n- {name: x, paths: [/mcp/files/]}\n", 'route path "/mcp/files" is taken'),
        ("routes:\n- {name: x, paths: ['~/mcp/files$']}\n", 'route path "/mcp/files" is taken'),
        ("services:\n- {name: a, host: a, routes: [{paths: [/mcp/files]}]}\n", 'services[0]: route path "/mcp/files"'),
        ("plugins:\n- name: prometheus\n", 'plugin name "prometheus" is taken: the mesh itself'),
        (
            "consumers:\n- username: ada\n- username: ada\n",
            'consumers[1]: consumer username "ada" is taken: it stands at',
        ),
    ],
)
def test_a_conflict_with_the_mesh_is_an_error_with_file_and_entity(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(DocumentError) as caught:
        documents_in(tmp_path, a=text).check_conflicts(OURS)
    (problem,) = caught.value.problems
    assert problem.path == tmp_path / "a.yml" and problem.line in (3, 4)
    assert expected in str(problem)


@pytest.mark.parametrize(
    "text",
    [
        "routes:\n- {name: x, paths: [/mcp/files], hosts: [files.example]}\n",
        "routes:\n- {name: x, paths: [/mcp/files], methods: [PUT]}\n",
        "routes:\n- {name: x, paths: [/mcp/files], headers: {x-team: [a]}}\n",
        "routes:\n- {name: x, paths: [/mcp/files], snis: [files.example]}\n",
        "routes:\n- {name: x, paths: [/mcp/files], sources: [{ip: 10.0.0.1}]}\n",
        "routes:\n- {name: x, paths: [/mcp/files], destinations: [{port: 1}]}\n",
        "routes:\n- {name: x, paths: [/mcp/files/special]}\n",
        "plugins:\n- {name: prometheus, service: files}\n",
        "plugins:\n- {name: key-auth, service: files}\n- {name: key-auth, service: other}\n",
        "services:\n- {name: shop, host: a}\n",
    ],
)
def test_similar_entities_without_a_conflict_are_accepted(tmp_path: Path, text: str) -> None:
    documents_in(tmp_path, a=text).check_conflicts(OURS)


def test_a_conflict_of_two_documents_names_both(tmp_path: Path) -> None:
    found = documents_in(tmp_path, a="services:\n- {name: shop, host: a}\n", b="services:\n- {name: shop, host: b}\n")
    with pytest.raises(DocumentError, match=r"b\.yml:3: services\[0\].*a\.yml:3 as well"):
        found.check_conflicts(OURS)


def test_a_secret_in_a_conflict_is_not_shown(tmp_path: Path) -> None:
    credential = "keyauth_credentials: [{key: sesame}]"
    twice = f"consumers:\n- {{username: a, {credential}}}\n- {{username: b, {credential}}}\n"
    with pytest.raises(DocumentError, match=r"consumers\[1\]: the key of this keyauth_credential is taken") as caught:
        documents_in(tmp_path, a=twice).check_conflicts(OURS)
    assert "sesame" not in str(caught.value)


def test_the_paths_of_all_routes_are_listed(tmp_path: Path) -> None:
    found = documents_in(
        tmp_path, a="routes:\n- {paths: [/a]}\nservices:\n- {name: b, host: b, routes: [{paths: [/b, ~/c$]}]}\n"
    )
    assert found.route_paths == ["/a", "/b", "~/c$"]


def test_the_fingerprint_differs_for_a_changed_a_new_and_a_removed_document(tmp_path: Path) -> None:
    before = fingerprint(tmp_path)
    (tmp_path / "a.yml").write_text("a")
    written = fingerprint(tmp_path)
    (tmp_path / "a.yml").write_text("b")
    changed = fingerprint(tmp_path)
    (tmp_path / "a.yml").unlink()
    assert before != written != changed and fingerprint(tmp_path) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("services:\n- {name: a, id: x, host: a}\n- {name: b, id: x, host: b}\n", 'service id "x" is taken'),
        ("consumers:\n- custom_id: x\n- custom_id: x\n", 'consumer custom_id "x" is taken'),
        (
            "plugins:\n- {name: acl, service: files, consumer: ada}\n"
            "- {name: acl, service: {name: files}, consumer: ada}\n",
            'plugin name "acl" on service files and consumer ada is taken',
        ),
        (
            "services:\n- {name: a, host: a, plugins: [{name: acl}]}\nplugins:\n- {name: acl, service: a}\n",
            'plugin name "acl" on service a is taken',
        ),
        ("routes:\n- {name: a, paths: ['~/a[.]b$']}\n- {name: b, paths: [/a.b/]}\n", 'route path "/a.b" is taken'),
    ],
)
def test_a_conflict_is_described_by_what_both_want(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(DocumentError) as caught:
        documents_in(tmp_path, a=text).check_conflicts(OURS)
    (problem,) = caught.value.problems
    step = "put this one on a service or route" if "plugin" in expected else "rename one of them"
    assert problem.message.startswith(f"{expected}: it stands at {tmp_path / 'a.yml'}:")
    assert problem.message.endswith(step)
