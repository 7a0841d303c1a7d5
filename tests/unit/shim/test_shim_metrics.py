"""The Prometheus text."""

from __future__ import annotations

from mcpmesh.shim.metrics import Metrics


def text(metrics: Metrics) -> list[str]:
    return metrics.text({"up": ("help", 1)}, {"service": 'a"b\\c'}).splitlines()


def test_every_sample_has_its_labels_escaped():
    assert 'mcpmesh_shim_up{service="a\\"b\\\\c"} 1' in text(Metrics())


def test_histograms_add_up():
    metrics = Metrics()
    for seconds in (0.0005, 0.003, 0.003, 400.0):
        metrics.call("modern", "tools/call", "ok", seconds)
    lines = [line for line in text(metrics) if "call_seconds" in line and not line.startswith("#")]
    counts = [float(line.rpartition(" ")[2]) for line in lines if "_bucket" in line]
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert counts[-1] == 4
    assert any('le="+Inf"' in line for line in lines)
    assert any("call_seconds_count" in line and line.endswith(" 4") for line in lines)


def test_unknown_method_names_share_one_label():
    metrics = Metrics()
    for n in range(1000):
        metrics.call("legacy", f"made/up{n}", "error", 0.1)
    assert metrics.calls == {("legacy", "other", "error"): 1000}


def test_each_name_is_explained_once():
    lines = text(Metrics())
    helps = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert len(helps) == len(set(helps))
    samples = {line.split("{")[0] for line in lines if not line.startswith("#")}
    assert all(any(sample.startswith(name) for name in helps) for sample in samples)


def test_the_buckets_are_those_that_dashboards_rely_on():
    metrics = Metrics()
    metrics.call("modern", "tools/call", "ok", 0.001)
    bounds = [line.partition('le="')[2].partition('"')[0] for line in text(metrics) if "_bucket" in line]
    assert bounds == [
        "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60",
        "300", "+Inf",
    ]  # fmt: skip
    assert [line.rpartition(" ")[2] for line in text(metrics) if "_bucket" in line] == ["1"] * 17
    (total,) = [line.rpartition(" ")[2] for line in text(metrics) if "call_seconds_sum" in line]
    assert float(total) == 0.001


def test_events_and_http_answers_are_counted():
    metrics = Metrics()
    metrics.count("slow_clients")
    metrics.count("slow_clients", 2)
    metrics.status(503)
    metrics.status(503)
    lines = [line for line in text(metrics) if not line.startswith("#")]
    assert 'mcpmesh_shim_slow_clients_total{service="a\\"b\\\\c"} 3' in lines
    assert 'mcpmesh_shim_http_answers_total{service="a\\"b\\\\c",status="503"} 2' in lines
