"""A configuration that could not be used is refused by a sentence that names the field, and shows no secret."""

from __future__ import annotations

import pytest

from mcpmesh.shim.config import ConfigError, build


def remote(**more: object) -> dict[str, object]:
    return {"url": "https://example.test/mcp", **more}


def test_headers_are_taken_as_they_are():
    headers = {"Authorization": "Bearer a b", "X-Empty": ""}
    assert build(remote(headers=headers)).headers == headers


@pytest.mark.parametrize("value", ["s3crét", "s3cret\n", " s3cret", "s3cret\r\nX-Other: 1", "s3cret\t"])
def test_a_headers_value_that_cannot_be_sent_is_refused_without_being_shown(value):
    with pytest.raises(ConfigError, match=r'"headers" the value of X-Key must be printable ASCII') as refusal:
        build(remote(headers={"X-Key": value}))
    assert "s3cr" not in str(refusal.value)


@pytest.mark.parametrize("name", ["", "X Key", "X-Kéy", "X-Key:"])
def test_a_headers_name_that_cannot_be_sent_is_refused(name):
    with pytest.raises(ConfigError, match='"headers" has '):
        build(remote(headers={name: "x"}))


def test_a_header_twice_in_other_letters_is_refused():
    with pytest.raises(ConfigError, match='"headers" has a name twice'):
        build(remote(headers={"X-Key": "1", "x-key": "2"}))


@pytest.mark.parametrize("url", ["ftp://example.test/", "https://", "http://:80/mcp", "http://example.test/\x01s3cret"])
def test_an_address_that_no_request_can_be_sent_to_is_refused_without_being_shown(url):
    with pytest.raises(ConfigError, match='"url" must be an address that begins with') as refusal:
        build(remote(url=url))
    assert "s3cret" not in str(refusal.value)
