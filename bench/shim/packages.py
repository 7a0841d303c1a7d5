"""Rivals and tools, installed on demand into the cache, in the versions that bench/rivals pins.

The name of a folder in the cache contains a hash of its pins, and a file in it
says that the installation is complete. So changed pins are installed into
another folder, and an interrupted installation is repeated.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

BENCH = Path(__file__).parents[1]
RIVALS = BENCH / "rivals"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mcpmesh" / "bench"
COMPLETE = ".whole"
PROGRESS_SECONDS = 5.0
# The largest package takes two minutes on two cores.
INSTALL_SECONDS = 900.0

Say = Callable[[str], None]


class Unavailable(Exception):
    """A package can't be installed on this machine; the message is the reason."""


def package(name: str, say: Say) -> Path:
    """The folder of a rival's package; raises Unavailable."""
    if name == "tbxark":
        return _go(RIVALS / "tbxark", "mcp-proxy", "github.com/TBXark/mcp-proxy", say)
    if name == "npm":
        return _npm(RIVALS / "npm", say)
    return venv(RIVALS / f"{name}.txt", say)


def versions(name: str) -> dict[str, str]:
    """The pinned versions, by the package's name in its registry."""
    if name == "tbxark":
        found = re.search(r"(github.com/TBXark/mcp-proxy) (v\S+)", (RIVALS / "tbxark/go.mod").read_text())
        return {found[1]: found[2]} if found else {}
    if name == "npm":
        return dict(json.loads((RIVALS / "npm/package.json").read_text())["dependencies"])
    lines = (RIVALS / f"{name}.txt").read_text().split()
    return dict(line.split("==") for line in lines if "==" in line)


def own_programs(say: Say) -> Path:
    """The folder with the stdio server, the static server and the load generator; Go builds only what changed."""
    target = CACHE / "programs"
    target.mkdir(parents=True, exist_ok=True)
    words = ["go", "build", "-trimpath", "-o", f"{target}/", "./child", "./static", "./load"]
    _run("building the load generator", words, BENCH, target / "build.log", say)
    return target


def venv(requirements: Path, say: Say) -> Path:
    """A virtual environment with the packages of a requirements file."""
    complete, folder = _folder(requirements.stem, requirements.read_bytes() + sys.version.encode())
    if not complete:
        title = f"installing {', '.join(requirements.read_text().split())}"
        log = folder / "install.log"
        _run(title, [sys.executable, "-m", "venv", str(folder / "venv")], folder, log, say)
        words = [str(folder / "venv/bin/python"), "-m", "pip", "install", "--disable-pip-version-check"]
        _run(title, [*words, "-r", str(requirements)], folder, log, say)
        (folder / COMPLETE).touch()
    return folder / "venv"


def _npm(source: Path, say: Say) -> Path:
    if shutil.which("npm") is None:
        raise Unavailable("npm is not on PATH")
    complete, folder = _folder("npm", (source / "package-lock.json").read_bytes())
    if not complete:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, folder)
        words = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        _run("installing mcp-proxy and supergateway from npm", words, folder, folder / "install.log", say)
        (folder / COMPLETE).touch()
    return folder


def _go(source: Path, program: str, path: str, say: Say) -> Path:
    if shutil.which("go") is None:
        raise Unavailable("go is not on PATH")
    complete, folder = _folder(source.name, (source / "go.sum").read_bytes())
    if not complete:
        words = ["go", "build", "-trimpath", "-o", str(folder / program), path]
        _run(f"building {path}", words, source, folder / "install.log", say)
        (folder / COMPLETE).touch()
    return folder


def _folder(name: str, contents: bytes) -> tuple[bool, Path]:
    """Whether the installation is complete, and its folder, which is empty if it is not."""
    folder = CACHE / f"{name}-{hashlib.sha256(contents).hexdigest()[:12]}"
    if (folder / COMPLETE).exists():
        return True, folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return False, folder


def _run(title: str, words: list[str], cwd: Path, log: Path, say: Say) -> None:
    """Run a command, with progress every few seconds; raises Unavailable with the last line of its output."""
    began = time.monotonic()
    with log.open("ab") as out:
        try:
            process = subprocess.Popen(words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        except OSError as error:
            raise Unavailable(f"{title} needs {words[0]}: {error.strerror}") from None
        ended = threading.Event()

        def progress() -> None:
            while not ended.wait(PROGRESS_SECONDS):
                say(f"{title}: {time.monotonic() - began:.0f} s")

        ticker = threading.Thread(target=progress, daemon=True)
        ticker.start()
        try:
            code = process.wait(INSTALL_SECONDS)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{title} took more than {INSTALL_SECONDS:.0f} s") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            ended.set()
            ticker.join()
    if code != 0:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise Unavailable(f"{title} failed: {lines[-1] if lines else f'exit code {code}'}")
