"""The next steps that claims name, as a user types them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.unit.verify.sample_mesh import AT_CONSUL, REPAIRS, the_target

from mcpmesh.ingress.kong.kong_admin import KongAdmin
from mcpmesh.verify.target import KongAtIngress


def test_commands_name_the_mesh_where_it_is_not_the_default() -> None:
    assert the_target().mcpmesh_command("resume") == "mcpmesh --name m resume"
    assert replace(the_target(), mesh="default").mcpmesh_command("resume") == "mcpmesh resume"


def test_a_command_to_consul_names_its_address() -> None:
    target = the_target()
    assert target.consul_command("intention list", "") == f"consul intention list {AT_CONSUL}"
    assert target.consul_command("intention delete", "a b") == f"consul intention delete {AT_CONSUL} a b"
    target.settings.consul.url = "http://consul.example"
    assert target.consul_command("members", "") == "consul members -http-addr=http://consul.example"


def test_what_the_agent_repairs_names_its_log() -> None:
    assert the_target().agent_repairs == REPAIRS
    assert the_target().log_file("files-1") == Path("/home/m/logs/files-1.log")


def test_the_command_that_shows_routes_asks_the_ingress_that_has_them() -> None:
    assert the_target().show_routes == f"consul config list {AT_CONSUL} -kind http-route"
    with_kong = replace(the_target(), kong=KongAtIngress(KongAdmin(), None))
    assert with_kong.show_routes == "mcpmesh --name m ingress render"


def test_a_kong_with_an_address_is_not_run_by_the_agent() -> None:
    assert KongAtIngress(KongAdmin(), None).run_by_agent
    assert not KongAtIngress(KongAdmin(), "http://kong:8001").run_by_agent
