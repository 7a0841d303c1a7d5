"""Results and bars: ratios compare values of one round, and a bar without figures is neither met nor missed."""

from __future__ import annotations

from typing import Any

import pytest
from bench.shim.bars import GO, STATIC, bars
from bench.shim.report import page
from bench.shim.results import median, ratio, spread
from bench.shim.systems import OURS


def system(name: str, kind: str = "rival", own_child: bool = False, **shapes: dict[str, Any]) -> dict[str, Any]:
    counted = {"calls": 10, "crossed": 0, "wrong": 0, "failed": 0}
    return {
        "name": name,
        "kind": kind,
        "note": "",
        "versions": {},
        "absent": "",
        "own_child": own_child,
        "idle": {"rss": 10.0, "pss": 5.0},
        "after": {"rss": 11.0, "pss": 6.0},
        "shapes": {key: {**counted, **figures} for key, figures in shapes.items()},
        "faults": {},
        "restarts": 0,
        "left": {},
    }


def run(*systems: dict[str, Any]) -> dict[str, Any]:
    machine = {"date": "2026-11-21", "processors": 2, "model": "m", "python": "3", "go": "1", "node": ""}
    return {"machine": machine, "rounds": 3, "seconds": 1.0, "systems": list(systems), "own": {}}


def test_a_ratio_pairs_the_rounds_and_leaves_out_those_that_failed():
    # The machine was three times as fast in the third round, for both systems.
    ours = system(OURS, many={"per_second": [200.0, 220.0, 600.0, 500.0]})
    theirs = system("slow", many={"per_second": [100.0, 100.0, 300.0, None]})
    assert ratio(ours, theirs, "many", "per_second") == 2.0
    assert median(ours, "many", "per_second") == 360.0
    assert spread(theirs, "many", "per_second") == (100.0, 300.0)
    assert ratio(ours, theirs, "long", "per_second") is None


@pytest.mark.parametrize(("rate", "met"), [(101.0, True), (100.0, False), (99.0, False)])
def test_a_bar_against_rivals_compares_with_the_best_of_them(rate, met):
    found = bars(
        run(
            system(OURS, "ours", many={"per_second": [rate]}),
            system(STATIC, "reference", many={"per_second": [900.0]}),
            system(GO, many={"per_second": [100.0]}),
            system("slow", many={"per_second": [10.0]}),
        )
    )
    (bar,) = (bar for bar in found if bar.text.startswith("calls/s at 16"))
    assert (bar.value, bar.met) == (rate / 100, met)


def test_a_bar_that_was_not_measured_is_neither_met_nor_missed():
    found = bars(run(system(OURS, "ours", many={"cpu_ms": [0.03]})))
    assert {bar.met for bar in found if "wrong" not in bar.text} == {None}


def test_one_crossed_answer_misses_the_bar():
    results = run(system(OURS, "ours", many={"cpu_ms": [0.03], "crossed": 1}))
    (bar,) = (bar for bar in bars(results) if "crossed" in bar.text)
    assert bar.met is False
    assert "| **not met** |" in page(results, [bar])


def test_an_absent_system_stands_in_every_table_with_its_reason():
    results = run(system(OURS, "ours"), {"name": "gone", "kind": "rival", "absent": "not measured: no network"})
    assert page(results, bars(results)).count("| gone | not measured: no network |") == 3


def test_the_shim_of_another_checkout_is_compared_with_ours_in_the_same_mode():
    ours = system(f"{OURS} shared", "ours", many={"per_second": [90.0, 100.0]})
    before = {
        **system(f"{OURS} shared (before)", "checkout", many={"per_second": [100.0, 200.0]}),
        "compared_with": f"{OURS} shared",
    }
    text = page(run(ours, before), [])
    assert f"| {OURS} shared (before) | – | – | – | 0.7 × | – | – | – | – |" in text


def test_the_page_has_no_comparison_where_no_other_checkout_was_measured():
    assert "other checkouts" not in page(run(system(OURS, "ours")), [])
