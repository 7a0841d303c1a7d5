"""Values at a limit are accepted, and values beyond it are refused where they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from mcpmesh.catalog.field_types import duration_text
from mcpmesh.model.service import Health, Plain, Protocol, Remote, Stdio, Timeouts, Upstream

if TYPE_CHECKING:
    from conftest import Folder

DURATION = "has to be a duration such as 30s, 5m or 1m30s, or a number of seconds"
LENGTH = "has to be longer than 0 seconds and at most a year"
ROUTE = "has to be a path such as /api (letters, digits and -._~ between slashes), or false for none"
IMAGE = "has to be the name of an image such as mcp/time:1.0 or ghcr.io/owner/name@sha256:…"
URL = "has to be a URL such as https://example.com/mcp"
ADDRESS = "has to be an address such as 127.0.0.1:8080"
SERVICE = "has to be the name of a service: lower-case letters, digits and -"
NAME = "needs a name of at most 63 lower-case letters, digits and -"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1", 1.0),
        ("0.001", 0.001),
        ("1ms", 0.001),
        ("500ms", 0.5),
        ("2s", 2.0),
        ("1m30s", 90.0),
        ("1.5m", 90.0),
        ("1h", 3600.0),
        ("1d", 86_400.0),
        ("1d1h1m1s1ms", 90_061.001),
        ("366d", 31_622_400.0),
        ("31622400", 31_622_400.0),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_has_units(folder: Folder, written: str, seconds: float) -> None:
    path = folder.services(f"a: {{command: x, timeouts: {{drain: {written}}}}}")
    assert folder.load(path).services["a"].timeouts == Timeouts(drain=pytest.approx(seconds))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.5s"), (60.0, "60s"), (3599.0, "3599s"), (3600.0, "1h"), (86_400.0, "24h")]
)
def test_a_duration_in_a_description_is_one_that_a_catalog_can_have(folder: Folder, seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
    path = folder.services(f"a: {{command: x, timeouts: {{start: {text}}}}}")
    assert folder.load(path).services["a"].timeouts.start == seconds


def test_values_at_their_limits_are_accepted(folder: Folder) -> None:
    tag, name, header = "t" * 255, "n" * 63, "H" * 256
    path = folder.services(f"""
        {name}: {{command: x, instances: 100, tags: [{tag}], health: {{interval: 100ms}}}}
        one: {{command: x, instances: 1, env: {{a: ""}}}}
        ports: {{command: x, upstreams: [{{service: low, port: 1}}, {{service: high, port: 65535}}]}}
        low: {{tcp: "x:1", allow: [ports]}}
        high: {{tcp: "x:65535", allow: [ports]}}
        remote: {{url: "http://x:65535", headers: {{{header}: ""}}}}
    """)
    longest, one, ports, low, high, remote = folder.load(path).services.values()
    assert (longest.name, longest.instances, longest.tags, longest.health) == (name, 100, (tag,), Health(interval=0.1))
    assert (one.instances, one.start) == (1, Stdio("x", env={"a": SecretStr("")}, cwd=folder.path))
    assert ports.upstreams == (Upstream("low", 1), Upstream("high", 65_535))
    assert low.start == Plain(Protocol.TCP, address="x:1", cwd=folder.path)
    assert high.start == Plain(Protocol.TCP, address="x:65535", cwd=folder.path)
    assert remote.start == Remote("http://x:65535", {header: SecretStr("")})


@pytest.mark.parametrize(
    ("service", "field", "message"),
    [
        ("{command: x, instances: 0}", "instances", "has to be at least 1"),
        ("{command: x, instances: many}", "instances", "has to be a whole number"),
        (f"{{command: x, tags: [{'t' * 256}]}}", "tags[0]", "is too long"),
        ("{command: x, tags: ['']}", "tags[0]", "must not be empty"),
        ("{command: x, timeouts: {start: 0}}", "timeouts.start", LENGTH),
        ("{command: x, timeouts: {start: 0s}}", "timeouts.start", LENGTH),
        ("{command: x, timeouts: {start: 31622401}}", "timeouts.start", LENGTH),
        ("{command: x, timeouts: {start: 1w}}", "timeouts.start", DURATION),
        ("{command: x, timeouts: {start: 1s x}}", "timeouts.start", DURATION),
        ("{command: x, timeouts: {start: '1'}}", "timeouts.start", DURATION),
        ("{command: x, timeouts: {start: [1]}}", "timeouts.start", "has to be a number"),
        ("{command: x, health: {interval: 99ms}}", "health.interval", "has to be at least 100ms"),
        ("{command: x, health: {interval: soon}}", "health.interval", DURATION),
        (
            "{command: x, timeouts: {pause: 1s}}",
            "timeouts.pause",
            "is no key of a mesh.yaml; the keys here are drain, request or start, and those that begin with x-",
        ),
        ("{command: x, timeouts: {strat: 1s}}", "timeouts.strat", 'is no key of a mesh.yaml; did you mean "start"?'),
        (
            "{command: x, timeouts: {url: x}}",
            "timeouts.url",
            'is not a key of this mapping; put "url" one level up, beside the other keys of the service',
        ),
        ("{command: x, upstreams: [{port: 1}]}", "upstreams[0].service", "is missing"),
        ("{command: x, upstreams: [5]}", "upstreams[0]", "has to be a mapping of keys to values"),
        ("{command: [' ']}", "command", "has to name a program"),
        ("{command: x, cwd: [y]}", "cwd", "has to be a text"),
        ("{command: x, isolation: none}", "isolation", "has to be session, shared or request"),
        ("{command: x, route: 3}", "route", "has to be a path such as /api, or false for none"),
        ("{command: x, route: /a/./b}", "route", ROUTE),
        ("{command: x, route: /a//b}", "route", ROUTE),
        ("{command: x, route: '/ä'}", "route", ROUTE),
        ("{command: x, allow: ['a*']}", "allow[0]", 'has to be the name of a service, or "*" for everybody'),
        ("{command: x, egress: 1}", "egress", "has to be true or false"),
        (
            "{command: x, env: {'': b}}",
            "env",
            "has a name that no environment variable can have; use letters, digits and _",
        ),
        (
            '{command: x, env: {"a\\tb": b}}',
            "env",
            "has a name that no environment variable can have; use letters, digits and _",
        ),
        ("{image: Time}", "image", IMAGE),
        ("{image: 'mcp time'}", "image", IMAGE),
        ("{image: 'mcp/time@sha256:abc'}", "image", IMAGE),
        ("{image: x, cwd: '', tags: x}", "tags", "has to be a list, such as [one, two]"),
        ("{http: 'x:'}", "http", ADDRESS),
        ("{http: ':80'}", "http", ADDRESS),
        ("{http: 'x:80/y'}", "http", ADDRESS),
        ("{http: 'x:65536'}", "http", ADDRESS),
        ("{url: 'http://x:0/'}", "url", URL),
        ("{url: 'http://x:65536/'}", "url", URL),
        ("{url: 'http://x/ä'}", "url", URL),
        ("{url: 'http://x/a b'}", "url", URL),
        ('{url: "http://x/\\u007f"}', "url", URL),
        (
            "{url: 'http://u:p@x/'}",
            "url",
            "holds a password, which logs would show; put it in headers, as Authorization",
        ),
        ("{http: 'x:1', health: {path: '/ä'}}", "health.path", "has to be a path such as /healthz"),
        ("{http: 'x:1', health: {path: '/a b'}}", "health.path", "has to be a path such as /healthz"),
        (
            f"{{url: 'http://x/', headers: {{{'H' * 257}: b}}}}",
            "headers",
            "has a name that no HTTP header can have; use letters, digits and -",
        ),
        (
            "{url: 'http://x/', headers: {Transfer-Encoding: b}}",
            "headers",
            "sets Transfer-Encoding, which belongs to the connection; remove it",
        ),
        ('{url: "http://x/", headers: {A: "b\\rc"}}', "headers", "has a line break in A; a header is one line"),
        ('{url: "http://x/", headers: {A: "b\\0c"}}', "headers", "has a line break in A; a header is one line"),
        ("{tcp: {command: x, args: y}}", "tcp.args", "has to be a list, such as [one, two]"),
        (
            "{http: {address: 'x:1', command: y}}",
            "http",
            "needs either an address where it runs already, or a command that is launched",
        ),
        ("{http: {address: 'x:1', args: [y]}}", "http.args", "applies to command; remove it"),
        ("{tcp: {command: x}, env: {PORT: 1}}", "env.PORT", "is set by the mesh for each instance; remove it and "
         "listen on that port"),
        ("{tcp: 'x:1', instances: 2}", "instances", "applies to a program that is launched; a service at an address "
         "is one instance"),
        ("{url: 'http://x/', health: {path: /x}}", "health.path", "applies to http alone; other services are checked "
         "in their own protocol"),
        ("{url: 'http://x/', args: [y]}", "args", "applies to command or image, and this service has url; remove it"),
        ("{tcp: 'x:1', isolation: shared}", "isolation", "applies to command or image, and this service has tcp; "
         "remove it"),
        ("{tcp: 'x:1', args: [y]}", "args", "applies to command or image, and this service has tcp; put it into tcp"),
        ("{image: x, headers: {A: b}}", "headers", "applies to url, and this service has image; remove it"),
    ],
)  # fmt: skip
def test_values_beyond_their_limits_are_refused(folder: Folder, service: str, field: str, message: str) -> None:
    assert folder.refused(folder.services(f"a: {service}")) == [(3, f"services.a.{field}", message)]


def test_an_upstream_has_to_have_the_name_of_a_service(folder: Folder) -> None:
    assert folder.refused(folder.services("a: {command: x, upstreams: ['b c']}")) == [
        (3, "services.a.upstreams[0]", SERVICE),
        (3, "services.a.upstreams[0]", "names b c, which is no service of this catalog; add it, or remove it here"),
    ]


def test_a_port_of_an_upstream_has_the_limits_of_a_port(folder: Folder) -> None:
    path = folder.services("""
        a: {command: x, upstreams: [{service: b, port: 0}, {service: c, port: 65536}]}
        b: {tcp: "x:1", allow: ["*"]}
        c: {tcp: "x:1", allow: ["*"]}
    """)
    assert folder.refused(path) == [
        (4, "services.a.upstreams[0].port", "has to be at least 1"),
        (4, "services.a.upstreams[1].port", "has to be at most 65535"),
    ]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("n" * 64, f', such as "{"n" * 63}"'),
        ("a-", ', such as "a"'),
        ("-a", ', such as "a"'),
        ("a_b", ', such as "a-b"'),
        ("'?'", ""),
    ],
)
def test_a_name_that_no_service_can_have_is_refused_with_one_that_it_can(folder: Folder, name: str, hint: str) -> None:
    name, written = name.strip("'"), name
    assert folder.refused(folder.services(f"{written}: {{command: x}}")) == [(3, f"services.{name}", NAME + hint)]


@pytest.mark.parametrize(
    "image", ["time", "mcp/time:1.0", "ghcr.io/owner/name:v_1.2", "localhost:5000/x", f"mcp/time@sha256:{'0a' * 32}"]
)
def test_the_name_of_an_image_is_as_docker_has_it(folder: Folder, image: str) -> None:
    spec = folder.load(folder.services(f"a: {{image: '{image}'}}")).services["a"]
    assert (spec.start, spec.route) == (Stdio("", cwd=folder.path, image=image), "/mcp/a")


@pytest.mark.parametrize(
    ("base", "over", "start"),
    [
        ("{http: 'x:1'}", "{http: {command: /serve}}", Plain(Protocol.HTTP, command="/serve")),
        ("{http: {command: /serve}}", "{http: 'x:1'}", Plain(Protocol.HTTP, address="x:1")),
        ("{http: {command: /serve}}", "{http: {args: [-q]}}", Plain(Protocol.HTTP, command="/serve", args=("-q",))),
        ("{http: {command: /serve, args: [-q]}}", "{http: {args: null}}", Plain(Protocol.HTTP, command="/serve")),
    ],
)
def test_an_overlay_merges_two_mappings_and_replaces_anything_else(
    folder: Folder, base: str, over: str, start: Plain
) -> None:
    first = folder.services(f"a: {base}")
    second = folder.write("over.yaml", f"version: 1\nservices: {{a: {over}}}")
    found = folder.load(first, second).services["a"].start
    assert isinstance(found, Plain)
    assert (found.address, found.command, found.args) == (start.address, start.command, start.args)
