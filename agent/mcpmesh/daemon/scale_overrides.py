"""How many instances `mcpmesh scale` asked for, beside the catalog's own numbers.

It stands through restarts until it is taken back, or until somebody writes
another number into the catalog: the newest word counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mcpmesh.errors import Refused
from mcpmesh.kit.private_files import private_folder, write_private
from mcpmesh.model.service import Catalog, Plain, ServiceSpec


@dataclass(frozen=True)
class ScaleOverride:
    """`instances` were asked for while the catalog said `catalog`."""

    instances: int
    catalog: int


class ScaleOverrides:
    """What was asked for, kept in the mesh's home."""

    def __init__(self, home: Path) -> None:
        self._path = private_folder(home) / "scale.json"
        try:
            found = json.loads(self._path.read_text())
            self._asked = {str(name): ScaleOverride(**asked) for name, asked in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            self._asked = {}

    def applied(self, catalog: Catalog) -> Catalog:
        """The catalog with the numbers that were asked for."""
        changed = {
            name: replace(catalog.services[name], instances=asked.instances) for name, asked in self._in_force(catalog)
        }
        return replace(catalog, services={**catalog.services, **changed})

    def sentences(self, catalog: Catalog) -> tuple[str, ...]:
        """What stands beside the catalog, for the status."""
        return tuple(
            f"{name}: scaled to {asked.instances}, the catalog says {asked.catalog}; back with: "
            f"mcpmesh scale {name}=catalog"
            for name, asked in self._in_force(catalog)
        )

    def ask(self, spec: ServiceSpec, instances: int | None) -> None:
        """Keeps a number for a service; None goes back to the catalog's. Raises Refused where it can't have several."""
        if isinstance(spec.start, Plain) and spec.start.address is not None:
            raise Refused(f'cannot scale "{spec.name}": it runs elsewhere, at {spec.start.address}')
        if instances is not None and any(upstream.port for upstream in spec.upstreams) and instances > 1:
            raise Refused(f'cannot scale "{spec.name}": instances cannot share the fixed port of an upstream')
        self._asked.pop(spec.name, None)
        if instances is not None and instances != spec.instances:
            self._asked[spec.name] = ScaleOverride(instances, spec.instances)
        self._write()

    def tidy(self, catalog: Catalog) -> list[str]:
        """Forgets what the catalog has overtaken; returns the names."""
        standing = {name for name, _ in self._in_force(catalog)}
        overtaken = sorted(name for name in self._asked if name not in standing)
        for name in overtaken:
            del self._asked[name]
        if overtaken:
            self._write()
        return overtaken

    def _in_force(self, catalog: Catalog) -> Iterator[tuple[str, ScaleOverride]]:
        for name, asked in self._asked.items():
            spec = catalog.services.get(name)
            if spec is not None and spec.instances == asked.catalog:
                yield name, asked

    def _write(self) -> None:
        write_private(self._path, json.dumps({name: asdict(asked) for name, asked in self._asked.items()}) + "\n")
