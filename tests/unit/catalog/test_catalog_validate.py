from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mcpmesh.errors import CatalogError

if TYPE_CHECKING:
    from conftest import Folder


def test_all_problems_of_a_file_are_reported_at_once_with_their_lines(folder: Folder) -> None:
    path = folder.write(
        "mesh.yaml",
        """\
        version: 1
        servces: {}
        services:
          Files:
            comand: x
          a:
            command: x
            instances: "2"
            isolation: shard
            timeouts:
              start: soon
          b: {http: localhost, args: [x]}
    """,
    )
    assert folder.refused(path) == [
        (2, "servces", 'is no key of a mesh.yaml; did you mean "services"?'),
        (4, "services.Files", 'needs a name of at most 63 lower-case letters, digits and -, such as "files"'),
        (5, "services.Files.comand", 'is no key of a mesh.yaml; did you mean "command"?'),
        (8, "services.a.instances", "has to be a whole number"),
        (9, "services.a.isolation", 'has to be session, shared or request; did you mean "shared"?'),
        (11, "services.a.timeouts.start", "has to be a duration such as 30s, 5m or 1m30s, or a number of seconds"),
        (12, "services.b.args", "applies to command or image, and this service has http; put it into http"),
        (12, "services.b.http", "has to be an address such as 127.0.0.1:8080"),
    ]


def test_the_error_is_a_sentence_with_file_line_and_field(folder: Folder) -> None:
    path = folder.services("a: {command: x, instances: 0}")
    with pytest.raises(CatalogError) as caught:
        folder.load(path)
    assert str(caught.value) == f"cannot use the catalog:\n  {path}:3: services.a.instances: has to be at least 1"


def test_each_service_starts_in_exactly_one_way(folder: Folder) -> None:
    path = folder.services("a: {tags: [x]}\nb: {command: x, url: http://x/}\nc: {http: {args: [x]}}")
    assert folder.refused(path) == [
        (3, "services.a", "does not say how it starts; give it command, image, url, http or tcp"),
        (4, "services.b.url", "cannot stand beside command; keep one (null removes an earlier file's)"),
        (5, "services.c.http", "needs either an address where it runs already, or a command that is launched"),
        (5, "services.c.http.args", "applies to command; remove it"),
    ]


@pytest.mark.parametrize(
    ("service", "field", "message"),
    [
        ("{url: 'http://x/', env: {A: b}}", "env", "applies to a program, and this service runs elsewhere; remove it"),
        ("{url: 'http://x/', cwd: x}", "cwd", "applies to a program, and this service runs elsewhere; remove it"),
        (
            "{url: 'http://x/', isolation: shared}",
            "isolation",
            "applies to command or image, and this service has url; remove it",
        ),
        ("{command: x, headers: {A: b}}", "headers", "applies to url, and this service has command; remove it"),
        (
            "{command: x, health: {path: /x}}",
            "health.path",
            "applies to http alone; other services are checked in their own protocol",
        ),
        ("{tcp: 'x:1', route: /x}", "route", "applies to HTTP; TCP services are reached inside the mesh alone"),
        ("{http: 'x:1', route: true}", "route", "has to be a path such as /api; only MCP servers have one by default"),
        (
            "{http: 'x:1', instances: 2}",
            "instances",
            "applies to a program that is launched; a service at an address is one instance",
        ),
        (
            "{http: {command: x}, env: {PORT: 1}}",
            "env.PORT",
            "is set by the mesh for each instance; remove it and listen on that port",
        ),
        (
            "{tcp: {command: x, env: {}}}",
            "tcp.env",
            'is not a key of this mapping; put "env" one level up, beside the other keys of the service',
        ),
    ],
)
def test_a_key_that_belongs_to_another_kind_of_service_is_refused(
    folder: Folder, service: str, field: str, message: str
) -> None:
    assert folder.refused(folder.services(f"a: {service}")) == [(3, f"services.a.{field}", message)]


@pytest.mark.parametrize(
    ("service", "field", "message"),
    [
        ("{command: ''}", "command", "has to name a program"),
        ("{command: []}", "command", "has to name a program"),
        ("{command: x, args: y}", "args", "has to be a list, such as [one, two]"),
        ("{command: x, args: [[y]]}", "args[0]", "has to be a text"),
        ('{command: x, args: ["a\\0b"]}', "args[0]", "holds a NUL character, which no program can be given; remove it"),
        ("{command: x, env: [A=b]}", "env", "has to be a mapping of keys to values"),
        (
            "{command: x, env: {'A=B': c}}",
            "env",
            "has a name that no environment variable can have; use letters, digits and _",
        ),
        ("{command: x, env: {A: [b]}}", "env.A", "has to be a text"),
        ('{command: x, env: {A: "\\0"}}', "env", "has a NUL character in A, which no program can be given; remove it"),
        ("{command: x, instances: 1.5}", "instances", "has to be a whole number"),
        ("{command: x, instances: true}", "instances", "has to be a whole number"),
        ("{command: x, instances: 101}", "instances", "has to be at most 100"),
        ("{command: x, tags: x}", "tags", "has to be a list, such as [one, two]"),
        ("{command: x, timeouts: 5s}", "timeouts", "has to be a mapping of keys to values"),
        (
            "{command: x, timeouts: {start: true}}",
            "timeouts.start",
            "has to be a duration such as 30s, 5m or 1m30s, or a number of seconds",
        ),
        ("{command: x, timeouts: {start: -1}}", "timeouts.start", "has to be longer than 0 seconds and at most a year"),
        (
            "{command: x, timeouts: {start: 1e999}}",
            "timeouts.start",
            "has to be longer than 0 seconds and at most a year",
        ),
        (
            "{command: x, timeouts: {start: .nan}}",
            "timeouts.start",
            "has to be a duration such as 30s, 5m or 1m30s, or a number of seconds",
        ),
        (
            "{command: x, timeouts: {request: 400d}}",
            "timeouts.request",
            "has to be longer than 0 seconds and at most a year",
        ),
        ("{command: x, health: {interval: 10ms}}", "health.interval", "has to be at least 100ms"),
        (
            "{command: x, balance: least_requests}",
            "balance",
            'has to be least_request, round_robin or random; did you mean "least_request"?',
        ),
        ("{command: x, allow: '*'}", "allow", "has to be a list, such as [one, two]"),
        ("{command: x, allow: [Nobody]}", "allow[0]", 'has to be the name of a service, or "*" for everybody'),
        (
            "{command: x, route: api}",
            "route",
            "has to be a path such as /api (letters, digits and -._~ between slashes), or false for none",
        ),
        (
            "{command: x, route: /}",
            "route",
            "has to be a path such as /api (letters, digits and -._~ between slashes), or false for none",
        ),
        ("{command: x, route: /mcp/}", "route", "is the folder of all servers; choose a path below it, or another"),
        (
            "{command: x, route: /a/../b}",
            "route",
            "has to be a path such as /api (letters, digits and -._~ between slashes), or false for none",
        ),
        (
            "{command: x, route: '/a?b'}",
            "route",
            "has to be a path such as /api (letters, digits and -._~ between slashes), or false for none",
        ),
        (
            "{command: x, route: no}",
            "route",
            "has to be a path such as /api (letters, digits and -._~ between slashes), or false for none",
        ),
        ("{command: x, disabled: yes}", "disabled", "has to be true or false"),
        ("{http: '127.0.0.1'}", "http", "has to be an address such as 127.0.0.1:8080"),
        ("{http: '127.0.0.1:0'}", "http", "has to be an address such as 127.0.0.1:8080"),
        ("{http: 'a@b:1'}", "http", "has to be an address such as 127.0.0.1:8080"),
        ("{http: '[::1:80'}", "http", "has to be an address such as 127.0.0.1:8080"),
        ("{tcp: 5432}", "tcp", "has to be an address such as 127.0.0.1:8080"),
        ("{http: {address: 'x:99999'}}", "http.address", "has to be an address such as 127.0.0.1:8080"),
        ("{http: 'x:1', health: {path: up}}", "health.path", "has to be a path such as /healthz"),
        ("{url: 'ftp://x/'}", "url", "has to be a URL such as https://example.com/mcp"),
        ("{url: 'http:///x'}", "url", "has to be a URL such as https://example.com/mcp"),
        ("{url: 'http://[x'}", "url", "has to be a URL such as https://example.com/mcp"),
        ("{url: 'http://x/#y'}", "url", "has a part after #, which is never sent to a server; remove it"),
        (
            "{url: 'http://x/', headers: {'A B': c}}",
            "headers",
            "has a name that no HTTP header can have; use letters, digits and -",
        ),
        ("{url: 'http://x/', headers: {Host: c}}", "headers", "sets Host, which belongs to the connection; remove it"),
        (
            "{url: 'http://x/', headers: {A: b, a: c}}",
            "headers",
            "has one header twice, in upper and lower case; keep one",
        ),
        ('{url: "http://x/", headers: {A: "b\\nc"}}', "headers", "has a line break in A; a header is one line"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_where_it_stands(
    folder: Folder, service: str, field: str, message: str
) -> None:
    assert folder.refused(folder.services(f"a: {service}")) == [(3, f"services.a.{field}", message)]


@pytest.mark.parametrize("name", ["ingress", "mcpmesh-agent", "mcpmesh-stranger", "consul", "a-sidecar-proxy"])
def test_names_that_the_mesh_uses_itself_are_refused(folder: Folder, name: str) -> None:
    assert folder.places(folder.services(f"{name}: {{command: x}}")) == [(3, f"services.{name}")]


def test_two_services_with_one_route_are_refused_at_the_second(folder: Folder) -> None:
    path = folder.services("a: {http: 'x:1', route: /mcp/b/}\nb: {command: x}\nc: {http: 'x:2', route: /mcp/b}")
    assert folder.refused(path) == [
        (4, "services.b", "is the route /mcp/b, which a has; give one of them another `route`"),
        (5, "services.c.route", "is the route /mcp/b, which a has; give one of them another `route`"),
    ]


def test_upstreams_have_to_be_other_services_once_and_on_ports_of_their_own(folder: Folder) -> None:
    path = folder.services("""
        db: {tcp: "x:1", allow: ["*"]}
        kv: {tcp: "x:2", allow: ["*"]}
        a: {command: x, upstreams: [dbb, a, db, db]}
        b: {command: x, upstreams: [{service: db, port: 5000}, {service: kv, port: 5000}]}
        c: {command: x, instances: 2, upstreams: [{service: db, port: 5001}]}
    """)
    assert folder.refused(path) == [
        (6, "services.a.upstreams[0]", 'names dbb, which is no service of this catalog; did you mean "db"?'),
        (6, "services.a.upstreams[1]", "is the service itself; remove it"),
        (6, "services.a.upstreams[3]", "names db twice; keep one"),
        (7, "services.b.upstreams[1]", "has the port 5000, which b's db has; choose another, or leave it out"),
        (8, "services.c.upstreams[0]", "has a port of its own, which several instances cannot share; leave it out"),
    ]


def test_a_caller_outside_the_catalog_and_an_upstream_that_will_refuse_are_warnings(folder: Folder) -> None:
    path = folder.services("a: {command: x, allow: [clade]}\nb: {command: x, upstreams: [a]}\nclaude: {command: x}")
    assert folder.load(path).warnings == (
        f'{path}:3: services.a.allow[0]: names clade, which is no service of this catalog; did you mean "claude"?',
        f"{path}:4: services.b.upstreams[0]: gets 403 there: add b to `allow` of a",
    )


def test_a_mistake_in_the_defaults_is_reported_once_and_at_its_place(folder: Folder) -> None:
    path = folder.write(
        "mesh.yaml",
        """\
        version: 1
        defaults: {timeouts: {start: x}, route: /x, env: {A: "${NOPE}"}}
        services: {a: {command: x}, b: {command: x}}
    """,
    )
    assert folder.places(path) == [
        (2, "defaults.env.A"),
        (2, "defaults.timeouts.start"),
        (2, "defaults.route"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "field", "message"),
    [
        ("services: {a: {command: x}}", 1, "", "has no version; write `version: 1` in its first line"),
        ("version: 2\nservices: {}", 1, "version", "has to be 1, the one format that this mcpmesh reads"),
        ("version: true\nservices: {}", 1, "version", "has to be 1, the one format that this mcpmesh reads"),
        ("version: 1\nservices:", 2, "services", "has to be a mapping of services by name; it is empty"),
        ("version: 1\nservices: [a]", 2, "services", "has to be a mapping of services by name"),
        (
            "version: 1\nservices:\n  a:",
            3,
            "services.a",
            "is empty, and no earlier file has it to be removed; say how it starts",
        ),
        ("version: 1\nservices:\n  a: x", 3, "services.a", "has to be a mapping of keys to values"),
        ("version: 1\ndefaults: 3", 2, "defaults", "has to be a mapping of keys of services"),
        ("version: 1\nmcpserver: {}", 2, "mcpserver", 'is no key of a mesh.yaml; did you mean "mcpServers"?'),
        ("- a", 1, "", "has to be a mapping with `version: 1` and `services:`, or with mcpServers"),
        ("a", 1, "", "has to be a mapping with `version: 1` and `services:`, or with mcpServers"),
        ('{"mcpServers": []}', 1, "mcpServers", "has to be a mapping of server names to servers"),
    ],
)
def test_a_file_of_another_shape_is_refused(folder: Folder, text: str, line: int, field: str, message: str) -> None:
    assert folder.refused(folder.write("mesh.yaml", text)) == [(line, field, message)]


def test_no_file_is_a_problem_and_no_service_a_warning(folder: Folder) -> None:
    with pytest.raises(CatalogError, match="no catalog was named"):
        folder.load()
    path = folder.write("mesh.yaml", "version: 1\nservices: {}")
    assert folder.load(path).warnings == (f"{path}:2: services: has no service",)


def test_services_without_a_route_are_not_compared(folder: Folder) -> None:
    path = folder.services("""
        none: {command: x, route: false}
        db: {tcp: "x:1"}
        api: {http: "x:2"}
        a: {command: x, route: /tools}
        b: {command: x, route: /tools/}
        c: {command: x, route: true}
        d: {http: "x:3", route: /mcp/c}
    """)
    assert folder.refused(path) == [
        (8, "services.b.route", "is the route /tools, which a has; give one of them another `route`"),
        (10, "services.d.route", "is the route /mcp/c, which c has; give one of them another `route`"),
    ]


def test_one_port_is_for_one_upstream_of_one_service(folder: Folder) -> None:
    path = folder.services("""
        db: {tcp: "x:1", allow: [a, b]}
        a: {command: x, upstreams: [{service: db}]}
        b: {command: x, instances: 2, upstreams: [db]}
    """)
    assert folder.load(path).warnings == ()
    path = folder.services("""
        db: {tcp: "x:1", allow: [a, b]}
        a: {command: x, instances: 1, upstreams: [{service: db, port: 5000}]}
        b: {command: x, upstreams: [{service: db, port: 5000}, {service: x}]}
    """)
    assert folder.refused(path) == [
        (6, "services.b.upstreams[1]", "names x, which is no service of this catalog; add it, or remove it here"),
        (6, "services.b.upstreams[0]", "has the port 5000, which a's db has; choose another, or leave it out"),
    ]


def test_callers_that_the_mesh_knows_are_no_warning(folder: Folder) -> None:
    path = folder.services("a: {command: x, allow: [b, ingress, '*']}\nb: {command: x, upstreams: [a]}")
    assert folder.load(path).warnings == ()
    path = folder.services("a: {command: x, allow: [elsewhere]}")
    assert folder.load(path).warnings == (
        f"{path}:3: services.a.allow[0]: names elsewhere, which is no service of this catalog",
    )


def test_a_misspelt_key_that_starts_a_service_is_one_problem(folder: Folder) -> None:
    assert folder.refused(folder.services("a: {comand: x}\nb: {x-command: x}")) == [
        (3, "services.a.comand", 'is no key of a mesh.yaml; did you mean "command"?'),
        (4, "services.b", "does not say how it starts; give it command, image, url, http or tcp"),
    ]


def test_problems_come_in_the_order_of_files_and_lines_and_each_once(folder: Folder) -> None:
    first = folder.services("b: {command: x, instances: 0}\na: {command: x, tags: x}")
    second = folder.write("over.yaml", "version: 1\nservices: {a: {instances: 0}}")
    with pytest.raises(CatalogError) as caught:
        folder.load(first, second)
    assert [(problem.path, problem.line, problem.field) for problem in caught.value.problems] == [
        (first, 3, "services.b.instances"),
        (first, 4, "services.a.tags"),
        (second, 2, "services.a.instances"),
    ]
