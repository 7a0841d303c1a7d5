"""The configuration: a mistake is refused with a sentence that names the field and shows no secret."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mcpmesh.shim.config import EXPECTED, Config, ConfigError, Limits, build, parse


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


def refusal(**fields: object) -> str:
    """The sentence by which a configuration is refused, without its beginning."""
    with pytest.raises(ConfigError) as error:
        build({"command": "x", **fields})
    return str(error.value).removeprefix("cannot use the configuration: ")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": ""}, '"name" must be a text that is not empty'),
        ({"name": 7}, '"name" must be a text that is not empty'),
        ({"command": "a\0b"}, '"command" must be a text that is not empty'),
        ({"args": "one"}, '"args" must be a list of texts'),
        ({"args": ["a", "b\0"]}, '"args" must be a list of texts'),
        ({"env": {"A": 1}}, '"env" must be an object of texts'),
        ({"env": {"A": "a\0"}}, '"env" must be an object of texts'),
        ({"env": ["A"]}, '"env" must be an object of texts'),
        ({"headers": {"A": None}}, '"headers" must be an object of texts'),
        ({"port": 65536}, '"port" must be a number between 0 and 65535'),
        ({"port": -1}, '"port" must be a number between 0 and 65535'),
        ({"port": True}, '"port" must be a number between 0 and 65535'),
        ({"isolation": "none"}, '"isolation" must be one of session, shared, request'),
        ({"start_seconds": 0.09}, '"start_seconds" must be a number of at least 0.1'),
        ({"request_seconds": "5"}, '"request_seconds" must be a number of at least 0.1'),
        ({"drain_seconds": -1}, '"drain_seconds" must be a number of at least 0'),
        ({"limits": []}, '"limits" must be an object'),
        ({"limits": {"sessions": "many"}}, '"sessions" must be a whole number of at least 0'),
        ({"limits": {"sessions": None}}, '"sessions" must be a whole number of at least 0'),
        ({"limits": {"stop_seconds": -0.1}}, '"stop_seconds" must be a number of at least 0'),
        ({"url": "http://x"}, 'give either "command" or "url"'),
    ],
)
def test_a_wrong_value_is_refused_with_what_would_be_right(fields: dict[str, object], sentence: str):
    assert refusal(**fields) == sentence


def test_neither_a_command_nor_an_address_is_refused():
    with pytest.raises(ConfigError, match='give either "command" or "url"'):
        build({})


def test_an_unknown_field_is_named_with_those_that_exist():
    assert refusal(colour=1).startswith('unknown field "colour" (known: affinity, allowed_hosts, ')
    assert refusal(limits={"lines": 1}).startswith('unknown limit "lines" (known: backoff_max_seconds, ')


@pytest.mark.parametrize("struct", [Config, Limits])
def test_for_each_field_there_is_a_sentence(struct: type[msgspec.Struct]):
    assert [field.name for field in msgspec.structs.fields(struct) if field.type not in EXPECTED] == []


def test_what_is_not_given_has_its_default():
    config = build({"command": "x", "cwd": "/", "affinity": None})
    assert config == Config(command="x", cwd="/", name="server", instance="server")
    assert (config.host, config.port, config.isolation) == ("127.0.0.1", 0, "session")
    assert (config.start_seconds, config.request_seconds, config.drain_seconds) == (60.0, 86400.0, 10.0)
    assert config.limits == Limits()
    assert build({"command": "x"}).cwd == str(Path.cwd())


def test_the_bounds_themselves_are_allowed():
    config = build({"command": "x", "port": 65535, "start_seconds": 0.1, "limits": {"sessions": 0, "stop_seconds": 0}})
    assert (config.port, config.start_seconds) == (65535, 0.1)
    assert (config.limits.sessions, config.limits.stop_seconds) == (0, 0.0)


def test_an_instance_without_a_name_of_its_own_has_the_services():
    assert build({"command": "x", "name": "files"}).instance == "files"
    assert build({"command": "x", "name": "files", "instance": "files-2"}).instance == "files-2"


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"name: files", "it is no JSON"), (b"\xff", "it is no JSON"), (b"[]", "it must be one JSON object")],
)
def test_anything_but_a_json_object_is_refused(data: bytes, words: str):
    with pytest.raises(ConfigError, match="cannot read the configuration: ") as error:
        parse(data)
    assert words in str(error.value)


def test_a_configuration_shows_no_secret_when_it_is_printed():
    config = build({"command": "x", "args": ["--key", "s3cret"], "env": {"TOKEN": "s3cret"}})
    assert repr(config) == "Config(name='server', instance='server')"
