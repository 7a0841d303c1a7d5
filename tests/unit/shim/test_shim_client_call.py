"""However a caller writes a progress token, its server gets only the shim's."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpmesh.shim.calls.client_call import SEARCHED_BYTES, needs_rewrite, rewrite
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol import translation
from mcpmesh.shim.protocol.meta_keys import PROGRESS_TOKEN

QUIET = SimpleNamespace(traced=False, headers={})
OURS = 40
THEIRS = 7


def sent(params: str) -> str:
    """The params that the server gets."""
    raw = codec.Raw(params.encode())
    call = SimpleNamespace(id=OURS, progress_token=None)
    return (rewrite(call, raw, QUIET) if needs_rewrite(QUIET, raw) else bytes(raw)).decode()


def tokens(params: str) -> list[object]:
    """All tokens that a server may read, if it ignores case and takes the first or the last of two members."""
    found: list[object] = []
    for key, meta in json.loads(params, object_pairs_hook=list):
        if key.casefold() == "_meta":
            found += [value for name, value in meta if name.casefold() == PROGRESS_TOKEN.casefold()]
    return found


def spelt(name: str, how: list[int]) -> str:
    """A name in JSON: each letter unchanged, in the other case, or escaped."""
    return "".join(
        (letter, letter.swapcase(), f"\\u{ord(letter):04x}")[way] for letter, way in zip(name, how, strict=True)
    )


WAYS = st.lists(st.integers(0, 2), min_size=len(PROGRESS_TOKEN), max_size=len(PROGRESS_TOKEN))
META = st.lists(st.integers(0, 2), min_size=5, max_size=5)


@given(WAYS, META, st.booleans(), st.booleans())
def test_a_callers_own_progress_token_never_reaches_the_server(token, meta, second, long):
    members = [f'"{spelt("_meta", meta)}":{{"{spelt(PROGRESS_TOKEN, token)}":{THEIRS},"x":1}}', '"_meta":{"y":2}']
    text = "x" * (SEARCHED_BYTES if long else 0)
    params = f'{{"arguments":{{"{PROGRESS_TOKEN}":{THEIRS},"text":"{text}"}},{",".join(members[: 1 + second])}}}'
    got = sent(params)
    assert set(tokens(got)) <= {OURS}
    assert json.loads(got)["arguments"] == {PROGRESS_TOKEN: THEIRS, "text": text}


@pytest.mark.parametrize("name", ["progre\u017f\u017fToken", "progressTo\u212aen"])
def test_letters_that_go_folds_into_others_make_no_token(name):
    assert tokens(sent(json.dumps({"_meta": {name: THEIRS}}, ensure_ascii=False))) == []


def test_both_tokens_of_one_request_become_one():
    got = json.loads(sent('{"_meta":{"progressToken":7,"ProgressToken":8,"other":9}}'))
    assert got == {"_meta": {"progressToken": OURS, "other": 9}}


def test_short_params_without_a_token_are_not_decoded():
    params = b'{ "name" : "echo", "arguments" : {"text":"h\xc3\xa9 \\ud83d\\ude00"}, "_meta":{"a":1} }'
    assert not needs_rewrite(QUIET, codec.Raw(params))
    assert not needs_rewrite(QUIET, codec.EMPTY)


@pytest.mark.parametrize("params", ['{"_Meta":{"progressToken":7}}', '{"_meta":{"ProgressToken":7}}'])
def test_decoded_params_hold_no_other_spelling_of_the_token(params):
    whole, meta = translation.split_meta(params.encode())
    assert (tokens(codec.encode(whole).decode()), meta) == ([], {})
