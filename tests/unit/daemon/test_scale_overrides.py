from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mcpmesh.daemon.scale_overrides import ScaleOverrides
from mcpmesh.errors import Refused
from mcpmesh.model.service import Catalog, Plain, Protocol, ServiceSpec, Stdio, Upstream

FILES = ServiceSpec("files", Stdio("server"))
CATALOG = Catalog({"files": FILES})


def instances(scaling: ScaleOverrides, catalog: Catalog = CATALOG) -> int:
    return scaling.applied(catalog).services["files"].instances


def test_what_was_asked_for_stands_through_a_restart(tmp_path: Path) -> None:
    ScaleOverrides(tmp_path).ask(FILES, 3)
    again = ScaleOverrides(tmp_path)
    assert instances(again) == 3
    assert again.sentences(CATALOG) == (
        "files: scaled to 3, the catalog says 1; back with: mcpmesh scale files=catalog",
    )


def test_taken_back_the_catalog_counts(tmp_path: Path) -> None:
    scaling = ScaleOverrides(tmp_path)
    scaling.ask(FILES, 3)
    scaling.ask(FILES, None)
    assert (instances(scaling), ScaleOverrides(tmp_path).sentences(CATALOG)) == (1, ())


def test_a_new_number_in_the_catalog_overtakes_it(tmp_path: Path) -> None:
    scaling = ScaleOverrides(tmp_path)
    scaling.ask(FILES, 3)
    newer = Catalog({"files": replace(FILES, instances=2)})
    assert instances(scaling, newer) == 2
    assert scaling.tidy(newer) == ["files"]
    # The old number written again is a new word of the catalog, too.
    assert (instances(scaling), scaling.tidy(CATALOG)) == (1, [])


def test_another_change_of_the_service_leaves_it(tmp_path: Path) -> None:
    scaling = ScaleOverrides(tmp_path)
    scaling.ask(FILES, 3)
    assert instances(scaling, Catalog({"files": replace(FILES, tags=("new",))})) == 3


def test_the_catalogs_own_number_is_nothing_to_remember(tmp_path: Path) -> None:
    scaling = ScaleOverrides(tmp_path)
    scaling.ask(FILES, 1)
    assert scaling.sentences(CATALOG) == ()


@pytest.mark.parametrize(
    "spec",
    [
        ServiceSpec("files", Plain(Protocol.HTTP, address="127.0.0.1:80")),
        replace(FILES, upstreams=(Upstream("memory", 5000),)),
    ],
)
def test_what_cannot_stand_side_by_side_is_refused(tmp_path: Path, spec: ServiceSpec) -> None:
    with pytest.raises(Refused, match="cannot scale"):
        ScaleOverrides(tmp_path).ask(spec, 2)


def test_a_file_that_cannot_be_read_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "scale.json").write_text("{")
    assert instances(ScaleOverrides(tmp_path)) == 1
