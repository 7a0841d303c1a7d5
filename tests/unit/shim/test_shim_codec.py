"""The JSON-RPC codec and line framing: messages are found or refused, and not changed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.jsonrpc.framing import LONG_BYTES, LineSplitter

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.integers(-(2**53), 2**53), JSON, st.sampled_from(["go", "typescript", "loose"]), st.booleans())
def test_an_answers_id_and_result_are_found_whatever_its_shape_and_length(id, value, shape, long):
    result = {"content": value, "pad": "x" * (codec.SHAPE_BYTES if long else 0)}
    if shape == "go":
        line = json.dumps({"jsonrpc": "2.0", "id": id, "result": result}, separators=(",", ":"))
    elif shape == "typescript":
        line = json.dumps({"result": result, "jsonrpc": "2.0", "id": id}, separators=(",", ":"))
    else:
        line = json.dumps({"id": id, "result": result, "jsonrpc": "2.0"})
    message = codec.parse_line(line.encode())
    assert message.id == id
    assert json.loads(bytes(message.result)) == result
    whole = json.loads(b"".join(map(bytes, codec.result_pieces(codec.id_json("mine"), message.result))))
    assert whole == {"jsonrpc": "2.0", "id": "mine", "result": result}


@pytest.mark.parametrize("length", [10, codec.SHAPE_BYTES + 10])
@pytest.mark.parametrize(
    "line", ['{"jsonrpc":"2.0","id":1,"result":{"x":"%s"}}', '{"result":{"x":"%s"},"jsonrpc":"2.0","id":1}']
)
def test_a_line_that_was_cut_is_malformed_however_long_it_is(line, length):
    whole = (line % ("x" * length)).encode()
    assert codec.parse_line(whole).id == 1
    for end in (20, length // 2, len(whole) - 14, len(whole) - 1):
        with pytest.raises(codec.Malformed):
            codec.parse_line(whole[:end])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b'{"jsonrpc":"2.0","id":1,"result":{"x":"', b'{"jsonrpc":"2.0","id":2,"result":{"x":"a secret"}}'),
        (b'{"jsonrpc":"2.0","id":1,"result":{"x":"', b'{"jsonrpc":"2.0","method":"m","params":{"x":"a secret"}}'),
        (b'{"jsonrpc":"2.0","id":1,"result":{"x":"', b'{"result":{"x":"a secret"},"jsonrpc":"2.0","id":2}'),
        (b'{"jsonrpc":"2.0","id":1,"result":{"x":"', b'{"method":"m","params":{},"jsonrpc":"2.0"}'),
        (b'{"result":{"x":"', b'{"result":{"x":"a secret"},"jsonrpc":"2.0","id":2}'),
        (b'{"result":{"x":"', b'{"method":"m","params":{},"jsonrpc":"2.0"}xx"},"jsonrpc":"2.0","id":1}'),
    ],
)
def test_an_answer_with_another_message_inside_is_malformed(first, second):
    with pytest.raises(codec.Malformed):
        codec.parse_line(first + b"x" * codec.SHAPE_BYTES + second)


@given(st.one_of(st.integers(), st.text()), JSON)
def test_a_message_is_passed_on_as_one_line_with_the_same_json(id, value):
    params = json.dumps({"a": value}, indent=2).encode()
    line = codec.bare_request(codec.id_json(id), "tools/call", params)
    assert b"\n" not in line
    assert b"\r" not in line
    assert json.loads(line) == {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"a": value}}


@pytest.mark.parametrize("text", ["", "{", "[1", '{"id":1}}', '{"id":01}', '{"a":"\\q"}', '{"a":"\n"}', "[" * 10000])
def test_text_that_is_not_json_is_malformed(text):
    with pytest.raises(codec.Malformed):
        codec.parse(text.encode())


@pytest.mark.parametrize("text", ['{"id":1.5}', '{"id":[]}', '{"method":5}', "[]", "7"])
def test_json_that_is_no_message_is_not_json_rpc(text):
    with pytest.raises(codec.NotJsonRpc):
        codec.parse(text.encode())


def test_the_last_of_two_ids_is_the_one_that_counts_and_the_only_one_sent_on():
    message = codec.parse(b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"id":3},"id":2}')
    assert message.id == 2
    assert codec.request(77, message.method, message.params).count(b'"id":77') == 1


@pytest.mark.parametrize(
    ("head", "tail", "found"),
    [
        (b'{"jsonrpc":"2.0","id":12,"result":{"x', b"", 12),
        (b'{"id": 12, "result', b"", 12),
        (b'{"result":{"id":9,', b'"}],"jsonrpc":"2.0","id":13}', 13),
        (b'{"result":{', b'"}, "id": 14}', 14),
        (b'{"result":{"id":9,', b'"}]}}', None),
        (b'{"jsonrpc":"2.0","id":"ab-1","method":"m","params":{"x', b"", "ab-1"),
        (b'{"method":"m","params":{"id":9,', b'"},"jsonrpc":"2.0","id":"ab-1"}', "ab-1"),
        (b'{"id":"a\\"b","method":"m","x', b"", None),
    ],
)
def test_the_id_of_a_line_that_was_too_long_is_found_at_one_of_its_ends(head, tail, found):
    assert codec.find_id(head, tail) == found


def collect(limit=1000):
    lines: list[bytes] = []
    long: list[tuple[bytes, bytes, int]] = []
    rest: list[bytes] = []
    splitter = LineSplitter(limit, lines.append, lambda *ends: long.append(ends), rest.append)
    return splitter, lines, long, rest


@given(st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), max_size=20), st.lists(st.integers(1, 50)))
def test_lines_come_whole_however_the_stream_is_cut(whole, cuts):
    splitter, lines, *_ = collect()
    stream = b"".join(line + b"\n" for line in whole)
    for cut in cuts:
        piece, stream = stream[:cut], stream[cut:]
        if piece:
            splitter.feed(piece)
    if stream:
        splitter.feed(stream)
    splitter.end()
    assert lines == whole


def test_a_line_over_the_limit_is_reported_with_its_ends_and_the_next_is_whole():
    splitter, lines, long, _ = collect(limit=10_000)
    for piece in (b"short\n" + b"a" * 6000, b"b" * 6000, b"c" * 6000, b"tail\nnext\n"):
        splitter.feed(piece)
    assert lines == [b"short", b"next"]
    ((head, tail, size),) = long
    assert head == b"a" * 4096
    assert tail == b"c" * 4092 + b"tail"
    assert size == 18_004


def test_a_line_over_the_limit_that_comes_in_one_piece_is_over_the_limit_too():
    splitter, lines, long, _ = collect(limit=10)
    splitter.feed(b"short\n" + b"a" * 11 + b"\n")
    splitter.feed(b"b" * 12 + b"\n")
    assert lines == [b"short"]
    assert [size for _, _, size in long] == [11, 12]


def test_an_unfinished_last_line_is_reported_separately():
    splitter, lines, _, rest = collect()
    splitter.feed(b"one\ntwo")
    splitter.end()
    assert (lines, rest) == ([b"one"], [b"two"])


def test_the_first_long_line_is_announced_once_while_it_arrives():
    announced: list[int] = []
    splitter = LineSplitter(
        10 * LONG_BYTES, lambda _: None, lambda *_: None, lambda _: None, lambda: announced.append(1)
    )
    splitter.feed(b"a" * (LONG_BYTES - 1))
    assert announced == []
    splitter.feed(b"a")
    assert announced == [1]
    splitter.feed(b"a" * LONG_BYTES)
    splitter.feed(b"\n" + b"b" * LONG_BYTES)
    assert announced == [1]


def test_a_line_of_the_longest_length_is_whole_however_it_comes():
    splitter, lines, long, _ = collect(limit=10)
    splitter.feed(b"a" * 10 + b"\n")
    splitter.feed(b"b" * 4)
    splitter.feed(b"b" * 6 + b"\n")
    splitter.feed(b"c" * 4)
    splitter.feed(b"c" * 7 + b"\n")
    assert (lines, [size for _, _, size in long]) == ([b"a" * 10, b"b" * 10], [11])


def test_encoded_method_names_are_cached_within_bounds():
    for n in range(400):
        assert codec.method_json(f"made/up{n}") == f'"made/up{n}"'.encode()
    long = "x" * 100
    assert codec.method_json(long) == f'"{long}"'.encode()
    assert len(codec._methods) <= 256
    assert long not in codec._methods
