"""The guard: the parent of every server process, so that none outlives its shim.

It is a program of its own, run as a bare script (`python -I -S guard_process.py`)
with few and basic imports, so that it stays small and starts in milliseconds.
The shim passes it a file as descriptor 0 that says what to run (marshalled:
command, args, env, cwd, mark), and a socket of packets as descriptor 3:

    shim → guard   S <n> + 3 descriptors   start server n on these as 0, 1, 2
                   T <n>                   SIGTERM to its process group
                   K <n>                   SIGKILL to it and all its descendants
    guard → shim   P <n> <pid>             runs
                   F <n> <errno>           could not be started
                   E <n> <status>          exited (a wait status); its remaining descendants are killed

The guard is a subreaper, so every process that a server starts, detached or
not, ends up below it. When the socket closes, because the shim ended (by
SIGKILL too), the guard kills and reaps all of them and exits. If the guard
itself is killed, each server gets the parent-death signal, and the shim, also a
subreaper, inherits and kills the rest.
"""

import ctypes
import errno
import marshal
import os
import select
from _socket import MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOL_SOCKET
from _socket import socket as RawSocket  # noqa: N812

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # without the enumerations, which cost a megabyte

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PACKET_BYTES = 4096


def prctl(option: int, value: int) -> None:
    """Call prctl(2). A failure is ignored, since the other half of the guarantee still holds."""
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def children_of(pid: int) -> list[int]:
    """The direct children of a process, zombies included; none if the process has ended."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with open(f"/proc/{pid}/task/{task}/children") as file:  # noqa: PTH123 (pathlib costs start time)
                found += [int(word) for word in file.read().split()]
    except (OSError, ValueError):
        pass
    return found


def descendants_of(pid: int) -> list[int]:
    """All descendants of a process, parents before children."""
    found: list[int] = []
    stack = children_of(pid)
    while stack:
        child = stack.pop()
        found.append(child)
        stack += children_of(child)
    return found


def send_signal(pid: int, number: int, group: bool = False) -> None:
    """Signal a process or a group; one that has ended is ignored."""
    try:
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except OSError:
        pass


class Guard:
    """Starts, signals and reaps servers; knows which of them run (number to pid and back)."""

    def __init__(self, spec: dict, socket: RawSocket) -> None:  # type: ignore[type-arg]
        self.spec = spec
        self.socket = socket
        self.pids: dict[int, int] = {}
        self.numbers: dict[int, int] = {}
        self.pid = os.getpid()

    def mark(self, number: int) -> str:
        """The mark in the environment of server `number` and of its descendants: it names their origin."""
        return f'{self.spec["mark"]},"child":"{self.pid}-{number}"}}'

    def start(self, number: int, fds: list[int]) -> None:
        """Fork and exec server `number`; sends P or F."""
        environment = {**self.spec["env"], "MCPMESH_MARK": self.mark(number)}
        pipe: tuple[int, ...] = ()
        try:
            result_pipe, error_pipe = pipe = os.pipe()
            # At the limit of open files the kernel passes only some of the descriptors.
            pid = os.fork() if len(fds) == 3 else -errno.EMFILE
        except OSError as error:
            pid = -(error.errno or errno.EAGAIN)
        if pid < 0:
            for fd in (*fds, *pipe):
                os.close(fd)
            self.report(f"F {number} {-pid}")
            return
        if pid == 0:
            self.exec_server(environment, fds, error_pipe)
        os.close(error_pipe)
        for fd in fds:
            os.close(fd)
        failure = os.read(result_pipe, 16)
        os.close(result_pipe)
        if failure:
            os.waitpid(pid, 0)
            self.report(f"F {number} {failure.decode()}")
            return
        self.pids[number] = pid
        self.numbers[pid] = number
        self.report(f"P {number} {pid}")

    def exec_server(self, environment: dict, fds: list[int], error_pipe: int) -> None:  # type: ignore[type-arg]
        """In the forked child: become the server; never returns."""
        try:
            os.setsid()
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self.pid:
                os._exit(127)
            # An ignored signal stays ignored across exec, and Python ignores SIGPIPE.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            for target, fd in enumerate(fds):
                os.dup2(fd, target)
            os.chdir(self.spec["cwd"])
            os.execve(self.spec["command"], [self.spec["command"], *self.spec["args"]], environment)  # noqa: S606
        except OSError as error:
            os.write(error_pipe, str(error.errno or 0).encode())
        finally:
            os._exit(127)

    def report(self, message: str) -> None:
        try:  # noqa: SIM105 (contextlib costs start time)
            self.socket.send(message.encode())
        except OSError:  # the shim has ended: the next receive notices it, and ends the guard
            pass

    def reap(self) -> None:
        """Reap exited processes. What a server left behind is killed before its exit is reported."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self.numbers.pop(pid, None)
            if number is None:
                continue
            del self.pids[number]
            self.sweep(pid, number)
            self.report(f"E {number} {status}")

    def sweep(self, leader: int, number: int) -> None:
        """Kill the orphans of an exited server: those of its session, and those that carry its mark."""
        mark = f'"child":"{self.pid}-{number}"'.encode()
        for pid in children_of(self.pid):
            if pid in self.numbers:
                continue
            if session_of(pid) == leader or not self.pids or mark in environment_of(pid):
                for victim in (pid, *descendants_of(pid)):
                    send_signal(victim, signal.SIGKILL)

    def kill(self, number: int) -> None:
        """SIGKILL to server `number`, its group and all its descendants, detached ones included."""
        pid = self.pids.get(number)
        if pid is None:
            return
        victims = descendants_of(pid)
        send_signal(pid, signal.SIGKILL, group=True)
        for victim in victims:
            send_signal(victim, signal.SIGKILL)

    def receive(self) -> bool:
        """Act on one packet; returns False when the shim has ended."""
        data, ancillary, _, _ = self.socket.recvmsg(PACKET_BYTES, 1024, MSG_CMSG_CLOEXEC)
        if not data:
            return False
        verb, number = data.decode().split()
        fds: list[int] = []
        for level, kind, payload in ancillary:
            if level == SOL_SOCKET and kind == SCM_RIGHTS:
                fds += list(memoryview(payload).cast("i"))
        if verb == "S":
            self.start(int(number), fds)
        elif verb == "T" and int(number) in self.pids:
            send_signal(self.pids[int(number)], signal.SIGTERM, group=True)
        elif verb == "K":
            self.kill(int(number))
        return True

    def serve(self) -> None:
        """Serve until the shim ends."""
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(woken, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self.socket.fileno(), select.POLLIN)
        poll.register(woken, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if woken in ready:
                os.read(woken, 4096)
                self.reap()
            if self.socket.fileno() in ready and not self.receive():
                return

    def finish(self) -> None:
        """Kill and reap all descendants, until there are none, even if they fork meanwhile."""
        signal.set_wakeup_fd(-1)
        while left := descendants_of(self.pid):
            for pid in left:
                send_signal(pid, signal.SIGKILL)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


def session_of(pid: int) -> int:
    """The session of a process; -1 if the process has ended."""
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def environment_of(pid: int) -> bytes:
    """The environment that a process was started with; empty if the process has ended."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return b""


def main() -> None:
    """Read what to run, serve until the shim ends, then kill what is left."""
    with open(0, "rb", closefd=False) as file:
        spec = marshal.load(file)  # noqa: S302 (written by our own parent)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    guard = Guard(spec, RawSocket(fileno=3))
    os.set_inheritable(3, False)
    try:
        guard.serve()
    finally:
        guard.finish()


if __name__ == "__main__":
    main()
