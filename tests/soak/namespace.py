"""The permission to let a connection vanish: CAP_NET_ADMIN here, or in a network namespace of its own.

The kernel closes a socket without a word to its peer (TCP_REPAIR) only for who
may administer the network. Where we may not, this process moves into a user
and a network namespace in which it may; all that it starts comes along, and
loopback is all that a soak needs.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

from tests.soak.disconnects import TCP_REPAIR

# From linux/sched.h, linux/sockios.h and linux/if.h.
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP, IFF_RUNNING = 0x1, 0x40


class NotAllowed(Exception):
    """Neither is possible; the message is one sentence that says what would help."""


def may_vanish() -> bool:
    """Whether the kernel permits it to this process."""
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except PermissionError:
            return False
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 0)
        return True


def let_vanish() -> None:
    """Obtain the permission, before this process has a thread or a connection. Raises NotAllowed."""
    if may_vanish():
        return
    try:
        _move()
    except OSError as error:
        raise NotAllowed(
            "cannot let a connection vanish without a word: that takes CAP_NET_ADMIN, and the kernel refuses a user "
            f"namespace of our own, where we would have it ({error.strerror}); run this as root, in a container with "
            "--cap-add NET_ADMIN, or allow unprivileged user namespaces"
        ) from error


def _move() -> None:
    """Move into a user and a network namespace with the same user and loopback up; raises OSError."""
    user, group = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket() as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP | IFF_RUNNING))
