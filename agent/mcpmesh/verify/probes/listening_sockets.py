"""Which process listens where, from the kernel's own tables (proc(5): /proc/net, /proc/PID/fd).

As a program it prints the listeners of the container that it runs in, as JSON.
"""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# The states in those tables of a TCP socket that listens, and of a UDP socket without a peer.
_LISTENING = {"tcp": "0A", "udp": "07"}
_TABLES = (("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp"))


@dataclass(frozen=True)
class Listener:
    """A socket that accepts from every sender that can reach `address`."""

    protocol: str
    address: Address
    port: int
    inode: int

    @property
    def on_all_addresses(self) -> bool:
        """Whether it is bound to all addresses of its family."""
        return self.address.is_unspecified

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        mapped = getattr(self.address, "ipv4_mapped", None)
        return bool((mapped or self.address).is_loopback)

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{self.protocol} {host}:{self.port}"


@dataclass(frozen=True)
class ListeningSockets:
    """All listeners of one network namespace at one moment.

    `holders` are the pids that hold each, by inode; processes of other users are not among them.
    """

    listeners: tuple[Listener, ...]
    holders: Mapping[int, frozenset[int]]

    def of_process(self, pid: int) -> list[Listener]:
        """The listeners that a process holds."""
        return [listener for listener in self.listeners if pid in self.holders.get(listener.inode, ())]

    def tcp_listeners(self, port: int) -> list[Listener]:
        """The TCP listeners at a port, at whatever address."""
        return [listener for listener in self.listeners if (listener.protocol, listener.port) == ("tcp", port)]

    def holders_of(self, host: str, port: int) -> frozenset[int]:
        """The pids that a TCP connection to `host`:`port` reaches.

        A listener bound to that address comes before one bound to all addresses. Empty where nothing listens, or a
        process of another user does.
        """
        address = ipaddress.ip_address(host)
        at_port = self.tcp_listeners(port)
        exact = [listener for listener in at_port if listener.address in (address, _mapped(address))]
        found = exact or [listener for listener in at_port if listener.on_all_addresses]
        return frozenset(pid for listener in found for pid in self.holders.get(listener.inode, ()))


@dataclass(frozen=True)
class ListenerRow:
    """A listener as JSON; `of_main_process` is whether the first process of the container holds it."""

    protocol: str
    address: str
    port: int
    inode: int
    of_main_process: bool

    def listener(self) -> Listener:
        """The listener of this row."""
        return Listener(self.protocol, ipaddress.ip_address(self.address), self.port, self.inode)


def to_json(sockets: ListeningSockets) -> str:
    """The listeners of a container; its main process, with pid 1, is the one that it was started for."""
    rows = [
        ListenerRow(
            listener.protocol,
            str(listener.address),
            listener.port,
            listener.inode,
            of_main_process=1 in sockets.holders.get(listener.inode, ()),
        )
        for listener in sockets.listeners
    ]
    return json.dumps([asdict(row) for row in rows])


def read_sockets(proc: Path = Path("/proc")) -> ListeningSockets:
    """The listeners of now. Never raises for processes that end meanwhile or belong to others."""
    listeners: list[Listener] = []
    for table, protocol in _TABLES:
        try:
            text = (proc / "net" / table).read_text()
        except OSError:  # a kernel without IPv6
            continue
        listeners += parse_table(text, protocol)
    return ListeningSockets(tuple(listeners), _read_holders(proc, {listener.inode for listener in listeners}))


def parse_table(text: str, protocol: str) -> Iterator[Listener]:
    """The listeners in the text of /proc/net/tcp, tcp6, udp or udp6."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTENING[protocol]:
            host, _, port = fields[1].partition(":")
            yield Listener(protocol, _parse_address(host), int(port, 16), int(fields[9]))


def _parse_address(text: str) -> Address:
    """The kernel prints each 32-bit word of an address as a number in this machine's byte order."""
    words = (text[start : start + 8] for start in range(0, len(text), 8))
    return ipaddress.ip_address(b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words))


def _mapped(address: Address) -> Address:
    """An IPv4 address as an IPv6 socket has it."""
    return ipaddress.IPv6Address(f"::ffff:{address}") if address.version == 4 else address


def _read_holders(proc: Path, inodes: set[int]) -> dict[int, frozenset[int]]:
    holders: dict[int, set[int]] = {}
    for entry in os.scandir(proc):
        if not entry.name.isdigit():
            continue
        try:
            descriptors = list(os.scandir(f"{entry.path}/fd"))
        except OSError:  # another user's, or gone meanwhile
            continue
        for descriptor in descriptors:
            try:
                target = os.readlink(descriptor.path)  # noqa: PTH115 - thousands of them
            except OSError:
                continue
            if target.startswith("socket:[") and (inode := int(target[8:-1])) in inodes:
                holders.setdefault(inode, set()).add(int(entry.name))
    return {inode: frozenset(pids) for inode, pids in holders.items()}


if __name__ == "__main__":
    sys.stdout.write(to_json(read_sockets()))
