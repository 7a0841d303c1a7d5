"""`python -m bench.shim`: measure, and write bench/results/shim.json, shim.md and shim.svg."""

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
from bench.shim.own import Own
from bench.shim.packages import BENCH, Unavailable, own_programs, venv
from bench.shim.report import page
from bench.shim.results import collect
from bench.shim.rounds import Field
from bench.shim.systems import SYSTEMS, System, shims

RESULTS = BENCH / "results"
ROUNDS = 5
SECONDS = 1.0
# Systems that have just started still load things.
SETTLE_SECONDS = 3.0


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.shim", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="interleaved rounds (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measure (default %(default)s)")
    parser.add_argument("--only", metavar="WORD", action="append", help="systems with this in their name; repeatable")
    parser.add_argument(
        "--compare",
        metavar="CHECKOUT",
        type=Path,
        action="append",
        default=[],
        help="measure the shim of another checkout of this project too, and print ours against it; repeatable",
    )
    parser.add_argument(
        "--quick", action="store_true", help="one short round, to see that the harness works; its figures mean nothing"
    )
    parser.add_argument("--without-own", action="store_true", help="leave out what is measured of the shim alone")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go (default bench/results)")
    return parser


def say(message: str) -> None:
    """Progress, with the time so far."""
    print(f"{time.monotonic() - BEGAN:6.0f} s  {message}", file=sys.stderr, flush=True)


BEGAN = time.monotonic()


def chosen(words: list[str] | None, checkouts: Sequence[Path] = ()) -> list[System]:
    """The systems that `--only` names (all without it), and the shims of other checkouts beside those of ours."""
    systems = [one for one in SYSTEMS if not words or any(word.lower() in one.name.lower() for word in words)]
    names = {one.name for one in systems}
    others = [one for checkout in checkouts for one in shims(checkout.resolve())]
    return systems + [one for one in others if one.compared_with in names]


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All of it."""
    rounds, seconds = (1, 0.3) if options.quick else (options.rounds, options.seconds)
    programs = own_programs(say)
    run = Field(chosen(options.only, options.compare), programs, folder, seconds, say)
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
        alone = Own(programs, folder, say)
        own = alone.measure(1, 0.5, 2) if options.quick else alone.measure()
        if not options.quick:
            own["sessions"] = {isolation: alone.sessions(isolation) for isolation in ("session", "shared")}
    return collect(run.rows, rounds, seconds, own)


def main() -> int:
    """Exit code 0 when everything was measured that can be; 1 when the harness's own programs can't be built."""
    parser = arguments()
    options = parser.parse_args()
    for checkout in options.compare:
        if not (checkout / ".venv/bin/mcpmesh-shim").exists():
            parser.error(f"cannot compare with {checkout}: it has no .venv/bin/mcpmesh-shim; run `make setup` there")
    # An end by SIGTERM has to stop the systems too.
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
    """The picture, by an environment of its own; without it the table stands alone."""
    try:
        python = venv(BENCH / "requirements.txt", say) / "bin/python"
    except Unavailable as error:
        say(f"no picture: {error}")
        return
    subprocess.run([str(python), str(Path(__file__).with_name("plot.py")), str(source), str(target)], check=True)


if __name__ == "__main__":
    sys.exit(main())
