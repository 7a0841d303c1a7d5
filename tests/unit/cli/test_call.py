"""`call` gives a tool arguments of its types, and shows the result for people or for scripts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.cli.conftest import Agent, Mesh

from mcpmesh.cli.render.text import strip_control_sequences


def answer(agent: Agent, *content: dict[str, Any], **result: Any) -> None:
    agent.operations.messages.append({"jsonrpc": "2.0", "id": 1, "result": {"content": list(content), **result}})


def test_text_goes_to_stdout_and_progress_to_stderr(mesh: Mesh, agent: Agent) -> None:
    agent.operations.messages = [
        {
            "jsonrpc": "2.0",
            "method": "notifications/progress",
            "params": {"progress": 1, "total": 4, "message": "read"},
        },
        {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "warning", "data": {"slow": True}}},
        {"jsonrpc": "2.0", "method": "notifications/unheard"},
    ]
    answer(agent, {"type": "text", "text": "line one\nline two [b]"})
    result = mesh.run("call", "files", "read_file", '{"path": "a.md"}')
    assert (result.exit_code, result.stdout) == (0, "line one\nline two [b]\n")
    assert result.stderr == '25% read\nwarning: {"slow": true}\n'
    assert agent.operations.asked == [("call", "files", "read_file", {"path": "a.md"})]


def test_content_other_than_text_is_described_in_a_line(mesh: Mesh, agent: Agent) -> None:
    answer(
        agent,
        {"type": "image", "mimeType": "image/png", "data": "aGVsbG8="},
        {"type": "audio", "data": "!"},
        {"type": "resource_link", "uri": "file:///a"},
        {"type": "resource", "resource": {"uri": "file:///b", "text": "inside"}},
        {"type": "resource", "resource": {"uri": "file:///c", "blob": "aGVsbG8="}},
        {"type": "new", "x": 1},
    )
    assert mesh.run("call", "files", "read_file").stdout.splitlines() == [
        "[image image/png, 5 bytes]",
        "[audio of unknown type, unreadable]",
        "[resource file:///a]",
        "inside",
        "[resource file:///c, 5 bytes]",
        '{"type": "new", "x": 1}',
    ]


def test_structured_content_without_text_is_shown(mesh: Mesh, agent: Agent) -> None:
    answer(agent, structuredContent={"answer": 42})
    assert json.loads(mesh.run("call", "files", "read_file").stdout) == {"answer": 42}


def test_an_error_of_the_tool_is_exit_code_1(mesh: Mesh, agent: Agent) -> None:
    answer(agent, {"type": "text", "text": "no such file"}, isError=True)
    result = mesh.run("call", "files", "read_file")
    assert (result.exit_code, result.stdout) == (1, "no such file\n")
    assert "the tool reports an error" in result.stderr


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"id": 1, "error": {"code": -32602, "message": "unknown tool"}}, "unknown tool (-32602)"),
        ({"id": 1, "result": {"resultType": "input_required"}}, "asks its client for input"),
        ({"id": 1, "result": "text"}, "no response came"),
    ],
)
def test_a_response_without_a_result_is_exit_code_1(
    mesh: Mesh, agent: Agent, message: dict[str, Any], words: str
) -> None:
    agent.operations.messages = [{"jsonrpc": "2.0", **message}]
    result = mesh.run("call", "files", "read_file")
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr


def test_no_response_at_all_is_exit_code_1(mesh: Mesh, agent: Agent) -> None:
    assert mesh.run("call", "files", "read_file").exit_code == 1


def test_with_json_every_message_is_a_line(mesh: Mesh, agent: Agent) -> None:
    agent.operations.messages = [{"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}]
    answer(agent, {"type": "text", "text": "é\u2028"}, isError=True)
    result = mesh.run("call", "files", "read_file", "--json")
    assert result.exit_code == 1
    assert [json.loads(line) for line in result.stdout.split("\n") if line] == agent.operations.messages


def test_arguments_from_stdin(mesh: Mesh, agent: Agent) -> None:
    answer(agent)
    assert mesh.run("call", "files", "read_file", "-", stdin='{"path": "é"}').exit_code == 0
    assert agent.operations.asked == [("call", "files", "read_file", {"path": "é"})]


def test_single_arguments_have_the_type_of_the_schema(mesh: Mesh, agent: Agent) -> None:
    answer(agent)
    given = ["-a", "path=12", "-a", "head=12", "-a", "x=true", "-a", "y=a=b", "-a", 'z=["1"]', "-a", "e="]
    assert mesh.run("call", "files", "read_file", '{"head": 1, "tail": 2}', *given).exit_code == 0
    assert agent.operations.asked[-1] == (
        "call",
        "files",
        "read_file",
        {"path": "12", "head": 12, "tail": 2, "x": True, "y": "a=b", "z": ["1"], "e": ""},
    )


@pytest.mark.parametrize("arguments", ["[]", "{", "1", "null", ""])
def test_arguments_that_are_not_an_object_are_refused(mesh: Mesh, agent: Agent, arguments: str) -> None:
    result = mesh.run("call", "files", "read_file", arguments)
    assert result.exit_code == 2
    assert agent.operations.asked == []


@pytest.mark.parametrize("argument", ["path", "=x"])
def test_an_argument_without_key_or_value_is_refused(mesh: Mesh, agent: Agent, argument: str) -> None:
    result = mesh.run("call", "files", "read_file", "--arg", argument)
    assert result.exit_code == 2
    assert "is not KEY=VALUE" in result.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]52;c;aGk=\x1b\\x", "x"),
        ("a\rb\x08\x00\x9b31m", "ab31m"),
        ("\u202egnp.exe", "gnp.exe"),
        ("a\r\nb", "a\nb"),
    ],
)
def test_control_sequences_are_removed(text: str, shown: str) -> None:
    assert strip_control_sequences(text) == shown
