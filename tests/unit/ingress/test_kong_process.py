"""The process of our own Kong: its environment and its log."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcpmesh.errors import SettingsError, WorkloadError
from mcpmesh.ingress.kong.kong_process import ROLE, KongListeners, environment, error_line_in, find_kong, start
from mcpmesh.kit.marked_process import Mark
from mcpmesh.settings import KongSettings


def test_kong_listens_where_it_is_told_and_nowhere_else(tmp_path: Path) -> None:
    found = environment(
        tmp_path, KongListeners("::1", 8000, 8001), KongSettings(workers=2), tmp_path / "k.log", root=False
    )
    assert found["KONG_PROXY_LISTEN"] == "[::1]:8000" and found["KONG_ADMIN_LISTEN"] == "127.0.0.1:8001"
    # By default these are open to everybody, or conflict with a second Kong.
    assert {found[f"KONG_{name}_LISTEN"] for name in ("ADMIN_GUI", "STATUS", "STREAM")} == {"off"}
    assert found["KONG_DATABASE"] == "off" and found["KONG_NGINX_DAEMON"] == "off"
    assert found["KONG_ANONYMOUS_REPORTS"] == "off" and found["KONG_NGINX_WORKER_PROCESSES"] == "2"
    assert "KONG_NGINX_USER" not in found and "KONG_TRACING_INSTRUMENTATIONS" not in found


def test_spans_are_created_when_they_are_sent(tmp_path: Path) -> None:
    settings = KongSettings(traces_url="http://otel:4318/v1/traces")
    found = environment(tmp_path, KongListeners("127.0.0.1", 1, 2), settings, tmp_path / "k.log", root=True)
    assert found["KONG_TRACING_INSTRUMENTATIONS"] and found["KONG_NGINX_USER"] == "root root"


def test_a_configured_program_that_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="MCPMESH_KONG__BINARY"):
        find_kong(tmp_path / "kong")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_kong(None) is None
    program = tmp_path / "kong"
    program.touch()
    program.chmod(0o755)
    assert find_kong(None) == program == find_kong(program)


def test_a_folder_with_too_long_a_path_for_sockets_is_an_error_before_the_start(tmp_path: Path) -> None:
    home = tmp_path / ("deep" * 30)
    mark = Mark("m", str(home), ROLE, "m-ingress", "ingress", ports={"public": 1, "admin": 2})
    with pytest.raises(WorkloadError, match="MCPMESH_STATE_DIR"):
        start(Path("/bin/true"), mark, KongListeners("127.0.0.1", 1, 2), KongSettings())


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
