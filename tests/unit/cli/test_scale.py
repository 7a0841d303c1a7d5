from __future__ import annotations

import json

import pytest
from tests.unit.cli.conftest import Agent, Mesh


def test_it_asks_for_the_number_and_says_so(mesh: Mesh, agent: Agent) -> None:
    assert mesh.run("scale", "files=3").stdout == "files: 3; see: mcpmesh status\n"
    back = mesh.run("scale", "files=catalog")
    assert (back.exit_code, back.stdout) == (0, "files: as many as the catalog says; see: mcpmesh status\n")
    assert agent.operations.asked == [("scale", "files", 3), ("scale", "files", None)]


def test_for_programs_it_says_the_numbers(mesh: Mesh, agent: Agent) -> None:
    assert json.loads(mesh.run("scale", "files=3", "--json").stdout) == {"scaled": {"files": 3}}


@pytest.mark.parametrize("word", ["files", "files=0", "files=101", "files=many", "=3", "files="])
def test_a_word_that_is_no_number_of_instances_is_refused(mesh: Mesh, agent: Agent, word: str) -> None:
    result = mesh.run("scale", word)
    assert result.exit_code == 2
    assert "SERVICE=N" in result.stderr
    assert agent.operations.asked == []


def test_an_unknown_service_is_refused(mesh: Mesh, agent: Agent) -> None:
    result = mesh.run("scale", "fils=3")
    assert result.exit_code == 2
    assert 'did you mean "files"' in result.stderr
