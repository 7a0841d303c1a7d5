from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mcpmesh.daemon.scale_overrides import ScaleOverrides
from mcpmesh.errors import Refused
from mcpmesh.model.service import Catalog, Plain, Protocol, ServiceSpec, Stdio, Upstream

FILES = ServiceSpec("files", Stdio("server"))
CATALOG = Catalog({"files": FILES})


def instances(overrides: ScaleOverrides, catalog: Catalog = CATALOG) -> int:
    return overrides.apply_to(catalog).services["files"].instances


def test_an_override_survives_a_restart(tmp_path: Path) -> None:
    ScaleOverrides(tmp_path).set(FILES, 3)
    again = ScaleOverrides(tmp_path)
    assert instances(again) == 3
    assert again.describe(CATALOG) == (
        "files: scaled to 3, the catalog says 1; back with: mcpmesh scale files=catalog",
    )


def test_the_catalogs_number_counts_after_the_override_is_taken_back(tmp_path: Path) -> None:
    overrides = ScaleOverrides(tmp_path)
    overrides.set(FILES, 3)
    overrides.set(FILES, None)
    assert (instances(overrides), ScaleOverrides(tmp_path).describe(CATALOG)) == (1, ())


def test_a_new_number_in_the_catalog_supersedes_the_override(tmp_path: Path) -> None:
    overrides = ScaleOverrides(tmp_path)
    overrides.set(FILES, 3)
    newer = Catalog({"files": replace(FILES, instances=2)})
    assert instances(overrides, newer) == 2
    assert overrides.drop_superseded(newer) == ["files"]
    # Writing the old number again does not bring the override back.
    assert (instances(overrides), overrides.drop_superseded(CATALOG)) == (1, [])


def test_another_change_of_the_service_keeps_the_override(tmp_path: Path) -> None:
    overrides = ScaleOverrides(tmp_path)
    overrides.set(FILES, 3)
    assert instances(overrides, Catalog({"files": replace(FILES, tags=("new",))})) == 3


def test_the_catalogs_own_number_is_no_override(tmp_path: Path) -> None:
    overrides = ScaleOverrides(tmp_path)
    overrides.set(FILES, 1)
    assert overrides.describe(CATALOG) == ()


@pytest.mark.parametrize(
    "spec",
    [
        ServiceSpec("files", Plain(Protocol.HTTP, address="127.0.0.1:80")),
        replace(FILES, upstreams=(Upstream("memory", 5000),)),
    ],
)
def test_a_service_that_cannot_have_several_instances_is_refused(tmp_path: Path, spec: ServiceSpec) -> None:
    with pytest.raises(Refused, match="cannot scale"):
        ScaleOverrides(tmp_path).set(spec, 2)


def test_an_unreadable_file_holds_no_override(tmp_path: Path) -> None:
    (tmp_path / "scale.json").write_text("{")
    assert instances(ScaleOverrides(tmp_path)) == 1
