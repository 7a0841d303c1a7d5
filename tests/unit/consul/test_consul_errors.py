"""The errors for a Consul that does not answer, is broken, or refuses."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from pydantic import SecretStr

from mcpmesh.consul.client import Consul
from mcpmesh.consul.transport import Http
from mcpmesh.errors import Broken, PeerError, Refused, SettingsError, Unreachable

Handler = Callable[[httpx.Request], httpx.Response]


async def ask(handler: Handler, method: str = "intentions", *arguments: str, token: SecretStr | None = None) -> object:
    consul = Consul("http://127.0.0.1:8500", token, transport=httpx.MockTransport(handler))
    try:
        return await getattr(consul, method)(*arguments)
    finally:
        await consul.close()


def answering(code: int, text: str) -> Handler:
    return lambda request: httpx.Response(code, text=text)


@pytest.mark.parametrize(
    ("code", "text", "verdict"),
    [
        (500, "No cluster leader", Broken),
        (503, "", Broken),
        (429, "Your IP is issuing too many concurrent connections", Broken),
        (200, "<html>a captive portal</html>", Broken),
        (200, "[1]", Broken),
        (400, "Request decoding failed", Refused),
        (403, "Permission denied: token with AccessorID 'x' lacks permission", Refused),
        (500, "rpc error: Permission denied", Refused),
        (404, "page not found", Refused),
    ],
)
async def test_the_status_of_an_answer_decides_whether_a_retry_may_help(
    code: int, text: str, verdict: type[PeerError]
) -> None:
    with pytest.raises(verdict) as error:
        await ask(answering(code, text))
    assert str(error.value).startswith("cannot read the intentions: ")
    assert "http://127.0.0.1:8500" in str(error.value)


@pytest.mark.parametrize("call", [("intentions",), ("entries", "m"), ("registrations", "m")])
@pytest.mark.parametrize("text", ["null", "{}", "[]", '"ok"', '{"error": 1}'])
async def test_an_answer_of_another_shape_is_an_error(call: tuple[str, ...], text: str) -> None:
    if text == ("{}" if call[0] == "registrations" else "[]"):
        assert not await ask(answering(200, text), *call)
    else:
        with pytest.raises(Broken, match="is the address right"):
            await ask(answering(200, text), *call)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (httpx.ConnectError("refused"), "refused"),
        (httpx.ReadTimeout(""), "ReadTimeout"),
        (httpx.RemoteProtocolError("gone"), "gone"),
    ],
)
async def test_no_answer_is_unreachable(error: httpx.TransportError, reason: str) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(Unreachable) as caught:
        await ask(fail)
    assert str(caught.value) == (
        f"cannot read the intentions: no answer from Consul at http://127.0.0.1:8500 ({reason}); is it running?"
    )


async def test_a_missing_permission_is_an_error_with_the_next_step() -> None:
    with pytest.raises(Refused, match=r"403 Permission denied: .*MCPMESH_CONSUL__TOKEN"):
        await ask(answering(403, "Permission denied: x"))


async def test_the_token_is_sent_only_in_the_header() -> None:
    requests: list[httpx.Request] = []

    def see(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json=[])

    await ask(see, token=SecretStr("s3cret"))
    assert requests[0].headers["X-Consul-Token"] == "s3cret"
    assert "s3cret" not in str(requests[0].url)


async def test_a_long_answer_is_shortened_in_the_error() -> None:
    with pytest.raises(Broken) as error:
        await ask(answering(500, "x\n" * 100_000))
    assert str(error.value).endswith(" says 500 " + "x " * 250)


async def test_a_read_of_two_answers_fails_when_one_does() -> None:
    def half(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/http-route"):
            return httpx.Response(500, text="No cluster leader")
        return httpx.Response(200, json=[])

    with pytest.raises(Broken, match="cannot read the config entries"):
        await ask(half, "entries", "m")


async def test_a_consul_without_xds_is_refused_with_the_next_step() -> None:
    answer = {"Config": {"Version": "1.22.5"}, "xDS": {"Ports": {"Plaintext": -1, "TLS": -1}}}
    with pytest.raises(Refused, match=r"serves no xDS; set ports\.grpc"):
        await ask(lambda request: httpx.Response(200, json=answer), "grpc_address")


async def test_too_many_lost_races_are_an_error() -> None:
    entry = {"Kind": "service-intentions", "Name": "b", "ModifyIndex": 1, "Sources": [{"Name": "x", "Action": "deny"}]}

    def racing(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(500, text="cannot use legacy intention API")
        return httpx.Response(200, json=entry if request.method == "GET" else False)

    with pytest.raises(Broken, match="others keep changing it"):
        await ask(racing, "allow", "a", "b", "m")


async def test_a_failing_consul_is_not_mistaken_for_an_existing_intention() -> None:
    entry = {"Kind": "service-intentions", "Name": "b", "ModifyIndex": 1}
    sources = [{"Name": "x", "Action": "deny", "LegacyID": "1"}]

    def unwell(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(500, text="leadership lost while committing log")
        return httpx.Response(200, json={**entry, "Sources": sources})

    with pytest.raises(Broken, match=r"cannot allow a => b: .*leadership lost"):
        await ask(unwell, "allow", "a", "b", "m")


@pytest.mark.parametrize(
    "address", ["ftp://127.0.0.1:1", "http://", "http://h:1/path", "http://u:p@h:1", "http://h:port"]
)
def test_a_malformed_address_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match=r"as Consul's address.* write http://host:port"):
        Consul(address)


async def test_an_address_needs_no_scheme() -> None:
    consul = Consul("127.0.0.1:8500")
    assert consul.address == "http://127.0.0.1:8500"
    await consul.close()


async def test_without_a_certificate_authority_there_is_no_trust_domain() -> None:
    assert await ask(answering(200, '{"Roots": null, "TrustDomain": null}'), "trust_domain") == ""
    assert await ask(answering(200, '{"TrustDomain": "a.consul"}'), "trust_domain") == "a.consul"


async def test_the_xds_address_has_the_host_of_consul() -> None:
    answer = {"xDS": {"Ports": {"Plaintext": 8502}}}
    assert await ask(lambda request: httpx.Response(200, json=answer), "grpc_address") == "127.0.0.1:8502"


async def test_a_denial_by_default_is_written_unless_there_is_an_intention_for_the_pair() -> None:
    bodies: list[object] = []

    def created(request: httpx.Request) -> httpx.Response:
        bodies.append((request.method, request.url.path, json.loads(request.content)))
        return httpx.Response(200, json={"ID": "1"})

    await ask(created, "deny_by_default")
    assert bodies == [
        (
            "POST",
            "/v1/connect/intentions",
            {
                "SourceName": "*",
                "DestinationName": "*",
                "SourceType": "consul",
                "Action": "deny",
                "Description": "what no other intention allows",
            },
        )
    ]


@pytest.mark.parametrize(("source", "refused"), [("*", False), ("a", True)])
async def test_a_refused_denial_is_an_error_only_where_the_pair_has_no_intention(source: str, refused: bool) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(500, text="duplicate intention found")
        return httpx.Response(200, json={"Sources": [{"Name": source}]})

    if refused:
        with pytest.raises(Broken, match=r"cannot deny \* => \*: .*duplicate intention found"):
            await ask(handle, "deny_by_default")
    else:
        await ask(handle, "deny_by_default")


async def test_a_blocking_query_gives_consul_its_own_time_and_some_more() -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, headers={"X-Consul-Index": "7"})

    http = Http("http://127.0.0.1:8500", None, httpx.MockTransport(answer))
    assert await http.blocking("/v1/health/state/any", 5, 16.0) == 7
    await http.close()
    assert str(requests[0].url) == "http://127.0.0.1:8500/v1/health/state/any?index=5&wait=16000ms"
    # Consul adds up to a sixteenth to the wait; ten seconds more are for the answer.
    assert requests[0].extensions["timeout"] == {"connect": 3.0, "read": 27.0, "write": 27.0, "pool": 27.0}


@pytest.mark.parametrize("method", ["get", "put", "post", "delete"])
async def test_the_librarys_methods_send_their_query_and_body(method: str) -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, text="yes")

    http = Http("http://127.0.0.1:8500", None, httpx.MockTransport(answer))
    more = {} if method == "get" else {"data": "text"}
    found = await getattr(http, method)(lambda response: response.body, "/v1/x", [("a", "1")], headers={}, **more)
    await http.close()
    assert (found, requests[0].method, str(requests[0].url)) == (
        "yes",
        method.upper(),
        "http://127.0.0.1:8500/v1/x?a=1",
    )
    assert requests[0].content == (b"" if method == "get" else b"text")
