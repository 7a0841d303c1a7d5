from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mcpmesh.catalog.parse import LOADERS, MAX_BYTES, parse_file, parse_text
from mcpmesh.catalog.yaml_composer import MAX_DEPTH, MAX_NODES

if TYPE_CHECKING:
    from conftest import Folder

FILE = Path("mesh.yaml")


@pytest.fixture(params=LOADERS, ids=lambda loader: loader.__name__)
def loader(request: pytest.FixtureRequest) -> type:
    """PyYAML's parsers: libyaml's, and the one that is always there."""
    found: type = request.param
    return found


def test_plain_words_are_what_they_look_like(loader: type) -> None:
    text = "[no, on, 12:30, 2024-01-01, 0o17, 0x1f, 1_000, 007, 1.5, 1e3, ~, true, '1', !!str 1, 1.2.3]"
    root, problems = parse_text(FILE, text, loader)
    assert root and not problems
    assert root.plain() == [
        "no", "on", "12:30", "2024-01-01", 15, 31, "1_000", 7, 1.5, 1000.0, None, True, "1", "1", "1.2.3",
    ]  # fmt: skip


def test_a_node_knows_its_line_and_field(loader: type) -> None:
    root, _ = parse_text(FILE, "a:\n  b:\n    - x\n    - {c: 1}\n", loader)
    assert root
    assert [(node.line, node.field) for node in (root.get("a"), root.at(("a", "b")), root.at(("a", "b", 1, "c")))] == [
        (1, "a"),
        (2, "a.b"),
        (4, "a.b[1].c"),
    ]


def test_a_key_that_is_there_twice_is_a_problem_at_the_second(loader: type) -> None:
    _, problems = parse_text(FILE, '{"a": 1,\n "b": {"c": 1,\n "c": 2}}', loader)
    assert [str(problem) for problem in problems] == ["mesh.yaml:3: b.c: is written twice, first in line 2; keep one"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", None, "is empty; begin with `version: 1` and `services:` (docs/catalog.md)"),
        ("# only\n", None, "is empty; begin with `version: 1` and `services:` (docs/catalog.md)"),
        ("a:\n\tb: 1", 2, "is neither YAML nor JSON here: a tab cannot indent YAML, use spaces"),
        (
            "a: 1\nb: [${X}]",
            2,
            'is neither YAML nor JSON here: between [ ] or { } a text with ${…} needs quotes, as in ["${NAME}"]',
        ),
        ("a: 1\nb: \x07", 2, "holds a control character; remove it"),
        ("\n\na: \x07", 3, "holds a control character; remove it"),
        ("\x07", 1, "holds a control character; remove it"),
        (
            "a: !!python/name:os.system x",
            1,
            "has a YAML tag that is not supported; remove the word that begins with `!`",
        ),
        ("a: *b", 1, "has the alias *b of nothing; write &b before the value to repeat"),
        ("&a [*a]", 1, "has the alias *a of nothing; write &a before the value to repeat"),
        ("[a]: b", 1, "has a list or mapping as a key; a key has to be a text"),
        ("&a b: {*a : c}", 1, "has an alias as a key; write the key out"),
        ("a: {<<: [b]}", 1, "merges a value that is not a mapping; write `<<: *name`"),
        ("a: 1\n---\nb: 2", 2, "begins a second document; keep one, or put it in a file of its own (-f twice)"),
    ],
)
def test_a_mistake_of_syntax_is_reported_with_its_line(text: str, line: int | None, message: str, loader: type) -> None:
    root, problems = parse_text(FILE, text, loader)
    assert root is None
    assert [(problem.line, problem.message) for problem in problems] == [(line, message)]


@pytest.mark.parametrize(
    "text",
    [
        "[" * (MAX_DEPTH + 1),
        "[" * 100_000,
        "a: &a [x]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}]\n" for n in range(25)),
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(9)),
    ],
    ids=["deep", "very-deep", "deep-by-aliases", "billion-laughs"],
)
def test_a_file_beyond_the_bounds_is_refused_at_once(text: str, loader: type) -> None:
    root, problems = parse_text(FILE, text, loader)
    assert root is None
    assert len(problems) == 1


def test_the_number_of_values_has_a_limit_with_aliases_counted_in_full(loader: type) -> None:
    thousand = f"[&a [{'x, ' * 999}], {'*a, ' * (MAX_NODES // 1000 - 2)}"  # a list is a value too
    assert parse_text(FILE, f"{thousand}[{'x, ' * 998}]]", loader)[1] == []
    root, [problem] = parse_text(FILE, f"{thousand}\n[{'x, ' * 999}]]", loader)
    assert root is None
    assert str(problem) == (
        f"mesh.yaml:2: [49]: has more than {MAX_NODES} values or {MAX_DEPTH} levels, aliases counted in full"
    )


def test_the_levels_have_a_limit_with_aliases_counted_in_full(loader: type) -> None:
    deepest = "[" * MAX_DEPTH + "x" + "]" * MAX_DEPTH
    assert parse_text(FILE, deepest, loader)[1] == []
    root, [problem] = parse_text(FILE, f"\n[{deepest}]", loader)
    assert root is None
    assert (problem.line, problem.message) == (
        2,
        f"is nested more than {MAX_DEPTH} levels deep; a catalog needs six",
    )
    inner = "[" * 12 + "x" + "]" * 12
    for levels, problems in ((MAX_DEPTH - 13, 0), (MAX_DEPTH - 12, 1)):
        text = f"[&a {inner}, {'[' * levels}*a{']' * levels}]"
        assert len(parse_text(FILE, text, loader)[1]) == problems


def test_half_a_surrogate_pair_is_refused(loader: type) -> None:
    root, problems = parse_text(FILE, '{"a": "\\ud83d"}', loader)
    assert root is None
    assert len(problems) == 1


def test_a_file_that_cannot_be_read_is_reported_with_the_reason(folder: Folder) -> None:
    os.mkfifo(folder.path / "pipe")
    (folder.path / "big").write_bytes(b"#" * (MAX_BYTES + 1))
    (folder.path / "latin1").write_bytes(b"a: 1\nb: \xe4\n")
    advice = "name a mesh.yaml or an .mcp.json with -f"
    assert {
        name: parse_file(folder.path / name)[1][0].message for name in ("pipe", "big", "latin1", "none", ".", "\0")
    } == {
        "pipe": f"cannot be read (not a regular file); {advice}",
        "big": f"cannot be read (more than 1024 KiB); {advice}",
        "latin1": "is not UTF-8; save it in that encoding",
        "none": f"does not exist; {advice}",
        ".": f"cannot be read (Is a directory); {advice}",
        "\0": f"cannot be read (not a file name); {advice}",
    }


def test_a_byte_order_mark_is_no_obstacle(folder: Folder) -> None:
    (folder.path / "bom").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    root, problems = parse_file(folder.path / "bom")
    assert root and root.plain() == {"a": 1} and not problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("+1", 1),
        ("-0", 0),
        ("9" * 18, 10**18 - 1),
        ("9" * 19, float("9" * 19)),
        ("0o777", 511),
        ("0xfF", 255),
        ("0b1", "0b1"),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1.5e-3", -0.0015),
        ("1e1000", "1e1000"),
        ("e5", "e5"),
        ("Null", None),
        ("TRUE", True),
        ("False", False),
        ("tRUE", "tRUE"),
        ("yes", "yes"),
        ('"true"', "true"),
        ("! 1", "1"),
        ("!!int '1'", 1),
        ("!!null ''", None),
    ],
)
def test_a_scalar_has_the_type_that_yaml_12_gives_it(text: str, value: object, loader: type) -> None:
    root, problems = parse_text(FILE, f"a: {text}", loader)
    assert root and not problems
    assert (root.get("a").value, type(root.get("a").value)) == (value, type(value))


def test_a_scalar_keeps_its_text_as_written(loader: type) -> None:
    root, _ = parse_text(FILE, "[1.10, 0755, ~, true, 'x y']", loader)
    assert root and [item.text for item in root.items] == ["1.10", "0755", "~", "true", "x y"]


def test_a_merge_key_fills_in_what_the_mapping_lacks_and_the_first_source_wins(loader: type) -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\nd:\n  z: 4\n  <<: *b\n"
    root, problems = parse_text(FILE, text, loader)
    assert root and not problems
    assert (root.get("c").plain(), root.get("d").plain()) == ({"x": 3, "y": 1, "z": 2}, {"z": 4, "y": 2})
    assert [(node.line, node.field) for node in (root.at(("c", "z")), root.at(("d", "z")))] == [(2, "b.z"), (5, "d.z")]


def test_the_place_of_a_value_that_is_missing_is_the_nearest_one(loader: type) -> None:
    root, _ = parse_text(FILE, "a:\n- x\n- {b: c}\n", loader)
    assert root
    places = [("a", 0), ("a", 1, "b"), ("a", 2), ("a", 1, "d"), ("a", "b"), ("d", "a"), ("a", 0, 0)]
    assert [root.at(place).field for place in places] == ["a[0]", "a[1].b", "a", "a[1]", "a", "", "a[0]"]
    assert root.get("d").value is None and root.get("d").line == root.line


def test_a_key_in_a_message_is_one_short_line(loader: type) -> None:
    _, problems = parse_text(FILE, f'{{"a\\nb": 1, "a\\nb": 2, {"k" * 65}: 1, {"k" * 65}: 2}}', loader)
    assert [problem.field for problem in problems] == ["a?b", "k" * 64]


def test_a_list_or_mapping_without_an_end_is_reported_where_it_stops(loader: type) -> None:
    root, [problem] = parse_text(FILE, "a: 1\nb: [x\n", loader)
    assert root is None and problem.line in (2, 3)
    assert problem.message.startswith("is neither YAML nor JSON here: ")


def test_a_catalog_has_at_most_1_mib(folder: Folder) -> None:
    text = b"a: 1\n"
    (folder.path / "full").write_bytes(text + b"#" * (MAX_BYTES - len(text)))
    root, problems = parse_file(folder.path / "full")
    assert root and root.plain() == {"a": 1} and not problems


@pytest.mark.parametrize(
    "text",
    [
        '// first\n{"a": 1}',
        '/* {"b": 2} */ {"a": 1}',
        '{\n\t// "b": 2\n\t"a": 1,\n}',
        '{"a": /* one */ 1}',
        '{"a": 1} // last',
        '{"a": 1} /* never closed',
    ],
)
def test_comments_and_tabs_in_json_are_skipped(text: str, loader: type) -> None:
    root, problems = parse_text(FILE, text, loader)
    assert root and root.plain() == {"a": 1} and not problems


def test_what_looks_like_a_comment_in_a_text_stays(loader: type) -> None:
    root, problems = parse_text(FILE, r'{"a": "//x", "b": "/*x*/", "c": "\"//\\", "d": "\ud83d\ude00\u00e9"}', loader)
    assert root and not problems
    assert root.plain() == {"a": "//x", "b": "/*x*/", "c": '"//\\', "d": "😀é"}
