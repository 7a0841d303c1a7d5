from __future__ import annotations

from pathlib import Path

from mcpmesh.daemon.compose_marker_files import ComposeMarkerFiles


async def test_the_present_state_is_yielded_first_and_then_each_change(tmp_path: Path) -> None:
    changes = ComposeMarkerFiles(tmp_path).wanted_changes(0.001)
    assert await anext(changes) is False
    (tmp_path / "wanted").touch()
    assert await anext(changes) is True
    (tmp_path / "wanted").unlink()
    assert await anext(changes) is False


def test_the_agents_file_exists_from_announcement_to_withdrawal(tmp_path: Path) -> None:
    signal = ComposeMarkerFiles(tmp_path)
    signal.announce_agent()
    assert (tmp_path / "agent").exists()
    signal.withdraw_agent()
    signal.withdraw_agent()
    assert not (tmp_path / "agent").exists()


def test_servers_are_not_reported_gone_while_they_are_wanted(tmp_path: Path) -> None:
    (tmp_path / "wanted").touch()
    ComposeMarkerFiles(tmp_path).report_gone()
    assert not (tmp_path / "gone").exists()
    (tmp_path / "wanted").unlink()
    ComposeMarkerFiles(tmp_path).report_gone()
    assert (tmp_path / "gone").exists()
