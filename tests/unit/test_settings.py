"""The settings: what they accept, and that each default stands once or is held equal here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mcpmesh.daemon.state_store import INGRESS_PORT
from mcpmesh.errors import SettingsError
from mcpmesh.model.reserved_names import RESERVED_NAMES
from mcpmesh.model.service import Isolation, Stdio, Timeouts
from mcpmesh.settings import IngressSettings, Settings, read_settings
from mcpmesh.shim import config as shim_config

DOCUMENTED = re.compile(r"\| `(MCPMESH_[A-Z_]+)` \| (.*?) \| .* \|")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


def _variables(model: type[BaseModel] = Settings, prefix: str = "MCPMESH_") -> Iterator[tuple[str, Any]]:
    """The variable of each setting, with its default."""
    for name, field in model.model_fields.items():
        variable = prefix + name.upper()
        if isinstance(field.default, BaseModel):
            yield from _variables(type(field.default), variable + "__")
        else:
            yield variable, field.default


def _as_documented(default: Any) -> str:
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, float):
        return f"{default:g}"
    is_text = isinstance(default, str | Path) and not str(default)[0].isdigit()
    return f"`{default}`" if is_text else str(default)


def test_the_documentation_has_each_setting_once() -> None:
    assert sorted(name for name, _ in DOCUMENTED.findall(PAGE.read_text())) == sorted(dict(_variables()))


def test_the_documentation_has_the_defaults() -> None:
    documented = dict(DOCUMENTED.findall(PAGE.read_text()))
    fixed = {name: value for name, value in _variables() if value not in (None, "", PydanticUndefined)}
    fixed["MCPMESH_INGRESS__PORT"] = INGRESS_PORT
    assert {name: re.split("[:,] ", documented[name])[0].strip("`") for name in fixed} == {
        name: _as_documented(value).strip("`") for name, value in fixed.items()
    }


def test_no_service_can_have_the_name_of_the_ingress() -> None:
    assert IngressSettings().service in RESERVED_NAMES


def test_a_shim_without_a_catalog_has_the_defaults_of_a_catalog() -> None:
    alone = shim_config.Config(command="server")
    timeouts = Timeouts(start=alone.start_seconds, request=alone.request_seconds, drain=alone.drain_seconds)
    assert (timeouts, alone.isolation) == (Timeouts(), Stdio.isolation)


def test_a_shim_knows_each_word_for_isolation() -> None:
    assert list(get_args(shim_config.Isolation)) == [word.value for word in Isolation]


def test_each_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCPMESH_INGRESS__PORT", "0")
    monkeypatch.setenv("MCPMESH_RUNTIME", "pods")
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert str(caught.value).splitlines() == [
        "cannot use the settings:",
        "  MCPMESH_INGRESS__PORT: Input should be greater than or equal to 1",
        "  MCPMESH_RUNTIME: Input should be 'processes' or 'containers'",
    ]


@pytest.mark.parametrize(
    ("variable", "lowest"),
    [
        ("MCPMESH_ENVOY__CONCURRENCY", 1),
        ("MCPMESH_ENVOY__DRAIN_SECONDS", 1),
        ("MCPMESH_KONG__WORKERS", 1),
        ("MCPMESH_PORTS__SERVICES", 1024),
        ("MCPMESH_CONTAINERS__MEMORY_MEBIBYTES", 64),
        ("MCPMESH_CONTAINERS__PROCESSES", 32),
    ],
)
def test_a_setting_has_a_lowest_value(monkeypatch: pytest.MonkeyPatch, variable: str, lowest: int) -> None:
    monkeypatch.setenv(variable, str(lowest))
    read_settings()
    monkeypatch.setenv(variable, str(lowest - 1))
    with pytest.raises(SettingsError, match=variable):
        read_settings()


def test_the_environment_comes_before_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MCPMESH_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("MCPMESH_CONSUL__TOKEN", "hunter2")
    settings = read_settings()
    assert settings.home("default") == tmp_path / "default"
    assert settings.consul.token is not None and settings.consul.token.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("ingress", "names"),
    [
        (IngressSettings(), {"127.0.0.1"}),
        (IngressSettings(host="10.0.0.1"), {"10.0.0.1"}),
        (IngressSettings(url="https://tools.example.com/x"), {"127.0.0.1", "tools.example.com"}),
    ],
)
def test_clients_may_name_the_ingress_by_its_host_or_its_url(ingress: IngressSettings, names: set[str]) -> None:
    assert ingress.names == names
