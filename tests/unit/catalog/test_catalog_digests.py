"""Digests of equal catalogs stay equal from version to version.

A running instance is compared by its digest with what the catalog wants. Where an
agent of a newer version computed another digest, it would replace every instance of
a running mesh. So these digests were computed once, by the version of December 2026,
and stand here as literals. A change of one means a restart of all such instances.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from mcpmesh.catalog.loader import load
from mcpmesh.model.instance import workload_digest
from mcpmesh.model.service import Plain, ServiceSpec, Stdio

if TYPE_CHECKING:
    from conftest import Folder

KEY = b"0123456789abcdef0123456789abcdef"
EXAMPLES = Path(__file__).parents[3] / "examples"
EVERY_KEY = """\
    program:
      command: [./bin/server, --stdio]
      args: [8080, 1.10, "${HOME}"]
      env: {TOKEN: "file:token", REGION: "${REGION:-eu}", PORT: 80}
      cwd: work
      instances: 1
      tags: [a, b]
      isolation: request
      egress: true
      allow: ["*", claude]
      upstreams: [remote, {service: listening, port: 5000}, {service: web}]
      route: /tools/program
      timeouts: {start: 1m, request: 90, drain: 1.5}
      health: {interval: 500ms}
      balance: round_robin
    image:
      image: mcp/time:1.0
      args: [--utc]
      env: {A: b}
      isolation: shared
      instances: 2
    remote:
      url: https://example.com/mcp
      headers: {Authorization: "Bearer ${REGION:-eu}", X-A: "1"}
      timeouts: {start: 5}
    web:
      http: {command: ./serve, args: [--quiet]}
      env: {A: b}
      health: {path: /healthz}
      upstreams: [database]
      allow: [program]
    listening:
      http: 127.0.0.1:9000
      route: /api
    database:
      tcp: {command: [postgres, -D, data]}
    elsewhere:
      tcp: {address: "127.0.0.1:5432"}
"""
DIGESTS = {
    "program": "743566e235d05d2107200e70fdf0a59f824e9733d61bdee35989272fd4b05833",
    "image": "4f3a6800468c39416781c56297dac3c297a3688b2a364ebc88880316e940187b",
    "remote": "e0dbc64e1df975555f4b3dcb9748c086b9017841d77af015219684310d607e8a",
    "web": "eee13479a48548c1ad09e7a75d8ed15fc40d22bb8ff6e644a0b4f6457298a65b",
    "listening": "2fe02cf9d239ad090ce93a452b14c0346f85c4868b315cb2b2f65dd896b720d5",
    "database": "0034586cc943e3736ab8b95a871ade196e276ddbefb7c88a9ecb8f647fcbe808",
    "elsewhere": "6d10b58a6aa657c469466f6fb10ffe2b733f920280add8c4734be72a6843de3d",
}
EXAMPLE_DIGESTS = {
    "mesh.yaml": {
        "files": "13cdad1cfbf7d255b0f74bd400577d67321f2abe6526786fc6ab647583817b76",
        "memory": "32bb0c9a6e3096fcb90cc7ef6b27cbeb72f899ad0f96c91de168139e0778fe6e",
        "sequentialthinking": "d628436322fec548376bd1bdec82628d612f63cd31687f3559924458e7d38d1e",
        "everything": "27f6c26f5fe14031676aa1d001d2cfbcbf62c5b7bc00ea6f62f510c4bae573df",
        "git": "b9c31433f1ab36f35d7156f3fc0cea4f9e80e00557f2bacddb0514832a478beb",
        "time": "129899317b4a2069cde24d1d52d7eef3dffd7b9f6a40b9e2de72fa7b1f0b288c",
    },
    "mcp.json": {
        "files": "cf01733c61fb84cd8f6eb8ffc8f2492a0e329d8e5aada4fe1676fa2cb8c2a5e0",
        "memory": "70e7e9a4a0e21dd355d17886963475bf8e664401a70294fbb84486c228f3cc3b",
        "everything": "d96a4c48d2f6af4e6cab8e260bc6423657695c7c235d7fcf4c32795fbced58f6",
        "time": "4d15542e2f72602db333149d72ca5c628d1ef93bb9572d716fa805067dbdc7ba",
    },
}


def _digests(paths: Path, environ: dict[str, str]) -> dict[str, str]:
    """The digest of each service, as if the catalog stood in the folder /catalog."""
    here = str(paths.parent)
    return {name: workload_digest(_moved(spec, here), KEY) for name, spec in load([paths], environ).services.items()}


def _moved(spec: ServiceSpec, folder: str) -> ServiceSpec:
    def moved(text: str) -> str:
        return text.replace(folder, "/catalog")

    start = spec.start
    if not isinstance(start, Stdio | Plain):
        return spec
    env = {name: SecretStr(moved(value.get_secret_value())) for name, value in start.env.items()}
    command = moved(start.command) if start.command else start.command
    return replace(spec, start=replace(start, command=command, env=env, cwd=Path(moved(str(start.cwd)))))


def test_a_service_with_any_key_has_the_digest_that_it_always_had(folder: Folder) -> None:
    folder.write("token", "s3cret\n")
    assert _digests(folder.services(EVERY_KEY), {"HOME": "/home/me"}) == DIGESTS


@pytest.mark.parametrize("name", ["mesh.yaml", "mcp.json"])
def test_the_examples_have_the_digests_that_they_always_had(name: str) -> None:
    assert _digests(EXAMPLES / name, {"HOME": "/home/me"}) == EXAMPLE_DIGESTS[name]
