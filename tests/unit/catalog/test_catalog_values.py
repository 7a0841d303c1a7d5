from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from mcpmesh.catalog.loader import secret_files
from mcpmesh.catalog.values import MAX_SECRET_BYTES, looks_secret
from mcpmesh.errors import CatalogError
from mcpmesh.model.service import Remote, Stdio

if TYPE_CHECKING:
    from conftest import Folder


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${A}", "1"),
        ("x-${A}-${B}-y", "x-1-two-y"),
        ("${env:A}", "1"),
        ("${NONE:-fallback}", "fallback"),
        ("${NONE:-}", ""),
        ("${EMPTY:-fallback}", "fallback"),
        ("${EMPTY}", ""),
        ("${A:-fallback}", "1"),
        ("$${A}", "${A}"),
        ("$A $$ $", "$A $$ $"),
        ("${NONE:-a:-b c}", "a:-b c"),
        ("$$file:x", "file:x"),
    ],
)
def test_variables_are_filled_in(folder: Folder, written: str, value: str) -> None:
    folder.environ.update(A="1", B="two", EMPTY="")
    start = folder.load(folder.services(f"a: {{command: x, env: {{V: '{written}'}}}}")).services["a"].start
    assert start == Stdio("x", env={"V": SecretStr(value)}, cwd=folder.path)


def test_variables_work_in_all_texts_that_say_how_a_service_starts(folder: Folder) -> None:
    folder.environ.update(A="one", PORT="80")
    path = folder.services("""
        a: {command: "${A}", args: ["${A}", "--port=${PORT}"], cwd: "${A}"}
        b: {url: "http://${A}:${PORT}/", headers: {X: "${A}"}}
        c: {http: "${A}:${PORT}"}
        d: {tcp: {command: ["./${A}", "${PORT}"]}}
    """)
    a, b, c, d = (spec.start for spec in folder.load(path).services.values())
    assert a == Stdio("one", ("one", "--port=80"), cwd=folder.path / "one")
    assert b == Remote("http://one:80/", {"X": SecretStr("one")})
    assert c.address == "one:80"  # type: ignore[union-attr]
    assert (d.command, d.args) == (str(folder.path / "one"), ("80",))  # type: ignore[union-attr]


def test_what_a_variable_holds_is_not_expanded_again(folder: Folder) -> None:
    folder.environ.update(A="${B}", F="file:/etc/passwd")
    start = folder.load(folder.services("a: {command: x, env: {V: '${A}', W: '${F}'}}")).services["a"].start
    assert start == Stdio("x", env={"V": SecretStr("${B}"), "W": SecretStr("file:/etc/passwd")}, cwd=folder.path)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("${NONE}", "needs the variable NONE, which is not set; set it for the agent, or write ${NONE:-default}"),
        ("${NONE", "has a ${ that is never closed; write $${ for a literal one"),
        ("${A:-${B}}", "has a ${…} inside a ${…}; a default is a plain text"),
        ("${A-b}", "has a ${…} that names no variable; write ${NAME} or ${NAME:-default}, and $${ for a literal ${"),
        ("${}", "has a ${…} that names no variable; write ${NAME} or ${NAME:-default}, and $${ for a literal ${"),
        (
            "${input:key}",
            "uses an editor's own ${input…}, which is unknown here; put it into an environment variable and write "
            "${NAME} (${CATALOG_DIR} is this file's folder)",
        ),
    ],
)
def test_a_reference_that_leads_nowhere_is_a_problem(folder: Folder, written: str, message: str) -> None:
    path = folder.services(f"a:\n  command: x\n  env:\n    V: '{written}'")
    assert folder.refused(path) == [(6, "services.a.env.V", message)]


def test_a_missing_variable_hides_no_other_problem_and_makes_none(folder: Folder) -> None:
    path = folder.services("a: {url: '${NONE}', instances: x}\nb: {http: '${NONE}', route: /b}")
    assert folder.places(path) == [(3, "services.a.url"), (3, "services.a.instances"), (4, "services.b.http")]


def test_a_secret_file_is_read_without_the_newline_at_its_end(folder: Folder) -> None:
    folder.write("token", "s3cret \r\n\n")
    folder.environ["HOME"] = str(folder.path)
    path = folder.services("""
        a: {command: x, env: {T: "file:token", H: "file:~/token"}}
        b: {url: http://x/, headers: {Authorization: "file:${CATALOG_DIR}/token"}}
    """)
    catalog = folder.load(path)
    assert catalog.services["a"].start.env == {"T": SecretStr("s3cret "), "H": SecretStr("s3cret ")}  # type: ignore[union-attr]
    assert catalog.services["b"].start == Remote("http://x/", {"Authorization": SecretStr("s3cret ")})
    assert catalog.warnings == ()
    assert secret_files([path], folder.environ) == {folder.path / "token"}


def test_a_secret_that_everybody_can_read_is_a_warning(folder: Folder) -> None:
    folder.write("token", "s3cret", mode=0o644)
    path = folder.services("a: {command: x, env: {T: 'file:./token'}}")
    assert folder.load(path).warnings == (
        f"{path}:3: services.a.env.T: everybody on this machine can read ./token; chmod 600 it",
    )


def test_a_secret_file_that_cannot_be_read_is_a_problem_and_never_a_wait(folder: Folder) -> None:
    os.mkfifo(folder.path / "pipe")
    (folder.path / "big").write_bytes(b"x" * (65 << 10))
    (folder.path / "binary").write_bytes(b"\xff\xfe")
    names = ["missing", "pipe", ".", "big", "binary"]
    path = folder.services("a:\n  command: x\n  env:\n" + "".join(f"    V{n}: 'file:{n}'\n" for n in names))
    assert [message for _, _, message in folder.refused(path)] == [
        "needs the file missing, which does not exist; create it with mode 0600",
        "cannot read the file pipe (not a regular file); make it a text that you can read",
        "cannot read the file . (Is a directory); make it a text that you can read",
        "cannot read the file big (more than 64 KiB); make it a text that you can read",
        "cannot read the file binary (not a text in UTF-8); make it a text that you can read",
    ]


def test_a_secret_on_a_command_line_is_a_warning(folder: Folder) -> None:
    folder.environ.update(API_TOKEN="s3cret", REGION="eu")
    path = folder.services("a: {command: x, args: ['--token=${API_TOKEN}', '${REGION}']}")
    assert folder.load(path).warnings == (
        f"{path}:3: services.a.args[0]: shows ${{API_TOKEN}} to everybody on this machine; "
        "pass a secret in env or headers",
    )


def test_no_value_gets_into_a_message_or_a_repr(folder: Folder) -> None:
    secret = "hunter2-hunter2"
    folder.environ.update(S=secret, N=f"{secret}\0", L=f"{secret}\r\n")
    folder.write("s", secret, mode=0o644)
    good = folder.services("""
        a: {command: x, env: {A: "${S}", B: "file:s", C: hunter2-hunter2}, allow: [nobody]}
        b: {url: http://x/, headers: {A: "Bearer ${S}"}}
    """)
    assert secret not in repr(folder.load(good))
    bad = folder.services("""
        a: {command: "${N}", args: ["${N}"], env: {A: "${N}", "A=": "${S}"}, cwd: "${N}", isolation: "${S}"}
        b: {url: "${S}", headers: {A: "${L}"}}
        c: {url: "http://${S}@x/", headers: {A: ["${S}"], B: "${S}"}}
        d: {http: "${S}", route: "${S}", instances: "${S}"}
        e: {command: x, env: ["A=${S}", hunter2-hunter2], timeouts: {start: "${S}"}, allow: ["${S}"]}
        f: {tcp: {command: ["${N}"]}, balance: "${S}", env: {A: "file:${S}/x"}}
    """)
    with pytest.raises(CatalogError) as caught:
        folder.load(bad)
    assert len(caught.value.problems) > 15
    chain: BaseException | None = caught.value
    while chain is not None:
        assert secret not in str(chain)
        chain = chain.__cause__ or chain.__context__


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("API_TOKEN", True),
        ("client-secret", True),
        ("PASSWD", True),
        ("apikey", True),
        ("x-api-key", True),
        ("SSH_PRIVATE_KEY", True),
        ("Authorization", True),
        ("Cookie", True),
        ("AWS_CREDENTIALS", True),
        ("KEY", False),
        ("REGION", False),
    ],
)
def test_a_secret_is_recognized_by_its_name(name: str, secret: bool) -> None:
    assert looks_secret(name) == secret


def test_a_secret_file_has_at_most_64_kib(folder: Folder) -> None:
    folder.write("token", "t" * MAX_SECRET_BYTES)
    path = folder.services("a: {command: x, env: {T: 'file:token'}}")
    start = folder.load(path).services["a"].start
    assert start == Stdio("x", env={"T": SecretStr("t" * MAX_SECRET_BYTES)}, cwd=folder.path)
    folder.write("token", "t" * (MAX_SECRET_BYTES + 1))
    assert folder.places(path) == [(3, "services.a.env.T")]


@pytest.mark.parametrize(
    ("cwd", "path"), [("~", "/home/me"), ("~/w", "/home/me/w"), ("/srv", "/srv"), ("${HOME}/w", "/home/me/w")]
)
def test_a_tilde_is_the_home_folder(folder: Folder, cwd: str, path: str) -> None:
    folder.environ["HOME"] = "/home/me"
    catalog = folder.load(folder.services(f"a: {{command: x, cwd: '{cwd}'}}"))
    assert str(catalog.services["a"].start.cwd) == path  # type: ignore[union-attr]


def test_only_the_texts_that_start_a_service_are_expanded(folder: Folder) -> None:
    folder.environ["A"] = "expanded"
    spec = folder.load(folder.services("a: {command: x, tags: ['${A}'], x-note: '${NONE}'}")).services["a"]
    assert spec.tags == ("${A}",)
    assert folder.places(folder.services("a: {command: x, route: '/${A}'}")) == [(3, "services.a.route")]


def test_a_file_reference_is_read_in_secrets_alone(folder: Folder) -> None:
    folder.write("token", "t")
    start = folder.load(folder.services("a: {command: x, args: ['file:token', '$$file:token']}")).services["a"].start
    assert start == Stdio("x", ("file:token", "$$file:token"), cwd=folder.path)


def test_the_files_of_disabled_services_and_of_unreadable_catalogs_are_not_watched(folder: Folder) -> None:
    path = folder.services("a: {command: x, env: {T: 'file:t'}, disabled: true}\nb: {command: x, env: {T: 'file:u'}}")
    assert secret_files([path], {}) == {folder.path / "u"}
    assert secret_files([path, folder.path / "missing.yaml"], {}) == frozenset()


def test_a_default_of_a_variable_that_looks_secret_is_warned_of_on_a_command_line(folder: Folder) -> None:
    path = folder.services("a: {command: x, args: ['${TOKEN:-none}'], env: {T: '${TOKEN:-none}'}}")
    assert len(folder.load(path).warnings) == 1


@pytest.mark.parametrize("name", ["workspaceFolder:a", "command:pick", "config:a.b"])
def test_a_reference_of_an_editor_is_named_as_such(folder: Folder, name: str) -> None:
    path = folder.services(f"a: {{command: x, env: {{V: '${{{name}}}'}}}}")
    [(_, _, message)] = folder.refused(path)
    assert message.startswith(f"uses an editor's own ${{{name.split(':')[0]}…}}, which is unknown here; ")
