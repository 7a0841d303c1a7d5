from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mcpmesh.catalog.loader import load
from mcpmesh.catalog.watcher import SETTLE_READINGS, Digests, changes, read_until_settled

if TYPE_CHECKING:
    from conftest import Folder

# Only a bound for machines that are busy; a change is reported in about a second.
BOUND = 30.0


def _kernel_watches() -> bool:
    found = False
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found |= "inotify" in os.readlink(entry)
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


class Watch:
    """A running `changes`, asked for one change after the other."""

    def __init__(self, reports: AsyncIterator[None]) -> None:
        self._reports = reports
        self._next: asyncio.Task[None] | None = None

    def _asked(self) -> asyncio.Task[None]:
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._reports))
        return self._next

    async def armed(self) -> None:
        """Until the kernel watches for it."""
        self._asked()
        async with asyncio.timeout(BOUND):
            while not _kernel_watches():
                await asyncio.sleep(0.01)

    async def one(self) -> None:
        await asyncio.wait_for(self._asked(), BOUND)
        self._next = None

    async def none_until(self, marker: Path) -> None:
        """Proves that nothing was reported: the next report is that of `marker`, which is changed now."""
        assert not self._asked().done()
        marker.write_text("version: 1\nservices: {marker: {command: x}}\n")
        await self.one()

    async def close(self) -> None:
        if self._next:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
        await self._reports.aclose()  # type: ignore[attr-defined]


@pytest.fixture
async def watch(folder: Folder) -> AsyncIterator[Watch]:
    folder.services("a: {command: x, env: {T: 'file:secrets/token'}}")
    (folder.path / "secrets").mkdir()
    folder.write("secrets/token", "one")
    watching = Watch(changes([folder.path / "mesh.yaml"]))
    yield watching
    await watching.close()


async def test_a_saved_file_is_reported(folder: Folder, watch: Watch) -> None:
    await watch.armed()
    folder.services("b: {command: x}")
    await watch.one()
    assert list(load([folder.path / "mesh.yaml"], {}).services) == ["b"]


async def test_a_change_between_the_call_and_the_first_wait_is_reported(folder: Folder, watch: Watch) -> None:
    folder.services("b: {command: x}")
    await watch.one()


async def test_a_change_while_the_last_one_is_worked_on_is_reported(folder: Folder, watch: Watch) -> None:
    folder.services("b: {command: x}")
    await watch.one()
    folder.services("c: {command: x}")
    await watch.one()


async def test_an_editor_that_replaces_the_file_is_followed(folder: Folder, watch: Watch) -> None:
    await watch.armed()
    for name in ("b", "c"):
        new = folder.write("mesh.yaml~", f"version: 1\nservices: {{{name}: {{command: x}}}}\n")
        new.replace(folder.path / "mesh.yaml")
        await watch.one()


async def test_a_file_that_goes_and_comes_back_is_reported(folder: Folder, watch: Watch) -> None:
    await watch.armed()
    (folder.path / "mesh.yaml").unlink()
    await watch.one()
    await watch.armed()
    folder.services("a: {command: x}")
    await watch.one()


async def test_a_changed_secret_is_reported(folder: Folder, watch: Watch) -> None:
    await watch.armed()
    folder.write("secrets/token", "two")
    await watch.one()


async def test_a_secret_that_is_named_later_is_watched_from_then_on(folder: Folder, watch: Watch) -> None:
    folder.write("secrets/other", "one")
    folder.services("a: {command: x, env: {T: 'file:secrets/other'}}")
    await watch.one()
    await watch.armed()
    folder.write("secrets/other", "two")
    await watch.one()


async def test_touching_a_file_or_writing_another_is_no_change(folder: Folder, watch: Watch) -> None:
    await watch.armed()
    os.utime(folder.path / "mesh.yaml")
    folder.write("neighbour.yaml", "x")
    folder.services("a: {command: x, env: {T: 'file:secrets/token'}}")
    await watch.none_until(folder.path / "mesh.yaml")


async def test_a_swapped_link_is_reported(folder: Folder) -> None:
    """As Kubernetes updates a mounted ConfigMap: file → ..data/file, ..data → a dated folder, swapped by a rename."""
    for version in ("1", "2"):
        (folder.path / f"..{version}").mkdir()
        folder.write(f"..{version}/mesh.yaml", f"version: 1\nservices: {{v{version}: {{command: x}}}}\n")
    (folder.path / "..data").symlink_to("..1")
    (folder.path / "mesh.yaml").symlink_to("..data/mesh.yaml")
    watch = Watch(changes([folder.path / "mesh.yaml"]))
    await watch.armed()
    (folder.path / "..new").symlink_to("..2")
    (folder.path / "..new").replace(folder.path / "..data")
    await watch.one()
    assert list(load([folder.path / "mesh.yaml"], {}).services) == ["v2"]
    await watch.close()


async def test_a_link_into_another_folder_is_followed(folder: Folder) -> None:
    (folder.path / "elsewhere").mkdir()
    real = folder.write("elsewhere/real.yaml", "version: 1\nservices: {a: {command: x}}\n")
    (folder.path / "mesh.yaml").symlink_to(real)
    watch = Watch(changes([folder.path / "mesh.yaml"]))
    await watch.armed()
    folder.write("elsewhere/real.yaml", "version: 1\nservices: {b: {command: x}}\n")
    await watch.one()
    await watch.close()


async def test_a_file_in_a_folder_that_is_not_there_yet_is_reported_when_it_comes(folder: Folder) -> None:
    path = folder.path / "later" / "mesh.yaml"
    watch = Watch(changes([path]))
    await watch.armed()
    path.parent.mkdir()
    path.write_text("version: 1\nservices: {a: {command: x}}\n")
    await watch.one()
    await watch.close()


async def test_a_save_in_many_writes_is_reported_once(folder: Folder, watch: Watch) -> None:
    await watch.armed()
    text = "version: 1\nservices:\n" + "".join(f"  s{n}: {{command: x}}\n" for n in range(40))
    with (folder.path / "mesh.yaml").open("w") as file:
        for line in text.splitlines(keepends=True):
            file.write(line)
            file.flush()
    await watch.one()
    assert len(load([folder.path / "mesh.yaml"], {}).services) == 40
    await watch.none_until(folder.path / "mesh.yaml")
    assert list(load([folder.path / "mesh.yaml"], {}).services) == ["marker"]


class Readings:
    """A file whose content differs in each reading, up to a last one."""

    def __init__(self, last: int) -> None:
        self.count = 0
        self._last = last

    def read(self, known: Digests) -> Digests:
        self.count += 1
        return {Path("mesh.yaml"): b"%d" % min(self.count, self._last)}


@pytest.mark.parametrize(
    ("last", "digest", "count"),
    [(0, b"0", 1), (1, b"1", 2), (3, b"3", 4), (SETTLE_READINGS + 5, b"%d" % SETTLE_READINGS, SETTLE_READINGS)],
)
async def test_a_save_is_over_when_two_readings_agree_or_after_many(last: int, digest: bytes, count: int) -> None:
    readings = Readings(last)
    settled = await read_until_settled(readings.read, {Path("mesh.yaml"): b"0"}, pause_seconds=0)
    assert (settled, readings.count) == ({Path("mesh.yaml"): digest}, count)
