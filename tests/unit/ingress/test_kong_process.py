"""The process of our own Kong: its environment and its log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mcpmesh.errors import SettingsError, WorkloadError
from mcpmesh.ingress.kong.kong_process import (
    ROLE,
    KongListeners,
    digest,
    environment,
    error_line_in,
    find_kong,
    remove_working_folder,
    start,
)
from mcpmesh.kit.marked_process import Mark
from mcpmesh.kit.packaged_files import resource_path
from mcpmesh.settings import KongSettings


def test_the_environment_of_a_kong_without_a_database(tmp_path: Path) -> None:
    listeners, log = KongListeners("::1", 8000, 8001), tmp_path / "k.log"
    found = environment(tmp_path, listeners, KongSettings(workers=2), log, root=False)
    assert found == {
        "KONG_DATABASE": "off",
        "KONG_DECLARATIVE_CONFIG": str(resource_path("kong/waiting.yml")),
        "KONG_NGINX_DAEMON": "off",
        "KONG_NGINX_WORKER_PROCESSES": "2",
        "KONG_PROXY_LISTEN": "[::1]:8000",
        "KONG_ADMIN_LISTEN": "127.0.0.1:8001",
        # By default these are open to everybody, or conflict with a second Kong.
        "KONG_ADMIN_GUI_LISTEN": "off",
        "KONG_STATUS_LISTEN": "off",
        "KONG_STREAM_LISTEN": "off",
        "KONG_ANONYMOUS_REPORTS": "off",
        "KONG_PROXY_ACCESS_LOG": str(tmp_path / "k.access.log"),
        "KONG_ADMIN_ACCESS_LOG": "off",
        "KONG_PROXY_ERROR_LOG": str(log),
        "KONG_ADMIN_ERROR_LOG": str(log),
        "KONG_PREFIX": str(tmp_path / "kong"),
    }


def test_spans_are_created_when_they_are_sent_and_workers_of_root_stay_root(tmp_path: Path) -> None:
    listeners, log = KongListeners("127.0.0.1", 1, 2), tmp_path / "k.log"
    quiet = environment(tmp_path, listeners, KongSettings(), log, root=False)
    found = environment(tmp_path, listeners, KongSettings(traces_url="http://otel:4318"), log, root=True)
    assert quiet["KONG_PROXY_LISTEN"] == "127.0.0.1:1"
    assert {key: value for key, value in found.items() if key not in quiet} == {
        "KONG_TRACING_INSTRUMENTATIONS": "request,router,balancer",
        "KONG_TRACING_SAMPLING_RATE": "1",
        "KONG_NGINX_USER": "root root",
    }


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({}, False),
        ({"workers": 3}, True),
        ({"traces_url": "http://otel:4318"}, True),
        ({"prometheus": False}, False),
        ({"admin": "http://kong:8001"}, False),
    ],
)
def test_the_digest_of_a_kong_covers_what_it_cannot_change_while_it_runs(change: dict[str, Any], differs: bool) -> None:
    kong = Path("/usr/bin/kong")
    # An earlier version has written this one into marks.
    assert digest(kong, "127.0.0.1", KongSettings()) == "f045e613aa45716f"
    assert (digest(kong, "127.0.0.1", KongSettings(**change)) != "f045e613aa45716f") is differs
    assert digest(Path("/opt/kong"), "127.0.0.1", KongSettings()) != "f045e613aa45716f"
    assert digest(kong, "0.0.0.0", KongSettings()) != "f045e613aa45716f"


def test_a_configured_program_that_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="MCPMESH_KONG__BINARY"):
        find_kong(tmp_path / "kong")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_kong(None) is None
    program = tmp_path / "kong"
    program.touch()
    program.chmod(0o755)
    assert find_kong(None) == program == find_kong(program)


@pytest.mark.parametrize(("length", "fits"), [(107, True), (108, False)])
def test_a_folder_with_too_long_a_path_for_sockets_is_an_error_before_the_start(
    tmp_path: Path, length: int, fits: bool
) -> None:
    home = Path(str(tmp_path).ljust(length - len("/kong/sockets/we"), "x"))
    mark = Mark("m", str(home), ROLE, "m-ingress", "ingress", ports={"public": 1, "admin": 2})
    if not fits:
        with pytest.raises(WorkloadError, match="MCPMESH_STATE_DIR"):
            start(Path("/bin/true"), mark, KongListeners("127.0.0.1", 1, 2), KongSettings())
        assert not home.exists()
        return
    start(Path("/bin/true"), mark, KongListeners("127.0.0.1", 1, 2), KongSettings())
    assert {path.name: path.stat().st_mode & 0o777 for path in (home / "logs").iterdir()} == {
        "m-ingress.kong.log": 0o600,
        "m-ingress.kong.access.log": 0o600,
    }
    remove_working_folder(home)
    assert not (home / "kong").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "(none)"),
        ("Kong started\n", "Kong started"),
        (
            "Error: start.lua:99: nginx: [emerg] bind() failed\n\n  Run with --v (verbose) or --vv (debug)\n",
            "Error: start.lua:99: nginx: [emerg] bind() failed",
        ),
    ],
)
def test_the_error_line_of_a_log_is_its_last_error_not_the_advice_after_it(
    tmp_path: Path, text: str, reason: str
) -> None:
    log = tmp_path / "kong.log"
    log.write_text(text)
    assert error_line_in(log) == reason
