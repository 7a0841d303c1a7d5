"""Claims about calls from outside, through the ingress."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from tests.support.snapshots import snapshot_of
from tests.unit.verify.sample_mesh import AT_CONSUL, DESIRED, INGRESS, INSTANCE, http_that, process, the_target

from mcpmesh.ingress.kong.kong_admin import KongAdmin
from mcpmesh.verify.claims import ingress_calls
from mcpmesh.verify.finding import CannotTry, Diagnosis, Finding, fails, holds
from mcpmesh.verify.probes.network_namespaces import Namespaces
from mcpmesh.verify.probes.process_tree import Node, ProcessTree
from mcpmesh.verify.probes.tcp_probe import FORWARDED, Outcome, Reply
from mcpmesh.verify.snapshot import UNDECLARED_PATH, Snapshot
from mcpmesh.verify.target import KongAtIngress, Target

DATABASE, FILES = DESIRED.services["database"], DESIRED.services["files"]
AT_INGRESS = "http://127.0.0.1:8000"
SHOW_ROUTES = f"consul config list {AT_CONSUL} -kind http-route"


def with_user_path(path: str) -> Target:
    return replace(the_target(), kong=KongAtIngress(KongAdmin(), None, (path,)))


def with_route(route: str) -> Target:
    """The mesh, with this route of "files"."""
    files = replace(FILES, spec=replace(FILES.spec, route=route))
    return replace(the_target(), desired=replace(DESIRED, services={**DESIRED.services, "files": files}))


@pytest.mark.parametrize(
    ("reply", "target", "finding"),
    [
        (
            Reply(Outcome.ANSWERED, "HTTP/1.1 404 Not Found"),
            the_target(),
            holds(f"{AT_INGRESS}{UNDECLARED_PATH} answers HTTP 404"),
        ),
        (
            Reply(Outcome.ANSWERED, "HTTP/1.1 404 Not Found", forwarded=True),
            the_target(),
            fails(
                f"{AT_INGRESS}{UNDECLARED_PATH} answers HTTP/1.1 404 Not Found",
                f"see whose route takes it: {SHOW_ROUTES}",
            ),
        ),
        (
            Reply(Outcome.ANSWERED, "HTTP/1.1 200 OK"),
            the_target(),
            fails(f"{AT_INGRESS}{UNDECLARED_PATH} answers HTTP/1.1 200 OK", f"see whose route takes it: {SHOW_ROUTES}"),
        ),
        (
            Reply(Outcome.ANSWERED, "HTTP/1.1 200 OK"),
            with_user_path("/mcp"),
            holds("every path is declared: a document of your own takes /mcp"),
        ),
        (
            Reply(Outcome.ANSWERED, "HTTP/1.1 200 OK"),
            with_route("/"),
            holds('every path is declared: the route of "files" is /'),
        ),
    ],
)
async def test_the_ingress_answers_404_at_an_undeclared_path(reply: Reply, target: Target, finding: Finding) -> None:
    snapshot = snapshot_of(target, ingress_reply=reply)
    assert await ingress_calls.answers_declared_paths_alone(snapshot) == [finding]


@pytest.mark.parametrize(
    ("answer", "target", "finding"),
    [
        (httpx.Response(404), the_target(), holds(f"{AT_INGRESS}/mcp/database answers HTTP 404")),
        (
            httpx.Response(404, headers={FORWARDED: "1"}),
            the_target(),
            fails("/mcp/database has no route and answers HTTP 404", f"see whose route it is: {SHOW_ROUTES}"),
        ),
        (
            httpx.Response(200),
            the_target(),
            fails("/mcp/database has no route and answers HTTP 200", f"see whose route it is: {SHOW_ROUTES}"),
        ),
        (
            httpx.Response(200),
            with_user_path("/mcp"),
            holds("/mcp/database belongs to a document of your own, whose path is /mcp"),
        ),
        (httpx.Response(200), with_route("/mcp"), holds('/mcp/database belongs to "files", whose route is /mcp')),
    ],
)
async def test_a_service_without_a_route_is_not_at_the_ingress(
    answer: httpx.Response, target: Target, finding: Finding
) -> None:
    async with http_that(lambda _: answer) as http:
        assert await ingress_calls.not_at_ingress(snapshot_of(target, http=http), DATABASE) == [finding]


@pytest.mark.parametrize("outcome", [Outcome.SILENT, Outcome.CLOSED, Outcome.UNREACHABLE])
def test_an_ingress_that_does_not_answer_proves_nothing(outcome: Outcome) -> None:
    snapshot = snapshot_of(the_target(), ingress_reply=Reply(outcome, "so"))
    with pytest.raises(CannotTry) as raised:
        ingress_calls.require_ingress(snapshot)
    assert str(raised.value) == f"the ingress at {AT_INGRESS} does not answer: so; no Envoy of ours runs for it"
    assert raised.value.next_step.endswith(f"its last output is in /home/m/logs/{INGRESS}.gateway.log")


def test_of_an_external_kong_only_its_address_is_known() -> None:
    external = replace(the_target(), kong=KongAtIngress(KongAdmin(), "http://kong:8001"))
    assert snapshot_of(external).diagnose_ingress() == Diagnosis(
        "it is a Kong that the agent does not run, asked at http://kong:8001", "see whether that Kong runs, and its log"
    )
    ours = replace(the_target(), kong=KongAtIngress(KongAdmin(), None))
    assert snapshot_of(ours).diagnose_ingress().state == "no Kong of ours runs for it"


def running(envoy_state: str | None, shim_state: str = "S") -> Snapshot:
    nodes = {7: Node(1, "shim", shim_state)}
    processes = [process(7, "shim", http=11101)]
    if envoy_state:
        nodes[8] = Node(1, "envoy", envoy_state)
        processes.append(process(8, "sidecar"))
    return snapshot_of(the_target(), processes, Namespaces(ProcessTree(nodes)))


def test_a_failed_call_is_diagnosed_by_what_is_stopped_or_missing() -> None:
    log = f"/home/m/logs/{INSTANCE}.sidecar.log"
    assert ingress_calls.diagnose_service(running("S"), FILES) == Diagnosis(
        "", "see its other claims, and its output: mcpmesh --name m logs files"
    )
    assert ingress_calls.diagnose_service(running("T"), FILES) == Diagnosis(
        "its Envoy (pid 8) is stopped by a signal", "let it go on: kill -CONT 8"
    )
    assert ingress_calls.diagnose_service(running("S", "T"), FILES) == Diagnosis(
        "its Envoy is pid 8", f"see its log, {log}"
    )
    assert ingress_calls.diagnose_service(running(None), FILES).state == "no Envoy of ours runs for it"


async def test_a_call_through_the_ingress_lists_the_tools_of_the_shim() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/info":
            return httpx.Response(200, json={"instance": INSTANCE, "tools": [{"name": "read"}]})
        return httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "read"}]}})

    async with http_that(answer) as http:
        findings = await ingress_calls.answered_through_ingress(replace(running("S"), http=http), FILES)
        without_shim = await ingress_calls.answered_through_ingress(snapshot_of(the_target(), http=http), FILES)
    assert findings == [holds(f"tools/list gives 1 tool, as its shim names them, at {AT_INGRESS}/mcp/files")]
    assert without_shim == [holds(f"tools/list gives 1 tool at {AT_INGRESS}/mcp/files")]


@pytest.mark.parametrize("kong", [True, False])
async def test_only_kong_may_ask_for_a_credential(kong: bool) -> None:
    target = with_user_path("/x") if kong else the_target()
    async with http_that(lambda _: httpx.Response(401, text="who?")) as http:
        (finding,) = await ingress_calls.answered_through_ingress(snapshot_of(target, http=http), FILES)
    assert finding.ok is kong and f"{AT_INGRESS}/mcp/files answered HTTP 401: who?" in finding.evidence
