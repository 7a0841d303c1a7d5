"""Counters of one shim, exposed as Prometheus text.

They are plain integers in dictionaries: counting a call costs well under a microsecond.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

# Callers choose the method's name. Unknown names share one label, so that callers can't fill the memory with labels.
METHODS: Final = frozenset(
    (
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "tools/call",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
        "prompts/list",
        "prompts/get",
        "completion/complete",
        "logging/setLevel",
        "subscriptions/listen",
        "tasks/get",
        "tasks/update",
        "tasks/cancel",
        "tasks/list",
        "tasks/result",
    )
)

EVENTS: Final = {
    "rubbish_lines": "Lines on a server's stdout that are not JSON-RPC.",
    "stray_messages": "Answers and notifications of a server that no call waits for.",
    "oversize_lines": "Lines of a server over limits.line_bytes.",
    "server_starts": "Server processes started.",
    "server_exits": "Server processes that exited without being stopped.",
    "sessions_opened": "Legacy sessions opened.",
    "sessions_idled": "Legacy sessions ended for being idle.",
    "dropped_notifications": "Notifications dropped: they had no receiver, or a backlog was full.",
    "unread_answers": "Answers to a server's requests that were dropped, because the server does not read.",
    "slow_clients": "Streams closed because the client did not read.",
    "cut_calls": "Calls cut by the end of a drain.",
    "refused_requests": "Requests to a server's client that were answered by the shim with an error.",
}


class Metrics:
    """Counts calls by era, method and outcome; their durations; and events."""

    def __init__(self) -> None:
        self.calls: dict[tuple[str, str, str], int] = {}
        self.durations: dict[str, list[float]] = {}
        self.events: dict[str, int] = dict.fromkeys(EVENTS, 0)
        self.http: dict[int, int] = {}

    def count(self, event: str, by: int = 1) -> None:
        """Count an event."""
        self.events[event] += by

    def status(self, status: int) -> None:
        """Count an HTTP answer of the shim's own, one that carries no server's answer."""
        self.http[status] = self.http.get(status, 0) + 1

    def call(self, era: str, method: str, outcome: str, seconds: float) -> None:
        """Count a call that ended.

        The outcome is ok, error (JSON-RPC), tool_error, input_required (the client was asked for input and sends the
        call again), failed (no answer) or cancelled (by the client).
        """
        if method not in METHODS:
            method = "other"
        key = (era, method, outcome)
        self.calls[key] = self.calls.get(key, 0) + 1
        series = self.durations.get(method)
        if series is None:
            series = self.durations[method] = [0.0] * (len(BUCKETS) + 2)
        series[bisect_left(BUCKETS, seconds)] += 1
        series[-1] += seconds

    def text(self, gauges: Mapping[str, tuple[str, float]], labels: Mapping[str, str]) -> str:
        """The Prometheus text. `gauges` maps a name to (help, value); every sample gets `labels`."""
        common = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
        lines: list[str] = []

        def sample(name: str, value: float, **more: str) -> None:
            specific = ",".join(f'{key}="{_escape(text)}"' for key, text in more.items())
            all_labels = ",".join(part for part in (common, specific) if part)
            lines.append(f"mcpmesh_shim_{name}{{{all_labels}}} {value:.17g}")

        for name, (text, value) in gauges.items():
            lines += [f"# HELP mcpmesh_shim_{name} {text}", f"# TYPE mcpmesh_shim_{name} gauge"]
            sample(name, value)
        lines += [
            "# HELP mcpmesh_shim_calls_total JSON-RPC calls by outcome; HTTP says 200 for many of the failed ones.",
            "# TYPE mcpmesh_shim_calls_total counter",
        ]
        for (era, method, outcome), count in sorted(self.calls.items()):
            sample("calls_total", count, era=era, method=method, outcome=outcome)
        lines += [
            "# HELP mcpmesh_shim_call_seconds Duration of calls.",
            "# TYPE mcpmesh_shim_call_seconds histogram",
        ]
        for method, series in sorted(self.durations.items()):
            total = 0.0
            for bound, number in zip((*BUCKETS, float("inf")), series, strict=False):
                total += number
                sample(
                    "call_seconds_bucket", total, method=method, le="+Inf" if bound == float("inf") else f"{bound:g}"
                )
            sample("call_seconds_sum", series[-1], method=method)
            sample("call_seconds_count", total, method=method)
        lines += [
            "# HELP mcpmesh_shim_http_answers_total HTTP answers of the shim's own by status.",
            "# TYPE mcpmesh_shim_http_answers_total counter",
        ]
        for status, count in sorted(self.http.items()):
            sample("http_answers_total", count, status=str(status))
        for event, text in EVENTS.items():
            lines += [f"# HELP mcpmesh_shim_{event}_total {text}", f"# TYPE mcpmesh_shim_{event}_total counter"]
            sample(f"{event}_total", self.events[event])
        return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
