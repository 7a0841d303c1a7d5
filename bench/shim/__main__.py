"""`python -m bench.shim` measures, and writes bench/results/shim.json, shim.md and shim.svg."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.shim.bars import bars
from bench.shim.load import SHAPES
from bench.shim.packages import BENCH, Unavailable, own_programs, venv
from bench.shim.report import page
from bench.shim.results import collect
from bench.shim.rounds import InterleavedRun
from bench.shim.shim_alone import ShimAlone
from bench.shim.systems import SYSTEMS, System, shims

RESULTS = BENCH / "results"
ROUNDS = 5
SECONDS = 1.0
# After their first answer, systems still load modules.
SETTLE_SECONDS = 3.0


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.shim", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="interleaved rounds (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="seconds for each measure (default %(default)s)")
    parser.add_argument(
        "--only", metavar="WORD", action="append", help="only systems with this word in their name; repeatable"
    )
    parser.add_argument(
        "--compare",
        metavar="CHECKOUT",
        type=Path,
        action="append",
        default=[],
        help="also measure the shim of another checkout of this project, and compare this one with it; repeatable",
    )
    parser.add_argument(
        "--quick", action="store_true", help="one short round, to test the harness; its figures mean nothing"
    )
    parser.add_argument("--without-own", action="store_true", help="leave out the measures of the shim alone")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results (default bench/results)")
    return parser


def say(message: str) -> None:
    """Print progress, with the time so far."""
    print(f"{time.monotonic() - BEGAN:6.0f} s  {message}", file=sys.stderr, flush=True)


BEGAN = time.monotonic()


def chosen(words: list[str] | None, checkouts: Sequence[Path] = ()) -> list[System]:
    """The systems that `--only` names (all without it), and for each chosen shim those of the other checkouts."""
    systems = [one for one in SYSTEMS if not words or any(word.lower() in one.name.lower() for word in words)]
    names = {one.name for one in systems}
    others = [one for checkout in checkouts for one in shims(checkout.resolve())]
    return systems + [one for one in others if one.compared_with in names]


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all measures."""
    rounds, seconds = (1, 0.3) if options.quick else (options.rounds, options.seconds)
    programs = own_programs(say)
    run = InterleavedRun(chosen(options.only, options.compare), programs, folder, seconds, say)
    run.install()
    with run.running():
        time.sleep(0 if options.quick else SETTLE_SECONDS)
        run.watch_idle(0.5 if options.quick else 5.0)
        for number in range(rounds):
            run.round(number, SHAPES)
        run.watch_after()
    run.leave_behind()
    own: dict[str, Any] = {}
    if not options.without_own:
        alone = ShimAlone(programs, folder, say)
        own = alone.measure(1, 0.5, 2) if options.quick else alone.measure()
        if not options.quick:
            own["sessions"] = {isolation: alone.sessions(isolation) for isolation in ("session", "shared")}
    return collect(run.rows, rounds, seconds, own)


def main() -> int:
    """Exit code 0, also if a rival could not be measured; 1 if the harness's own programs can't be built."""
    parser = arguments()
    options = parser.parse_args()
    for checkout in options.compare:
        if not (checkout / ".venv/bin/mcpmesh-shim").exists():
            parser.error(f"cannot compare with {checkout}: it has no .venv/bin/mcpmesh-shim; run `make setup` there")
    # SIGTERM has to stop the systems too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="mcpmesh-bench-") as folder:
            results = measure(options, Path(folder))
    except Unavailable as error:
        print(f"bench-shim: {error}", file=sys.stderr)
        return 1
    found = bars(results)
    results["bars"] = [{**vars(bar), "met": bar.met} for bar in found]
    options.out.mkdir(parents=True, exist_ok=True)
    source = options.out / "shim.json"
    source.write_text(json.dumps(results, indent=1) + "\n")
    text = page(results, found)
    (options.out / "shim.md").write_text(text)
    if not options.quick:
        draw(source, options.out / "shim.svg")
    print(text)
    return 0


def draw(source: Path, target: Path) -> None:
    """Draw the picture, with matplotlib in an environment of its own. Without it there is only the table."""
    try:
        python = venv(BENCH / "requirements.txt", say) / "bin/python"
    except Unavailable as error:
        say(f"no picture: {error}")
        return
    subprocess.run([str(python), str(Path(__file__).with_name("plot.py")), str(source), str(target)], check=True)


if __name__ == "__main__":
    sys.exit(main())
