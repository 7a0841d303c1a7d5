"""Digests that are bit-identical to those of earlier agents: another digest would restart every instance."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from mcpmesh.model.instance import Instance, canonical, instances, sidecar_id, workload_digest
from mcpmesh.model.service import Isolation, Plain, Protocol, Remote, ServiceSpec, Stdio, Timeouts, Upstream

KEY = b"k" * 32
STDIO = ServiceSpec(
    "files",
    Stdio(
        "server",
        ("--root", "/data"),
        {"TOKEN": SecretStr("secret"), "A": SecretStr("é")},
        Path("/srv"),
        Isolation.SHARED,
    ),
    upstreams=(Upstream("db"), Upstream("time", 9001)),
    timeouts=Timeouts(1.5, 2.5, 3.5),
)
WEB = Plain(Protocol.HTTP, command="web", args=("-p",), env={"B": SecretStr("b")}, cwd=Path("/w"))


@pytest.mark.parametrize(
    ("spec", "digest"),
    [
        (STDIO, "5613ee6be0109ca76c95c5f00e7ffe42425144325849d87e01b9e0948bd21e9a"),
        (
            ServiceSpec("files", Stdio("", image="ghcr.io/x/files:1"), egress=True),
            "29263498dbcab36d89fa77cfb376b4d79a31bdacefa47a16eb316016c588487a",
        ),
        (
            ServiceSpec("files", Remote("https://files.example/mcp", {"Authorization": SecretStr("Bearer x")})),
            "1a8f7790d211f7be539037f2635fb73a2fc09170ee238cb0eada76acc6319ba0",
        ),
        (
            ServiceSpec("web", WEB, upstreams=(Upstream("db"),)),
            "218e7b0ed093ceddffe00422cfce9a496b8fa0bcc886c2dc0e8e1c25c754ab2d",
        ),
        (
            ServiceSpec("db", Plain(Protocol.TCP, address="127.0.0.1:5432"), instances=3),
            "d8d6e27c6ed0e619e0dd42ff8f2d6030ad77de773289313430510fd29ed9c55f",
        ),
    ],
)
def test_the_digest_of_a_spec_is_that_of_earlier_agents(spec: ServiceSpec, digest: str) -> None:
    assert workload_digest(spec, KEY) == digest


def test_another_key_gives_another_digest() -> None:
    assert workload_digest(STDIO, b"other") != workload_digest(STDIO, KEY)


def test_the_order_of_keys_does_not_matter() -> None:
    assert canonical({"b": 1, "a": [Path("/x"), "é"]}) == canonical({"a": [Path("/x"), "é"], "b": 1})
    assert canonical({"b": 1, "a": [Path("/x"), "é"]}) == b'{"a":["/x","\\u00e9"],"b":1}'


def test_the_ids_of_an_instance_have_its_mesh_service_number_and_digest() -> None:
    instance = Instance("m", "files", 2, "0123456789abcdef")
    assert (instance.id, instance.sidecar_id) == ("m-files-2-01234567", "m-files-2-01234567-sidecar")
    assert sidecar_id("m-ingress") == "m-ingress-sidecar"


def test_a_service_has_as_many_instances_as_it_wants_and_one_at_an_address() -> None:
    spec = ServiceSpec("files", STDIO.start, instances=3)
    digest = workload_digest(spec, KEY)
    assert instances(spec, "m", KEY) == tuple(Instance("m", "files", number, digest) for number in (1, 2, 3))
    assert len(instances(ServiceSpec("web", WEB, instances=2), "m", KEY)) == 2
    external = ServiceSpec("db", Plain(Protocol.TCP, address="127.0.0.1:5432"), instances=3)
    assert [instance.ordinal for instance in instances(external, "m", KEY)] == [1]
