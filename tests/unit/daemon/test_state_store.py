"""The stored ports of a mesh, and how agents of several meshes keep out of each other's way."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcpmesh.daemon.state_store import StateStore
from mcpmesh.errors import SettingsError
from mcpmesh.kit.ports import PortAllocator, is_free
from mcpmesh.settings import IngressSettings

NAMES = ("http", "grpc")


def say_nothing(sentence: str) -> None:
    raise AssertionError(sentence)


def hold(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen()
    return sock


def test_ports_are_stored(tmp_path: Path) -> None:
    first = StateStore(tmp_path).ports(NAMES, PortAllocator(16000), set())
    assert StateStore(tmp_path).ports(NAMES, PortAllocator(16500), set()) == first


def test_stored_ports_that_another_program_took_are_replaced(tmp_path: Path) -> None:
    first = StateStore(tmp_path).ports(NAMES, PortAllocator(16000), set())
    with hold(first["grpc"]):
        assert not set(first.values()) & set(StateStore(tmp_path).ports(NAMES, PortAllocator(16500), set()).values())


def test_stored_ports_that_our_own_process_holds_are_kept(tmp_path: Path) -> None:
    first = StateStore(tmp_path).ports(NAMES, PortAllocator(16000), set())
    with hold(first["grpc"]):
        assert StateStore(tmp_path).ports(NAMES, PortAllocator(16500), set(), held_by_us=True) == first


@pytest.mark.parametrize("text", ["", "[]", "{", '{"http": "x"}', "null"])
def test_a_damaged_file_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)
    assert StateStore(tmp_path).ports(NAMES, PortAllocator(16000), set()).keys() == set(NAMES)


def test_an_ingress_port_from_the_settings_that_is_taken_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    port = PortAllocator(16800).take()
    with hold(port), pytest.raises(SettingsError, match=f"127.0.0.1:{port}: the port is taken.*MCPMESH_INGRESS__PORT"):
        StateStore(tmp_path).ingress_port(IngressSettings(port=port), set(), None, say_nothing)


def test_a_port_that_our_own_ingress_holds_is_kept(tmp_path: Path) -> None:
    assert StateStore(tmp_path).ingress_port(IngressSettings(), set(), 26999, say_nothing) == 26999


def test_another_ingress_port_is_used_and_reported_only_while_the_stored_one_is_taken(tmp_path: Path) -> None:
    usual = PortAllocator(17000).take()
    (tmp_path / "ports.json").write_text(f'{{"ingress": {usual}}}')
    sentences: list[str] = []
    with hold(usual):
        other = StateStore(tmp_path).ingress_port(IngressSettings(), set(), None, sentences.append)
    assert sentences == [f"port {usual} is taken, so the ingress is at {other}"]
    assert StateStore(tmp_path).ingress_port(IngressSettings(), set(), None, say_nothing) == usual


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    key = StateStore(tmp_path).key()
    assert StateStore(tmp_path).key() == key and len(key) == 64
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_each_name_keeps_its_port_whatever_others_come_and_go(tmp_path: Path) -> None:
    first = StateStore(tmp_path).ports_for(["files", "time"], PortAllocator(17200), set(), held_by_us=False)
    more = StateStore(tmp_path).ports_for(["shop", "files"], PortAllocator(17200), set(), held_by_us=False)
    assert more["files"] == first["files"] and more["shop"] not in first.values()
    assert StateStore(tmp_path).ports_for(["time"], PortAllocator(17200), set(), held_by_us=False) == {
        "time": first["time"]
    }


def test_only_the_port_that_another_program_took_is_replaced(tmp_path: Path) -> None:
    first = StateStore(tmp_path).ports_for(["files", "time"], PortAllocator(17300), set(), held_by_us=False)
    with hold(first["files"]):
        assert StateStore(tmp_path).ports_for(first, PortAllocator(17300), set(), held_by_us=True) == first
        second = StateStore(tmp_path).ports_for(first, PortAllocator(17300), set(), held_by_us=False)
    assert second["time"] == first["time"] and second["files"] not in first.values()


_AGENT = """
import json, sys
from pathlib import Path
from mcpmesh.daemon.state_store import StateStore
from mcpmesh.kit.ports import PortAllocator
from mcpmesh.settings import IngressSettings

store = StateStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
ports = store.ports(("http", "grpc"), PortAllocator(int(sys.argv[2])), set())
ports["ingress"] = store.ingress_port(IngressSettings(), set(), None, lambda sentence: None)
print(json.dumps(ports), flush=True)
sys.stdin.read()
"""


class Other:
    """The agent of another mesh, which chooses ports and opens none."""

    def __init__(self, home: Path, base: int) -> None:
        argv = [sys.executable, "-c", _AGENT, str(home), str(base)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._is_ready = False

    def wait_until_ready(self) -> None:
        """Returns once it only has to choose."""
        if not self._is_ready:
            assert self._line() == "ready\n"
            self._is_ready = True

    def start(self) -> None:
        """Lets it choose."""
        self.wait_until_ready()
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def chosen(self) -> dict[str, int]:
        """The ports that it chose."""
        chosen: dict[str, int] = json.loads(self._line())
        return chosen

    def end(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()


@pytest.fixture
def others() -> Iterator[Callable[[Path, int], Other]]:
    """Starts agents of other meshes; none outlives the test."""
    started: list[Other] = []

    def start(home: Path, base: int) -> Other:
        started.append(Other(home, base))
        return started[-1]

    yield start
    for other in started:
        other.end()


def home_with(folder: Path, ports: dict[str, int]) -> Path:
    """The home of a mesh that has stored these ports."""
    home = folder / "two" / "a"
    home.mkdir(parents=True)
    (home / "ports.json").write_text(json.dumps(ports))
    return home


def test_ports_that_other_agents_chose_are_not_chosen_though_nothing_listens_there_yet(
    tmp_path: Path, others: Callable[[Path, int], Other]
) -> None:
    other = others(tmp_path / "one" / "a", 17400)
    other.start()
    chosen = other.chosen()
    store, sentences = StateStore(home_with(tmp_path, {"ingress": chosen["ingress"]})), list[str]()
    more = (
        store.ports(NAMES, PortAllocator(17400), set()),
        store.ports_for(("files",), PortAllocator(17400), set(), held_by_us=False),
    )
    port = store.ingress_port(IngressSettings(), set(), None, sentences.append)
    assert not set(chosen.values()) & {port, *more[0].values(), *more[1].values()}
    assert sentences == [f"port {chosen['ingress']} is taken, so the ingress is at {port}"]


def test_agents_that_choose_at_the_same_moment_choose_different_ports(
    tmp_path: Path, others: Callable[[Path, int], Other]
) -> None:
    started = [others(tmp_path / str(number) / "a", 17700) for number in range(4)]
    for other in started:
        other.wait_until_ready()
    for other in started:
        other.start()
    chosen = [port for other in started for port in other.chosen().values()]
    assert len(chosen) == len(set(chosen)) == 12


def test_ports_that_another_agent_chose_meanwhile_are_given_up_and_free_again_after_its_end(
    tmp_path: Path, others: Callable[[Path, int], Other]
) -> None:
    other = others(tmp_path / "one" / "a", 17500)
    other.start()
    first = other.chosen()
    home = home_with(tmp_path, first)
    assert not set(first.values()) & set(StateStore(home).ports(NAMES, PortAllocator(17500), set()).values())
    with pytest.raises(SettingsError, match="the port is taken"):
        StateStore(home).ingress_port(IngressSettings(port=first["http"]), set(), None, say_nothing)
    other.end()
    assert StateStore(home).ingress_port(IngressSettings(port=first["http"]), set(), None, say_nothing) == first["http"]


def test_a_port_that_a_mesh_does_not_get_is_not_kept_from_others(
    tmp_path: Path, others: Callable[[Path, int], Other]
) -> None:
    port = next(port for port in range(17800, 17900) if is_free(port))
    home = home_with(tmp_path, {"http": port, "ingress": port})
    with hold(port):
        store, sentences = StateStore(home), list[str]()
        assert port not in store.ports_for(("http",), PortAllocator(17900), set(), held_by_us=False).values()
        store.ingress_port(IngressSettings(), set(), None, sentences.append)
    assert sentences[0].startswith(f"port {port} is taken")
    other = others(tmp_path / "b", port)
    other.start()
    assert port in other.chosen().values()


def test_an_ingress_at_an_address_of_its_own_may_have_a_port_that_others_chose(
    tmp_path: Path, others: Callable[[Path, int], Other]
) -> None:
    other = others(tmp_path / "a", 17950)
    other.start()
    settings = IngressSettings(host="127.0.0.2", port=other.chosen()["http"])
    assert StateStore(tmp_path / "b").ingress_port(settings, set(), None, say_nothing) == settings.port


def test_a_port_that_our_ingress_holds_is_kept_from_others(
    tmp_path: Path, others: Callable[[Path, int], Other]
) -> None:
    port = next(port for port in range(17600, 17700) if is_free(port))
    with hold(port):
        assert StateStore(tmp_path / "a").ingress_port(IngressSettings(), set(), port, say_nothing) == port
    other = others(tmp_path / "b", port)
    other.start()
    assert port not in other.chosen().values()
