"""What the mesh relies on in Kong's Admin API: a real Kong where one is given, else the stand-in."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from tests.support.kong.running import RunningKong

from mcpmesh.errors import Broken, Refused, Unreachable
from mcpmesh.ingress.kong.document import document_from_content, document_from_text, render_content
from mcpmesh.ingress.kong.kong_admin import KongAdmin
from mcpmesh.ingress.kong.plugins import plugins
from mcpmesh.ingress.kong.user_documents import UserDocuments, read_documents
from mcpmesh.model.service import Plain, Protocol, ServiceSpec, Stdio
from mcpmesh.settings import KongSettings

FILES = ServiceSpec("files", Stdio("server"), route="/mcp/files")
WEB = ServiceSpec("web", Plain(Protocol.HTTP, command="web"), route="/web")
BOTH = {"files": (FILES, 7000), "web": (WEB, 7001)}


def of_both(mesh: str = "m") -> dict[str, object]:
    return render_content(mesh, BOTH, plugins(KongSettings()))


async def test_the_version_of_kong_is_read(kong: RunningKong, admin: KongAdmin) -> None:
    assert (await admin.version(kong.admin)).startswith("3.")


async def test_a_posted_document_is_in_force_and_has_the_hash_that_we_compute(
    kong: RunningKong, admin: KongAdmin
) -> None:
    document = document_from_content(of_both())
    assert await admin.hash(kong.admin) != document.hash
    await admin.post(kong.admin, document)
    assert await admin.hash(kong.admin) == document.hash
    found = await admin.services(kong.admin, "m")
    assert {name: held.port for name, held in found.items()} == {"files": 7000, "web": 7001}
    assert all(len(held.digest) == 12 for held in found.values())


async def test_a_document_posted_again_has_the_same_hash(kong: RunningKong, admin: KongAdmin) -> None:
    await admin.post(kong.admin, document_from_content(of_both()))
    first = await admin.hash(kong.admin)
    await admin.post(kong.admin, document_from_content(of_both()))
    assert await admin.hash(kong.admin) == first


async def test_a_document_without_entities_has_the_hash_that_we_expect(kong: RunningKong, admin: KongAdmin) -> None:
    bare = document_from_content(
        render_content("m", {}, plugins(KongSettings(prometheus=False, correlation_header="")))
    )
    await admin.post(kong.admin, bare)
    assert await admin.hash(kong.admin) == bare.hash


async def test_a_document_that_others_post_has_another_hash(kong: RunningKong, admin: KongAdmin) -> None:
    document = document_from_content(of_both())
    await admin.post(kong.admin, document)
    # As an object with one other field, the way other programs post it.
    theirs = {**of_both(), "services": [{"name": "theirs", "host": "127.0.0.1", "port": 7009}]}
    answer = httpx.post(f"{kong.admin}/config", json=theirs, trust_env=False, timeout=60)
    assert answer.status_code == httpx.codes.CREATED
    assert await admin.hash(kong.admin) != document.hash
    assert await admin.services(kong.admin, "m") == {}


async def test_only_services_with_the_tag_of_that_mesh_are_listed(kong: RunningKong, admin: KongAdmin) -> None:
    await admin.post(kong.admin, document_from_content(of_both("other")))
    assert await admin.services(kong.admin, "m") == {}
    assert set(await admin.services(kong.admin, "other")) == {"files", "web"}


async def test_services_on_several_pages_are_all_listed(kong: RunningKong, admin: KongAdmin) -> None:
    many = {f"s{number}": (ServiceSpec(f"s{number}", Stdio("x"), route=f"/s{number}"), 7000) for number in range(1100)}
    await admin.post(kong.admin, document_from_content(render_content("m", many, [])))
    assert len(await admin.services(kong.admin, "m")) == 1100


async def test_a_refused_document_changes_nothing_and_the_error_names_entity_and_field(
    kong: RunningKong, admin: KongAdmin
) -> None:
    await admin.post(kong.admin, document_from_content(of_both()))
    before = await admin.hash(kong.admin)
    wrong = of_both() | {
        "services": [
            {"name": "files", "host": "127.0.0.1", "read_timeout": -1, "routes": [{"name": "r", "paths": ["x"]}]}
        ],
        "plugins": [{"name": "key-auth", "config": {"key_in_heder": True}}],
    }
    with pytest.raises(Refused) as caught:
        await admin.post(kong.admin, document_from_content(wrong))
    message = str(caught.value)
    assert "goes on with what it had" in message
    assert 'service "files" read_timeout: value should be between 1 and 2147483646' in message
    assert 'route "r" paths' in message and "should start with: /" in message
    assert 'plugin "key-auth" config.key_in_heder: unknown field' in message
    assert await admin.hash(kong.admin) == before


@pytest.mark.parametrize(
    ("entities", "expected"),
    [
        ({"plugins": [{"name": "no-such-plugin"}]}, "plugin 'no-such-plugin' not enabled"),
        ({"servces": []}, "servces: unknown field"),
        ({"plugins": [{"name": "key-auth", "service": "nobody"}]}, "invalid reference 'service: nobody'"),
        ({"services": [{"name": "a", "host": "h"}, {"name": "a", "host": "h"}]}, "uniqueness violation"),
        ({"services": [{"name": "a"}]}, 'service "a" host: required field missing'),
        ({"services": [{"name": "a", "host": "h", "tags": ["a/b"]}]}, "invalid tag 'a/b'"),
        ({"routes": [{"name": "r", "paths": ["/a//b"]}]}, "must not have empty segments"),
        ({"plugins": [{"name": "acl"}]}, "'config.allow', 'config.deny'"),
    ],
)
async def test_every_reason_of_kong_is_in_the_error(
    kong: RunningKong, admin: KongAdmin, entities: dict[str, object], expected: str
) -> None:
    with pytest.raises(Refused) as caught:
        await admin.post(kong.admin, document_from_content({"_format_version": "3.0", **entities}))
    assert expected in str(caught.value)


@pytest.mark.parametrize("text", ["{", "a: b: c"])
async def test_a_text_that_is_no_document_is_refused(kong: RunningKong, admin: KongAdmin, text: str) -> None:
    with pytest.raises(Refused, match="refuses it"):
        await admin.post(kong.admin, document_from_text(text))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"correlation_header": "", "prometheus": False},
        {"key_auth": True, "acl_allow": "a,b"},
        {"jwt": True},
        {"calls_per_minute": 10, "request_megabytes": 1},
        {"cors_origins": "https://app.example,https://two.example"},
        {"traces_url": "http://127.0.0.1:4318/v1/traces", "traces_headers": "authorization=Bearer x"},
    ],
)
async def test_kong_accepts_every_plugin_of_the_settings(
    kong: RunningKong, admin: KongAdmin, changes: dict[str, object]
) -> None:
    document = document_from_content(render_content("m", BOTH, plugins(KongSettings.model_validate(changes))))
    await admin.post(kong.admin, document)
    assert await admin.hash(kong.admin) == document.hash


async def test_kong_accepts_a_users_document_merged_with_ours(
    kong: RunningKong, admin: KongAdmin, tmp_path: Path
) -> None:
    (tmp_path / "keys.yml").write_text(
        '_format_version: "3.0"\n'
        "consumers:\n"
        "- username: ada\n"
        "  keyauth_credentials: [{key: sesame}]\n"
        "  acls: [{group: team-a}]\n"
        "plugins:\n"
        "- {name: key-auth, service: files}\n"
        "- {name: acl, route: web, config: {allow: [team-a]}}\n"
    )
    found: UserDocuments = read_documents(tmp_path)
    found.check_conflicts(of_both())
    document = document_from_content(found.merged_with(of_both()))
    await admin.post(kong.admin, document)
    assert await admin.hash(kong.admin) == document.hash


async def test_what_kong_has_can_be_read_back(kong: RunningKong, admin: KongAdmin) -> None:
    await admin.post(kong.admin, document_from_content(of_both()))
    exported = httpx.get(f"{kong.admin}/config", trust_env=False, timeout=60).json()["config"]
    assert "name: files" in exported and "mcpmesh-owner:m" in exported
    (route,) = httpx.get(f"{kong.admin}/routes?tags=mcpmesh-owner:m&size=1", trust_env=False, timeout=60).json()["data"]
    assert route["request_buffering"] is False and route["response_buffering"] is False and route["strip_path"] is True


async def test_single_entities_cannot_be_written(kong: RunningKong) -> None:
    answer = httpx.post(f"{kong.admin}/services", json={"name": "a", "host": "h"}, trust_env=False, timeout=60)
    assert answer.status_code == httpx.codes.METHOD_NOT_ALLOWED


async def test_calls_are_counted_where_the_settings_say_so(kong: RunningKong, admin: KongAdmin) -> None:
    await admin.post(kong.admin, document_from_content(of_both()))
    assert httpx.get(f"{kong.admin}/metrics", trust_env=False, timeout=60).status_code == httpx.codes.OK


# --- other programs, and a Kong with a problem


async def test_without_an_answer_kong_is_unreachable(admin: KongAdmin) -> None:
    with pytest.raises(Unreachable, match="cannot reach the Admin API of Kong"):
        await admin.hash("http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"<html>", Broken),
        (200, b'{"database": {"reachable": true}}', Broken),
        (404, b"{}", Broken),
        (500, b"", Broken),
        (401, b'{"message": "who are you"}', Refused),
    ],
)
async def test_another_program_at_the_address_is_an_error(status: int, body: bytes, error: type[Exception]) -> None:
    admin = await answering(status, body)
    with pytest.raises(error, match="Kong"):
        await admin.hash("http://kong:8001")
    await admin.close()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (429, {"message": "Currently loading previous configuration"}, Broken),
        (503, {"message": "Kong currently exiting"}, Broken),
        (413, {"message": "Configuration does not fit in LMDB database"}, Refused),
        (400, {"message": "this endpoint is only available when Kong is configured to not use a database"}, Refused),
    ],
)
async def test_the_status_of_a_refused_post_decides_whether_a_retry_may_help(
    status: int, body: dict[str, str], error: type[Exception]
) -> None:
    admin = await answering(status, json.dumps(body).encode())
    with pytest.raises(error, match=body["message"]):
        await admin.post("http://kong:8001", document_from_content({"_format_version": "3.0"}))
    await admin.close()


async def answering(status: int, body: bytes) -> KongAdmin:
    """A client whose peer gives this answer to every request."""
    return KongAdmin(httpx.MockTransport(lambda request: httpx.Response(status, content=body)))
