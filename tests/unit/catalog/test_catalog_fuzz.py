"""Whatever is in a file: a catalog or a CatalogError, and neither shows a value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcpmesh.catalog.loader import load
from mcpmesh.catalog.parse import LOADERS, parse_text
from mcpmesh.catalog.schema import (
    CommonKeys,
    HealthKeys,
    ListeningKeys,
    MeshKeys,
    ServiceKeys,
    TimeoutKeys,
    UpstreamKeys,
)
from mcpmesh.errors import CatalogError

SECRET = "hunter2hunter2"
ENVIRON = {"SECRET": SECRET, "HOME": "/home/me", "NUL": "a\0b", "ODD": "\udcff"}

# Few for each run, because the unit tests run often: each run draws others.
_settings = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
_KEYS = sorted(
    {
        key
        for model in (CommonKeys, HealthKeys, ListeningKeys, MeshKeys, ServiceKeys, TimeoutKeys, UpstreamKeys)
        for key in model.model_fields
    }
    | {"mcpServers", "servers", "type", "x-y", "<<", "a", "B c", "ingress", "*", ""}
)
_WORDS = ["1", "x", "./x", "127.0.0.1:80", "http://x/mcp", "/x", "30s", "*", "a", "session", "stdio", "sse", "file:x"]
_WORDS += [
    "${SECRET}",
    "${NUL}",
    "${ODD}",
    "${NONE}",
    "${",
    "${SECRET:-${SECRET}}",
    "file:${SECRET}",
    "http://${SECRET}@x",
]
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(_WORDS) | st.text(max_size=8)
_TREES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=5),
    max_leaves=25,
)
_TEXTS = st.sampled_from(["x", "1", "${SECRET}", "-${HOME}"])
_PROGRAM = st.fixed_dictionaries(
    {"command": _TEXTS},
    optional={
        "args": st.lists(_TEXTS, max_size=2),
        "env": st.dictionaries(st.sampled_from(["A", "B"]), _TEXTS),
        "instances": st.integers(1, 3),
        "allow": st.lists(st.sampled_from(["a", "b", "*", "zz"]), max_size=2),
        "upstreams": st.lists(st.sampled_from(["a", "b", "c-d"]), max_size=2),
        "route": st.sampled_from(["/x", "/y", False, True]),
        "timeouts": st.fixed_dictionaries({}, optional={"start": st.sampled_from([1, "30s"])}),
    },
)
_JUNK = st.dictionaries(st.sampled_from(_KEYS), _TREES, max_size=6)
_SPOILT = st.builds(
    lambda good, bad: {**good, **bad}, _PROGRAM, st.dictionaries(st.sampled_from(_KEYS), _TREES, max_size=1)
)
_SERVICE = _PROGRAM | _SPOILT | _JUNK
_MESH = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "services": st.dictionaries(st.sampled_from(["a", "b", "c-d", "X"]), _SERVICE | _TREES, max_size=3),
    },
    optional={"defaults": _JUNK | _TREES},
)
_ECOSYSTEM = st.fixed_dictionaries({"mcpServers": st.dictionaries(st.sampled_from(["a", "B c"]), _SERVICE, max_size=3)})


def _outcome(path: Path, *others: Path) -> None:
    try:
        shown = "".join(load([path, *others], ENVIRON).warnings)
    except CatalogError as error:
        assert error.problems
        shown = str(error)
    assert SECRET not in shown


@_settings
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_catalog_or_a_catalog_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_bytes(content)
    _outcome(path)


@_settings
@given(tree=_MESH | _ECOSYSTEM | _TREES, over=_MESH)
def test_any_tree_is_a_catalog_or_a_catalog_error(tmp_path: Path, tree: Any, over: Any) -> None:
    path, overlay = tmp_path / "mesh.yaml", tmp_path / "over.json"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), errors="surrogatepass")
    overlay.write_text(json.dumps(over))
    _outcome(path)
    _outcome(path, overlay)
    _outcome(overlay, path)


_PIECES = ["a", ": ", "\n", "  ", "- ", "[", "]", "{", "}", ",", "&x ", "*x", "<<", "!!int", "'", '"', "|\n", "#", "\t"]
_PIECES += [
    "---\n",
    "...\n",
    "%TAG ! x\n",
    "\\u",
    "\\UFFFFFFFF",
    "//",
    "/*",
    "*/",
    "\x85",
    "\u2028",
    "\0",
    "?",
    "1",
    "\r",
]


@_settings
@given(text=st.lists(st.sampled_from(_PIECES), max_size=40).map("".join))
@pytest.mark.parametrize("loader", LOADERS)
def test_any_text_is_a_tree_or_problems(text: str, loader: type) -> None:
    root, problems = parse_text(Path("f"), text, loader)
    assert (root is not None) or problems


@_settings
@given(value=st.recursive(_SCALARS.filter(lambda scalar: not isinstance(scalar, float)),
                          lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=10),
       indent=st.sampled_from([None, 1, "\t"]), ascii_only=st.booleans())  # fmt: skip
@pytest.mark.parametrize("loader", LOADERS)
def test_json_is_read_as_json(value: Any, indent: Any, ascii_only: bool, loader: type) -> None:
    text = json.dumps({"": value}, indent=indent, ensure_ascii=ascii_only)
    if not text.isprintable():
        text = json.dumps({"": value}, indent=indent)
    root, problems = parse_text(Path("f"), text, loader)
    if '"<<"' in text:
        return
    assert root and not problems
    assert _close(root.plain(), json.loads(text))


def _close(found: Any, expected: Any) -> bool:
    """Equal, whole numbers beyond 18 digits aside, which nobody counts instances with."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_close(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(_close, found, expected))
    if isinstance(expected, int) and abs(expected) >= 10**18:
        return str(found) == str(expected) or found == float(expected)
    return bool(found == expected)
