"""A hand-written stdio server with the manners of the real ones, good and bad.

Speaks the older protocol, or with --modern only the newer one. Its tools do
what tests need; its options are the quirks of SERVERS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

parser = argparse.ArgumentParser()
parser.add_argument("--modern", action="store_true", help="speak 2026-07-28 only")
parser.add_argument("--both-eras", action="store_true", help="2026-07-28 until it hears initialize, the older one then")
parser.add_argument("--version", default="2025-11-25")
parser.add_argument("--ignore-eof", action="store_true")
parser.add_argument("--ignore-term", action="store_true")
parser.add_argument("--slow-start", type=float, default=0.0)
parser.add_argument("--start-at", help="it waits at this gate before all else")
parser.add_argument("--no-ping", type=int, nargs="?", const=-32601, help="ping is answered with this error")
parser.add_argument("--no-lists", action="store_true", help="it says that it has resources and prompts, and lists none")
parser.add_argument("--no-subscriptions", action="store_true", help="it says that resources can be subscribed to")
parser.add_argument("--one-at-a-time", action="store_true", help="nothing else is read while a call runs")
parser.add_argument("--slow-exit", type=float, default=0.0, help="seconds between stdin's end and its own")
parser.add_argument("--exit-code", type=int, default=0, help="at stdin's end and at SIGTERM")
parser.add_argument("--mute-unknown", action="store_true", help="what it doesn't know is not answered")
parser.add_argument("--die-unknown", action="store_true", help="what it doesn't know ends it")
parser.add_argument("--die-at-start", action="store_true")
parser.add_argument("--die-after", type=float, default=0.0, help="seconds after initialize")
parser.add_argument("--noise", action="store_true", help="log lines and a bogus notification on stdout")
parser.add_argument("--grandchild", action="store_true", help="start a detached process")
parser.add_argument("--nested-shell", action="store_true", help="start a process in the same session")
parser.add_argument("--ask-roots-at-once", action="store_true")
parser.add_argument("--stop-reading", action="store_true", help="after initialize nothing is read any more")
parser.add_argument("--no-listen", action="store_true", help="it knows no subscriptions/listen")
parser.add_argument("--mute-subscribe", action="store_true", help="resources/subscribe is not answered")
parser.add_argument("--deaf-to", help="the initialize of a client of this name is not answered")
parser.add_argument("--hang-after-init", action="store_true", help="after tools/list nothing is answered any more")
parser.add_argument("--many-tools", type=int, default=0)
options = parser.parse_args()
options.modern = options.modern or options.both_eras

lock = threading.Lock()
asked: dict[Any, Any] = {}
answers = threading.Condition()
cancelled: list[Any] = []
counter = 0
seen: list[str] = []
level = "none"
MODERN = "2026-07-28"
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
subscriptions: dict[Any, dict[str, Any]] = {}


def write(message: Any) -> None:
    line = json.dumps(message, separators=(",", ":"))
    with lock:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def raw(text: str) -> None:
    with lock:
        sys.stdout.write(text)
        sys.stdout.flush()


def result(id: Any, value: dict[str, Any]) -> None:
    write({"jsonrpc": "2.0", "id": id, "result": {"resultType": "complete", **value} if options.modern else value})


def error(id: Any, code: int, message: str) -> None:
    write({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})


def notify(method: str, params: Any) -> None:
    write({"jsonrpc": "2.0", "method": method, "params": params})


def text(id: Any, words: Any) -> None:
    words = words if isinstance(words, str) else json.dumps(words)
    result(id, {"content": [{"type": "text", "text": words}]})


def ask(method: str, params: Any) -> Any:
    """A request of ours to the client; waits for its answer."""
    return ask_all((method, params))[0]


def ask_all(*questions: tuple[str, Any]) -> list[Any]:
    """The same with several, which reach the client's side together: they are written at once."""
    global counter
    with lock:
        ids = range(counter + 1, counter + 1 + len(questions))
        counter += len(questions)
    lines = []
    for id, (method, params) in zip(ids, questions, strict=True):
        question = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
        lines.append(json.dumps(question, separators=(",", ":")) + "\n")
    raw("".join(lines))
    with answers:
        answers.wait_for(lambda: asked.keys() >= set(ids))
        return [asked[id] for id in ids]


def sampling(prompt: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": {"type": "text", "text": prompt}}], "maxTokens": 10}


def elicitation(message: str) -> dict[str, Any]:
    return {"message": message, "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}


def wait_at(gate: str | None) -> None:
    """Until this file is there; a second one tells the test that somebody waits."""
    if gate is not None:
        open(f"{gate}.reached", "w").close()
        while not os.path.exists(gate):
            time.sleep(0.01)


QUESTIONS = {"sampling/createMessage": sampling("joke?"), "elicitation/create": elicitation("name?")}


def call(id: Any, params: dict[str, Any]) -> None:
    name = params["name"]
    given = params.get("arguments") or {}
    meta = params.get("_meta") or {}
    if name == "echo":
        text(id, given.get("text", ""))
    elif name == "meta":
        text(id, meta)
    elif name == "raw":
        text(id, params)
    elif name == "big":
        wait_at(given.get("gate"))
        text(id, "x" * given["bytes"])
    elif name == "sleep":
        time.sleep(given["seconds"])
        text(id, f"slept {given['seconds']}")
    elif name == "hold":
        wait_at(given["gate"])
        text(id, "let go")
    elif name == "die":
        sys.stderr.write("dying as asked\n")
        sys.stderr.flush()
        os._exit(given.get("code", 3))
    elif name == "twice":
        text(id, "first")
        text(id, "second")
    elif name == "never":
        pass
    elif name == "progress":
        for step in range(given["steps"]):
            notify("notifications/progress", {"progressToken": meta["progressToken"], "progress": step, "total": 9})
            time.sleep(given.get("pause", 0.0))
            wait_at(given.get("gate"))
        text(id, "progressed")
    elif name == "log":
        notify("notifications/message", {"level": given.get("level", "info"), "data": given.get("data", "logged")})
        text(id, "logged")
    elif name == "rubbish":
        raw("this is no JSON\n\n{broken\n[1,2]\n42\n")
        write({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "whatever"}})
        notify("server.initialized", {})
        text(id, "still here")
    elif name == "sample":
        wait_at(given.get("gate"))
        text(id, ask("sampling/createMessage", sampling(given.get("prompt", "?"))))
    elif name == "elicit":
        text(id, ask("elicitation/create", elicitation(given.get("message", "?"))))
    elif name == "roots":
        text(id, ask("roots/list", {}))
    elif name == "pester":
        for n in range(given["times"]):
            write({"jsonrpc": "2.0", "id": f"p{n}", "method": "sampling/createMessage", "params": sampling("?")})
        if not given.get("stay"):
            text(id, "asked")
    elif name == "replies":
        text(id, {key: "error" if "code" in value else "result" for key, value in asked.items()})
    elif name == "sample_twice":
        first = ask("sampling/createMessage", sampling("one"))
        second = ask("sampling/createMessage", sampling("two"))
        text(id, [first, second])
    elif name == "both":
        text(id, ask_all(("sampling/createMessage", sampling("both")), ("elicitation/create", elicitation("both"))))
    elif name == "visit":
        visits = [{"mode": "url", "message": "log in", "url": "https://example.test/login", "elicitationId": "e1"}]
        if seen.count("tools/call") == 1:
            failure = {"code": -32042, "message": "visit first", "data": {"elicitations": visits}}
            write({"jsonrpc": "2.0", "id": id, "error": failure})
        else:
            text(id, "visited")
    elif name == "descriptors":
        text(id, sorted(int(entry) for entry in os.listdir("/proc/self/fd")))
    elif name == "half":
        rows = [{"row": {"of": "x" * 90}}] * (given["bytes"] // 100)
        answer = json.dumps({"jsonrpc": "2.0", "id": id, "result": {"rows": rows}}, separators=(",", ":"))
        if given["dies"]:
            # Cut where it looks like an end.
            raw(answer[: answer.index("}}", len(answer) // 2) + 2])
            os._exit(3)
        raw(answer[: len(answer) // 2].rstrip("}]") + "\n")
    elif name == "spread":
        line = json.dumps({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": "spread"}]}})
        raw(line.replace(", ", ",\r") + "\r\n")
    elif name == "spread_note":
        note = {"progressToken": meta["progressToken"], "progress": 1}
        line = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": note})
        raw(line.replace(", ", ",\r") + "\r\n")
        text(id, "noted")
    elif name == "input":
        inputs = params.get("inputResponses") or {}
        asks = {"name": "elicitation/create"} if "asks" not in given else {method: method for method in given["asks"]}
        if not inputs.keys() >= asks.keys():
            requests = {key: {"method": method, "params": QUESTIONS.get(method, {})} for key, method in asks.items()}
            value = {"resultType": "input_required", "inputRequests": requests, "requestState": "abc"}
            write({"jsonrpc": "2.0", "id": id, "result": value})
        else:
            text(id, {"state": params.get("requestState"), "inputs": inputs})
    elif name == "pid":
        text(id, str(os.getpid()))
    elif name == "environment":
        text(id, dict(os.environ))
    elif name == "cwd":
        text(id, os.getcwd())
    elif name == "keep":
        os.makedirs(os.path.dirname(given["file"]) or ".", exist_ok=True)
        with open(given["file"], "w") as file:
            file.write("kept")
        text(id, "kept")
    elif name == "list_kept" and os.path.isdir(given["folder"]):
        text(id, os.listdir(given["folder"]))
    elif name == "list_kept":
        error(id, -32603, f"ENOENT: no such file or directory, scandir '{given['folder']}'")
    elif name == "cancelled":
        text(id, cancelled)
    elif name == "seen":
        text(id, seen)
    elif name == "answers":
        text(id, {str(asked_id): said for asked_id, said in asked.items()})
    elif name == "level":
        text(id, level)
    elif name == "change":
        change(given["method"], {"uri": given["uri"]} if "uri" in given else {})
        text(id, "changed")
    elif name == "unsubscribe":
        for subscription in list(subscriptions):
            del subscriptions[subscription]
            notify("notifications/cancelled", {"requestId": subscription})
        text(id, "unsubscribed")
    elif name == "complain":
        sys.stderr.write(given["text"] + "\n")
        sys.stderr.flush()
        text(id, "complained")
    elif name == "error":
        error(id, given["code"], given["message"])
    elif name == "fail":
        result(id, {"content": [{"type": "text", "text": "no"}], "isError": True})
    else:
        error(id, -32602, f"Unknown tool: {name}")


def change(method: str, params: dict[str, Any]) -> None:
    if not options.modern:
        notify(method, params)
        return
    for id in list(subscriptions):  # one may end meanwhile
        notify(method, {**params, "_meta": {"io.modelcontextprotocol/subscriptionId": id}})


NAMES = "echo", "meta", "raw", "big", "sleep", "die", "twice", "never", "progress", "log", "rubbish", "sample", "pid"
TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in NAMES]
TOOLS.append(
    {
        "name": "mirrored",
        "inputSchema": {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}},
    }
)
TOOLS += [{"name": f"tool{n}", "description": "d" * 700, "inputSchema": {}} for n in range(options.many_tools)]
ABILITIES = {
    "tools": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
    "prompts": {"listChanged": True},
    "logging": {},
}
SERVER = {"name": "fake", "version": "1.2.3"}


def initialize(id: Any, params: dict[str, Any]) -> None:
    if options.deaf_to and params["clientInfo"]["name"] == options.deaf_to:
        return
    asked_for = params.get("protocolVersion")
    version = min(asked_for, options.version) if isinstance(asked_for, str) else options.version
    result(id, {"protocolVersion": version, "capabilities": ABILITIES, "serverInfo": SERVER})
    if options.die_after:
        threading.Timer(options.die_after, lambda: os._exit(5)).start()


def discover(id: Any) -> None:
    meta = {"io.modelcontextprotocol/serverInfo": SERVER}
    value = {
        "supportedVersions": [MODERN],
        "capabilities": ABILITIES,
        "_meta": meta,
        "ttlMs": 0,
        "cacheScope": "public",
    }
    result(id, value)


def listen(id: Any, params: dict[str, Any]) -> None:
    subscriptions[id] = params["notifications"]
    meta = {"io.modelcontextprotocol/subscriptionId": id}
    notify("notifications/subscriptions/acknowledged", {"notifications": params["notifications"], "_meta": meta})


def handle(message: dict[str, Any]) -> None:
    global level
    method, id, params = message.get("method"), message.get("id"), message.get("params") or {}
    if method is None:
        with answers:
            asked[id] = message.get("result", message.get("error"))
            answers.notify_all()
        return
    seen.append(method)
    if id is None:
        if method == "notifications/cancelled":
            cancelled.append(params.get("requestId"))
            subscriptions.pop(params.get("requestId"), None)
        if method == "notifications/initialized" and options.ask_roots_at_once:
            threading.Thread(target=ask, args=("roots/list", {})).start()
        return
    modern = VERSION_KEY in (params.get("_meta") or {})
    if modern != options.modern and method != "initialize":
        unknown(id, method)
    elif method == "initialize" and (options.both_eras or not options.modern):
        options.modern = False
        initialize(id, params)
    elif method == "server/discover" and options.modern:
        discover(id)
    elif method == "subscriptions/listen" and options.modern and not options.no_listen:
        listen(id, params)
    elif method == "ping" and not options.modern and options.no_ping is None:
        result(id, {})
    elif method == "ping" and not options.modern:
        error(id, options.no_ping, "Unknown method: ping")
    elif options.no_lists and method in ("resources/list", "prompts/list", "resources/templates/list"):
        unknown(id, method)
    elif method == "tools/list":
        result(id, {"tools": TOOLS})
    elif method == "resources/list":
        result(id, {"resources": [{"uri": "fake://one", "name": "one"}]})
    elif method == "resources/read" and params.get("uri") == "fake://one":
        result(id, {"contents": [{"uri": "fake://one", "text": "one"}]})
    elif method == "resources/read":
        error(id, -32002, "Resource not found")
    elif options.no_subscriptions and method == "resources/subscribe":
        unknown(id, method)
    elif method == "resources/subscribe" and options.mute_subscribe:
        pass
    elif method in ("resources/subscribe", "resources/unsubscribe", "logging/setLevel"):
        level = params.get("level", level)
        result(id, {})
    elif method == "tools/call" and options.one_at_a_time:
        call(id, params)
    elif method == "tools/call":
        threading.Thread(target=call, args=(id, params), daemon=True).start()
    else:
        unknown(id, method)


def unknown(id: Any, method: Any) -> None:
    if options.die_unknown:
        sys.stderr.write(f"unexpected method {method}\n")
        sys.stderr.flush()
        os._exit(7)
    if not options.mute_unknown:
        error(id, -32601, f"Method not found: {method}")


def main() -> None:
    if options.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    elif options.exit_code:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(options.exit_code))
    if options.die_at_start:
        sys.stderr.write("cannot open the database\nsecond line\n")
        sys.stderr.flush()
        os._exit(4)
    if options.grandchild:
        subprocess.Popen(["sleep", "600"], start_new_session=True)
    if options.nested_shell:
        subprocess.Popen(["sleep", "600"])
    wait_at(options.start_at)
    time.sleep(options.slow_start)
    if options.noise:
        raw("[2026-11-21 00:00:00] starting up\nplain words\n")
        notify("server.initialized", {"ok": True})
    listed = False
    for line in sys.stdin:
        if listed and options.hang_after_init:
            continue
        message = json.loads(line)
        handle(message)
        listed = listed or message.get("method") == "tools/list"
        if options.stop_reading and message.get("method") == "tools/list":
            time.sleep(600)
    while options.ignore_eof:
        time.sleep(1)
    time.sleep(options.slow_exit)
    os._exit(options.exit_code)


main()
