"""Server processes: how they start, fail and end, and that none is left."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from running_shim import ACCEPT, SECONDS, Shim, descendants, initialize, marked, until


def test_a_call_whose_server_dies_fails_at_once_and_says_how(plain, legacy):
    client = legacy(plain)
    error = client.call("die", code=3)["error"]
    assert "exited with code 3" in error["message"]
    assert error["data"]["exitCode"] == 3
    assert error["data"]["started"] is True
    assert client.post({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).status_code == 404
    assert legacy(plain).text("echo", text="a new session") == "a new session"


def test_every_call_fails_when_its_server_exits(start, modern):
    shim = start()
    client = modern(shim)
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(client.call, "never") for _ in range(4)]
        until(lambda: shim.info()["in_flight"] == 4)
        assert "exited with code 9" in client.call("die", code=9)["error"]["message"]
        assert all("exited with code 9" in call.result()["error"]["message"] for call in waiting)
    shim.wait_ready()
    assert client.text("echo", text="back") == "back"


def test_the_main_server_is_started_again_and_the_state_follows(start, gate):
    held = gate()
    held.open()
    shim = start("--start-at", held.path, limits={"spares": 0, "backoff_seconds": 0.3})
    held.shut()
    (pid,) = shim.servers()
    os.kill(pid, signal.SIGKILL)
    # "restarting" lasts as long as the first wait; this may be read after it.
    state = until(lambda: (body := shim.state())["state"] != "ready" and body)
    assert state["state"] in ("restarting", "starting")
    assert "SIGKILL" in state["error"]
    held.open()
    shim.wait_ready()
    assert shim.servers() and pid not in shim.servers()


def test_a_server_that_exits_at_its_start_is_a_crash_loop_with_its_last_output(start):
    shim = start("--die-at-start", ready=False, limits={"backoff_seconds": 0.01, "crash_loop": 3})
    body = until(lambda: (body := shim.state())["state"] == "crash-loop" and body)
    assert body["exit_code"] == 4
    assert body["output"] == ["cannot open the database", "second line"]
    assert "exited with code 4" in body["error"]


def test_the_waits_between_failed_starts_grow(start, tmp_path):
    starts = tmp_path / "starts"
    words = ["-c", f'date +%s.%N >> "{starts}"; exit 4']
    limits = {"backoff_seconds": 0.2, "backoff_max_seconds": 0.8}
    start(ready=False, command="sh", args=words, limits=limits)
    until(lambda: starts.exists() and len(starts.read_text().split()) >= 5)
    times = [float(line) for line in starts.read_text().split()]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(wait >= least for wait, least in zip(waits, (0.2, 0.4, 0.8, 0.8), strict=False)), waits


def test_no_call_waits_for_a_server_in_a_crash_loop(start, modern):
    shim = start("--die-at-start", ready=False, limits={"backoff_seconds": 30, "crash_loop": 1})
    until(lambda: shim.state()["state"] == "crash-loop")
    response = modern(shim).post(modern(shim).body("tools/list"))
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert "nothing was started" in response.json()["error"]["message"]
    assert "exited with code 4" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("command", "words"),
    [("no-such-program-anywhere", "not on PATH|no such program"), ("/nowhere/server", "no such file")],
)
def test_a_missing_program_is_reported(start, command, words):
    shim = start(ready=False, command=command)
    body = until(lambda: (body := shim.state())["state"] == "failed" and body)
    assert command in body["error"]
    assert any(word in body["error"] for word in words.split("|"))


def test_a_file_that_is_not_executable_is_reported(start, tmp_path):
    script = tmp_path / "broken"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    shim = start(ready=False, command=str(script))
    body = until(lambda: (body := shim.state())["state"] in ("restarting", "crash-loop") and body)
    assert "could not be started" in body["error"]


def test_a_missing_working_directory_is_reported(start):
    shim = start(ready=False, cwd="/no/such/directory")
    body = until(lambda: (body := shim.state())["state"] == "failed" and body)
    assert "/no/such/directory" in body["error"]


def test_a_server_that_never_answers_is_given_up(start):
    shim = start("--slow-start", "600", ready=False, start_seconds=0.5)
    body = until(lambda: (body := shim.state())["state"] in ("restarting", "crash-loop") and body)
    assert "did not answer within 0.5 s" in body["error"]


def test_calls_wait_for_a_server_that_is_starting(start, modern, legacy, gate):
    held = gate()
    shim = start("--start-at", held.path, ready=False)
    assert shim.state()["state"] == "starting"
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(lambda kind=kind: kind(shim).text("echo", text="patience")) for kind in (modern, legacy)]
        until(lambda: shim.info()["in_flight"] == 2)
        held.open()
        assert [call.result() for call in calls] == ["patience"] * 2


@pytest.mark.parametrize("quirk", ["--mute-unknown", "--die-unknown", "--no-ping", "--noise"])
def test_servers_with_quirks_become_ready(start, legacy, modern, quirk):
    shim = start(quirk, limits={"backoff_seconds": 0.05})
    assert shim.info()["eras"] == ["legacy"]
    assert legacy(shim).text("echo", text="x") == "x"
    assert modern(shim).text("echo", text="y") == "y"


def test_the_servers_stderr_is_passed_on_unchanged(start, legacy):
    shim = start()
    legacy(shim).call("complain", text="ünder pressure: 100%")
    until(lambda: "ünder pressure: 100%" in shim.lines)


def test_the_server_gets_its_environment_and_nothing_of_the_mesh(start, legacy):
    shim = start(env={"TOKEN": "s3cret"}, cwd="/tmp")
    client = legacy(shim)
    environment = json.loads(client.text("environment"))
    assert environment["TOKEN"] == "s3cret"
    assert [key for key in environment if key.startswith("MCPMESH_")] == ["MCPMESH_MARK"]
    mark = json.loads(environment["MCPMESH_MARK"])
    assert (mark["role"], mark["instance"], mark["mesh"]) == ("server", shim.mark, "test")
    assert "ports" not in mark
    assert client.text("cwd") == "/tmp"


def test_secrets_are_in_no_command_line_and_no_log(start):
    shim = start(env={"TOKEN": "s3cret-value"})
    for pid in {shim.process.pid, *descendants(shim.process.pid)}:
        assert b"s3cret-value" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert b"s3cret-value" not in Path(f"/proc/{shim.process.pid}/environ").read_bytes()
    assert b"s3cret-value" not in Path(f"/proc/{shim.guard()}/environ").read_bytes()
    assert not any("s3cret-value" in line for line in shim.lines)


def test_a_server_inherits_no_descriptor_but_its_streams(plain, legacy):
    first, second, third, *listing = json.loads(legacy(plain).text("descriptors"))
    assert (first, second, third) == (0, 1, 2)
    assert len(listing) <= 1  # the directory that is being read


def test_unused_sessions_make_room_for_a_new_one(start, legacy):
    shim = start(limits={"children": 3, "spares": 0})
    legacy(shim), legacy(shim)
    with pytest.raises(AssertionError, match=r"limits\.children"):
        legacy(shim)


STUBBORN = [
    [],
    ["--ignore-eof"],
    ["--ignore-eof", "--ignore-term"],
    ["--grandchild"],
    ["--nested-shell"],
    ["--ignore-eof", "--ignore-term", "--grandchild", "--nested-shell"],
]


@pytest.mark.parametrize("words", STUBBORN, ids=" ".join)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_however_the_server_resists_and_the_shim_ends(start, legacy, words, number):
    shim = start(*words, limits={"stop_seconds": 0.3})
    legacy(shim).text("echo", text="x")
    everything = all_of(descendants(shim.process.pid))
    assert len(everything) >= 3
    shim.process.send_signal(number)
    assert shim.process.wait(60) == (-9 if number == signal.SIGKILL else 0)
    until(lambda: not marked(shim.mark))
    until(lambda: not left(everything))
    shim.stop()


def began(pid: int) -> str | None:
    """The start time of a process, which differs from a later process with its id; None if it has ended."""
    try:
        state, *more = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return more[18] if state != "Z" else None


def all_of(pids: set[int]) -> dict[int, str | None]:
    """These processes with their start times, to be checked later."""
    return {pid: began(pid) for pid in pids}


def left(processes: dict[int, str | None]) -> list[int]:
    """The processes that have not ended."""
    return [pid for pid, start in processes.items() if start is not None and began(pid) == start]


def test_no_process_is_left_when_the_guard_is_killed(start, legacy):
    shim = start("--ignore-eof", "--ignore-term", "--grandchild", "--nested-shell", limits={"stop_seconds": 0.3})
    legacy(shim)
    everything = all_of(descendants(shim.process.pid))
    os.kill(shim.guard(), signal.SIGKILL)
    assert shim.process.wait(60) == 4
    until(lambda: not left(everything))
    shim.stop()
    assert any("guard" in line for line in shim.lines)


def test_the_descendants_of_a_killed_server_are_killed(start):
    shim = start("--grandchild", "--nested-shell", limits={"spares": 0, "backoff_seconds": 30})
    before = all_of(shim.servers())
    assert len(before) == 3
    (leader,) = [pid for pid in before if b"fake.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(leader, signal.SIGKILL)
    until(lambda: not left(before))


def test_a_wrapper_that_is_killed_does_not_orphan_its_server(start):
    # As with npx: the server is a child of the program that was started.
    import sys

    from running_shim import FAKE

    script = f"exec 3<&0; {sys.executable} {FAKE} --ignore-eof --ignore-term <&3 & wait"
    shim = start(
        command="/bin/sh", args=["-c", script], limits={"spares": 0, "stop_seconds": 0.3, "backoff_seconds": 30}
    )
    before = all_of(shim.servers())
    assert len(before) == 2
    (wrapper,) = [pid for pid in before if Path(f"/proc/{pid}/comm").read_text().strip() in ("sh", "dash", "bash")]
    os.kill(wrapper, signal.SIGTERM)
    until(lambda: not left(before))


def test_dropped_sessions_leave_no_process_and_no_descriptor(start):
    shim = start(limits={"session_idle_seconds": 5, "children": 200})
    fds = lambda: len(os.listdir(f"/proc/{shim.process.pid}/fd"))  # noqa: E731
    shim.http.close()
    shim.http = httpx.Client(base_url=f"http://127.0.0.1:{shim.port}", timeout=SECONDS, trust_env=False)
    shim.info()
    before = until(lambda: shim.info()["children"] == 2 and fds())
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "sample", "arguments": {}}}

    def impolite(n):
        # Answers are not checked: a session whose client stood still for too long is just another dropped one.
        opened = initialize(shim)
        headers = {**ACCEPT, "Mcp-Session-Id": opened.headers["mcp-session-id"], "MCP-Protocol-Version": "2025-11-25"}
        with httpx.Client(base_url=str(shim.http.base_url), timeout=SECONDS, trust_env=False) as http:
            if n % 4 == 0:
                http.delete("/mcp", headers=headers)
            elif n % 4 == 1:
                with http.stream("POST", "/mcp", json=call, headers=headers) as response:
                    next(response.iter_lines())
            elif n % 4 == 2:
                with http.stream("GET", "/mcp", headers=headers) as response:
                    next(response.iter_lines())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(impolite, range(24)))
    assert shim.metric("sessions_opened_total") == 24
    until(lambda: shim.info()["sessions"] == 0)
    until(lambda: shim.info()["children"] == 2)
    until(lambda: fds() <= before + 1)


def test_a_drain_finishes_running_calls_and_takes_no_new_ones(start, legacy, modern, gate):
    shim, held = start(drain_seconds=60), gate()
    client = legacy(shim)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(client.call, "hold", gate=held.path)
        until(lambda: shim.info()["in_flight"] == 1)
        other = modern(shim)
        kept = other.http
        kept.get("/health")
        shim.process.terminate()
        until(lambda: shim.state()["state"] == "draining")
        held.open()
        assert running.result()["result"]["content"][0]["text"] == "let go"
    assert shim.stop() == 0
    assert "mcpmesh-shim: drained; 0 calls were cut" in shim.lines


def test_a_drain_cuts_unfinished_calls_and_counts_them(start, modern):
    shim = start(drain_seconds=0.3)
    client = modern(shim)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(client.call, "never") for _ in range(2)]
        until(lambda: shim.info()["in_flight"] == 2)
        shim.process.terminate()
        assert all("may have taken effect" in call.result()["error"]["message"] for call in calls)
    assert shim.stop() == 0
    assert "mcpmesh-shim: drained; 2 calls were cut" in shim.lines


def test_during_a_drain_ready_reports_it_and_calls_are_refused(start, modern, legacy, gate):
    shim, held = start(drain_seconds=60), gate()
    client = modern(shim)
    old = legacy(shim)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(client.call, "hold", gate=held.path)
        until(lambda: shim.info()["in_flight"] == 1)
        shim.process.terminate()
        body = until(lambda: (b := shim.state())["state"] == "draining" and b)
        assert body["error"]
        health = shim.http.get("/health")
        assert (health.status_code, health.headers["connection"]) == (200, "close")
        late = modern(shim)
        for response in (
            late.post(late.body("tools/list")),
            old.post({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
        ):
            assert response.status_code == 503
            assert response.json()["error"]["data"] == {"reason": "draining", "started": False}
        held.open()
        assert slow.result()["result"]
    assert shim.stop() == 0


def test_a_second_signal_ends_the_drain(start, modern):
    shim = start(drain_seconds=600)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(modern(shim).call, "never")
        until(lambda: shim.info()["in_flight"] == 1)
        shim.process.terminate()
        until(lambda: shim.state()["state"] == "draining")
        shim.process.terminate()
        assert call.result()["error"]
    assert shim.stop() == 0


def test_a_server_that_stops_answering_is_found_by_a_probe_and_restarted(start):
    shim = start("--hang-after-init", limits={"probe_seconds": 0.2, "probe_timeout_seconds": 0.4, "spares": 0})
    (pid,) = shim.servers()
    until(lambda: shim.http.get("/ready").status_code == 503)
    until(lambda: pid not in shim.servers())
    shim.says("did not answer a probe")


def test_a_server_that_is_busy_with_a_call_is_not_restarted(start, modern, gate):
    shim, held = start(limits={"probe_seconds": 0.1, "probe_timeout_seconds": 0.2}), gate()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(modern(shim).call, "hold", gate=held.path)
        held.reached()
        for _ in range(3):
            time.sleep(0.11)  # long enough for the next /ready to probe a server that is not busy
            assert shim.state()["state"] == "ready"
        held.open()
        assert slow.result()["result"]


def test_calls_at_a_server_that_does_not_read_get_503(start, modern):
    shim = start("--stop-reading", limits={"stdin_bytes": 200_000, "spares": 0})
    client = modern(shim)
    with ThreadPoolExecutor(12) as pool:
        calls = [
            pool.submit(client.post, client.body("tools/call", {"name": "echo", "arguments": {"t": "x" * 90_000}}, n))
            for n in range(10)
        ]
        refused = until(lambda: [call for call in calls if call.done() and call.result().status_code == 503])
        response = refused[0].result()
        assert response.headers["retry-after"]
        assert response.json()["error"]["data"] == {"reason": "server-stalled", "started": False}
        assert shim.http.get("/health").status_code == 200
        shim.process.terminate()
        for call in calls:
            call.result()
    shim.stop()


def test_too_many_calls_are_refused_and_nothing_was_started(start, modern, gate):
    shim, held = start(limits={"calls_per_child": 2}), gate()
    client = modern(shim)
    with ThreadPoolExecutor(3) as pool:
        slow = [pool.submit(client.call, "hold", gate=held.path) for _ in range(2)]
        until(lambda: shim.info()["in_flight"] == 2)
        response = client.post(client.body("tools/call", {"name": "echo", "arguments": {}}))
        assert (response.status_code, response.json()["error"]["data"]["started"]) == (503, False)
        assert response.headers["retry-after"]
        held.open()
        assert all(call.result()["result"] for call in slow)


def test_too_many_sessions_are_refused_while_all_are_in_use(start, legacy):
    shim = start(limits={"sessions": 1})
    legacy(shim)
    with pytest.raises(AssertionError, match=r"limits\.sessions"):
        legacy(shim)


def test_a_slow_reader_does_not_grow_the_shim_and_does_not_hold_up_others(start, legacy):
    shim = start()
    slow, quick = legacy(shim), legacy(shim)
    params = {"name": "big", "arguments": {"bytes": 8_000_000}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    head = "".join(f"{key}: {text}\r\n" for key, text in slow.headers.items())
    with ExitStack() as stack:
        for _ in range(10):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", shim.port)))
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.sendall(
                f"POST /mcp HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
        until(lambda: shim.metric("calls_total", outcome="ok", method="tools/call") >= 1)
        for _ in range(20):
            assert quick.text("echo", text="quick") == "quick"
        # Of the 80 MB requested, only one answer under way and the beginning of the next are in memory.
        assert memory(shim) < 100
    assert slow.text("echo", text="again") == "again"


def memory(shim: Shim) -> float:
    """Resident MiB."""
    for line in Path(f"/proc/{shim.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")
