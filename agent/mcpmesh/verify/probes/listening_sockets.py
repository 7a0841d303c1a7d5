"""Who listens where, from the kernel's own tables (proc(5): /proc/net, /proc/PID/fd)."""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# States in those tables: a TCP socket that listens; a UDP socket without a peer.
_WAITING = {"tcp": "0A", "udp": "07"}
_TABLES = (("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp"))


@dataclass(frozen=True)
class Listener:
    """A socket that takes what comes from anybody who can reach `address`."""

    protocol: str
    address: Address
    port: int
    inode: int

    @property
    def everywhere(self) -> bool:
        """Whether it is bound to all addresses of its family."""
        return self.address.is_unspecified

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        mapped = getattr(self.address, "ipv4_mapped", None)
        return bool((mapped or self.address).is_loopback)

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{self.protocol} {host}:{self.port}"


@dataclass(frozen=True)
class Sockets:
    """All listeners of this machine at one moment, and who holds them (as far as we may know)."""

    listeners: tuple[Listener, ...]
    holders: Mapping[int, frozenset[int]]

    def of(self, pid: int) -> list[Listener]:
        """Listeners that `pid` holds."""
        return [listener for listener in self.listeners if pid in self.holders.get(listener.inode, ())]

    def holding(self, host: str, port: int) -> frozenset[int]:
        """The pids that a TCP connection to `host`:`port` reaches: those bound to it before those bound to all.

        Empty where nobody listens, or a process of another user does.
        """
        wanted = ipaddress.ip_address(host)
        here = [item for item in self.listeners if item.protocol == "tcp" and item.port == port]
        exact = [item for item in here if item.address in (wanted, _mapped(wanted))]
        found = exact or [item for item in here if item.everywhere]
        return frozenset(pid for item in found for pid in self.holders.get(item.inode, ()))


@dataclass(frozen=True)
class Table:
    """A listener as one program tells it to another; `mine` is whether the first process there holds it."""

    protocol: str
    address: str
    port: int
    inode: int
    mine: bool

    def listener(self) -> Listener:
        """The same."""
        return Listener(self.protocol, ipaddress.ip_address(self.address), self.port, self.inode)


def told(found: Sockets) -> str:
    """The listeners of a container as JSON; its first process is the one that it was started for."""
    rows = [
        Table(item.protocol, str(item.address), item.port, item.inode, 1 in found.holders.get(item.inode, ()))
        for item in found.listeners
    ]
    return json.dumps([asdict(row) for row in rows])


def look(proc: Path = Path("/proc")) -> Sockets:
    """One look; never raises for processes that end meanwhile or belong to others."""
    listeners: list[Listener] = []
    for table, protocol in _TABLES:
        try:
            text = (proc / "net" / table).read_text()
        except OSError:  # a kernel without IPv6
            continue
        listeners += parse(text, protocol)
    return Sockets(tuple(listeners), _holders(proc, {listener.inode for listener in listeners}))


def parse(table: str, protocol: str) -> Iterator[Listener]:
    """The listeners in the text of /proc/net/tcp, tcp6, udp or udp6."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _WAITING[protocol]:
            host, _, port = fields[1].partition(":")
            yield Listener(protocol, _address(host), int(port, 16), int(fields[9]))


def _address(text: str) -> Address:
    """The kernel prints each 32-bit word of an address as a number of this machine's byte order."""
    words = (text[start : start + 8] for start in range(0, len(text), 8))
    return ipaddress.ip_address(b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words))


def _mapped(address: Address) -> Address:
    """An IPv4 address as an IPv6 socket has it."""
    return ipaddress.IPv6Address(f"::ffff:{address}") if address.version == 4 else address


def _holders(proc: Path, inodes: set[int]) -> dict[int, frozenset[int]]:
    found: dict[int, set[int]] = {}
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
                found.setdefault(inode, set()).add(int(entry.name))
    return {inode: frozenset(pids) for inode, pids in found.items()}


if __name__ == "__main__":
    sys.stdout.write(told(look()))
