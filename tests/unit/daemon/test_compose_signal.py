from __future__ import annotations

from pathlib import Path

from mcpmesh.daemon.compose_signal import ComposeSignal


async def test_it_tells_what_is_wanted_now_and_each_change(tmp_path: Path) -> None:
    states = ComposeSignal(tmp_path).states()
    assert await anext(states) is False
    (tmp_path / "wanted").touch()
    assert await anext(states) is True
    (tmp_path / "wanted").unlink()
    assert await anext(states) is False


def test_there_is_somebody_to_wait_for_while_the_agent_is_there(tmp_path: Path) -> None:
    companion = ComposeSignal(tmp_path)
    companion.come()
    assert (tmp_path / "agent").exists()
    companion.leave()
    companion.leave()
    assert not (tmp_path / "agent").exists()


def test_nothing_is_gone_while_the_servers_are_wanted(tmp_path: Path) -> None:
    (tmp_path / "wanted").touch()
    ComposeSignal(tmp_path).gone()
    assert not (tmp_path / "gone").exists()
    (tmp_path / "wanted").unlink()
    ComposeSignal(tmp_path).gone()
    assert (tmp_path / "gone").exists()
