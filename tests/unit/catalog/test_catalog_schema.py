from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mcpmesh.catalog.field_types import duration_text
from mcpmesh.catalog.loader import load
from mcpmesh.catalog.schema import HealthKeys, MeshKeys, ServiceKeys, TimeoutKeys, json_schema, published
from mcpmesh.errors import CatalogError
from mcpmesh.model.service import Health, ServiceSpec, Stdio, Timeouts

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = ROOT / "docs" / "mesh.schema.json"


def _accepts(document: Any) -> bool:
    return jsonschema.Draft202012Validator(json_schema()).is_valid(document)


def test_the_published_schema_is_what_the_models_say() -> None:
    # To write it anew: python -m mcpmesh.catalog.schema > docs/mesh.schema.json
    assert PUBLISHED.read_text() == published()


def test_the_full_example_has_every_key() -> None:
    document = yaml.safe_load(Path(__file__).with_name("full.yaml").read_text())
    assert document.keys() >= MeshKeys.model_fields.keys()
    written = {key for service in (document["defaults"], *document["services"].values()) for key in service}
    assert written >= ServiceKeys.model_fields.keys()


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_every_key_is_described() -> None:
    schema = json_schema()
    for model in (schema, *schema["$defs"].values()):
        for key, described in model["properties"].items():
            referred = [part["$ref"] for part in described.get("anyOf", []) if "$ref" in part]
            assert "description" in described or referred or key == "$schema", key


@pytest.mark.parametrize("name", ["mesh.yaml", "full.yaml"])
def test_the_examples_are_accepted_by_schema_and_loader_alike(name: str) -> None:
    path = ROOT / "examples" / "mesh.yaml" if name == "mesh.yaml" else Path(__file__).with_name(name)
    assert _accepts(yaml.safe_load(path.read_text()))
    assert load([path], {"HOME": "/home/me", "TOKEN": "t"}).services


@pytest.mark.parametrize(
    "service",
    [
        "{comand: x}",
        "{command: []}",
        "{command: x, args: y}",
        "{command: x, env: {A: [b]}}",
        "{command: x, instances: 0}",
        "{command: x, isolation: shard}",
        "{command: x, timeouts: {start: soon}}",
        "{command: x, timeouts: {strat: 1s}}",
        "{command: x, health: {interval: -1}}",
        "{command: x, allow: '*'}",
        "{command: x, allow: [Nobody]}",
        "{command: x, upstreams: [{service: b, port: 0}]}",
        "{command: x, upstreams: [{port: 1}]}",
        "{command: x, route: api}",
        "{http: {adress: 'x:1'}}",
    ],
)
def test_what_the_schema_refuses_the_loader_refuses_too(tmp_path: Path, service: str) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(f"version: 1\nservices:\n  b: {{command: x}}\n  a: {service}\n")
    assert not _accepts(yaml.safe_load(path.read_text()))
    with pytest.raises(CatalogError):
        load([path], {})


def test_the_example_catalogs_load_without_a_warning() -> None:
    catalog = load([ROOT / "examples" / "mesh.yaml"], {})
    assert list(catalog.services) == ["files", "memory", "sequentialthinking", "everything", "git", "time"]
    assert catalog.warnings == ()
    assert list(load([ROOT / "examples" / "mcp.json"], {"HOME": "/home/me"}).services) == [
        "files",
        "memory",
        "everything",
        "time",
    ]


def _documented_blocks() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "catalog.md").read_text(), re.S)


def test_the_examples_of_the_documentation_are_what_it_says(tmp_path: Path) -> None:
    base, services, overlay = _documented_blocks()
    files = [tmp_path / name for name in ("mesh.yaml", "services.yaml", "playground.yaml", "prod.yaml")]
    playground = "version: 1\nservices: {playground: {command: x}}"
    for file, text in zip(files, (base, f"version: 1\n{services}", playground, overlay), strict=True):
        file.write_text(text)
    catalog = load(files, {})
    assert {name: (spec.instances, spec.route) for name, spec in catalog.services.items()} == {
        "files": (3, "/mcp/files"),
        "api": (1, "/api"),
        "web": (2, None),
        "database": (1, None),
    }
    assert catalog.warnings == ()


def test_the_documentation_has_the_defaults_of_the_model() -> None:
    rows = dict(re.findall(r"\| `([a-z.]+)` \| (.*?) \|", (ROOT / "docs" / "catalog.md").read_text()))
    defaults = {
        "instances": str(ServiceSpec.instances),
        "isolation": f"`{Stdio.isolation.value}`",
        "egress": f"`{str(ServiceSpec.egress).lower()}`",
        "balance": f"`{ServiceSpec.balance}`",
        "health.interval": duration_text(Health.interval),
        **{f"timeouts.{key}": duration_text(getattr(Timeouts, key)) for key in TimeoutKeys.model_fields},
    }
    assert {key: rows[key] for key in defaults} == defaults


def test_every_key_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "catalog.md").read_text()
    keys = {f"`{key}`" for key in (*MeshKeys.model_fields, *ServiceKeys.model_fields)} - {"`timeouts`", "`health`"}
    keys |= {f"`timeouts.{key}`" for key in TimeoutKeys.model_fields} | {
        f"`health.{key}`" for key in HealthKeys.model_fields
    }
    assert [key for key in sorted(keys) if key not in text] == []
