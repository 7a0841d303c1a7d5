"""The numbers of instances that `mcpmesh scale` set in place of the catalog's.

They survive restarts. One ends when it is taken back, or when the number in
the catalog changes: the latest change counts.
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
    """`instances` was set while the catalog said `catalog`."""

    instances: int
    catalog: int


class ScaleOverrides:
    """The overrides of a mesh, stored in its home."""

    def __init__(self, home: Path) -> None:
        self._path = private_folder(home) / "scale.json"
        try:
            found = json.loads(self._path.read_text())
            self._overrides = {str(name): ScaleOverride(**override) for name, override in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            self._overrides = {}

    def apply_to(self, catalog: Catalog) -> Catalog:
        """The catalog with the numbers that were set."""
        changed = {
            name: replace(catalog.services[name], instances=override.instances)
            for name, override in self._in_force(catalog)
        }
        return replace(catalog, services={**catalog.services, **changed})

    def describe(self, catalog: Catalog) -> tuple[str, ...]:
        """A sentence for each override in force, for `mcpmesh status`."""
        return tuple(
            f"{name}: scaled to {override.instances}, the catalog says {override.catalog}; back with: "
            f"mcpmesh scale {name}=catalog"
            for name, override in self._in_force(catalog)
        )

    def set(self, spec: ServiceSpec, instances: int | None) -> None:
        """Sets the number for a service; None takes it back. Raises Refused where the service can't have several."""
        if isinstance(spec.start, Plain) and spec.start.address is not None:
            raise Refused(f'cannot scale "{spec.name}": it runs elsewhere, at {spec.start.address}')
        if instances is not None and any(upstream.port for upstream in spec.upstreams) and instances > 1:
            raise Refused(f'cannot scale "{spec.name}": instances cannot share the fixed port of an upstream')
        self._overrides.pop(spec.name, None)
        if instances is not None and instances != spec.instances:
            self._overrides[spec.name] = ScaleOverride(instances, spec.instances)
        self._write()

    def drop_superseded(self, catalog: Catalog) -> list[str]:
        """Drops the overrides of services whose number in the catalog changed; returns their names."""
        in_force = {name for name, _ in self._in_force(catalog)}
        superseded = sorted(name for name in self._overrides if name not in in_force)
        for name in superseded:
            del self._overrides[name]
        if superseded:
            self._write()
        return superseded

    def _in_force(self, catalog: Catalog) -> Iterator[tuple[str, ScaleOverride]]:
        for name, override in self._overrides.items():
            spec = catalog.services.get(name)
            if spec is not None and spec.instances == override.catalog:
                yield name, override

    def _write(self) -> None:
        write_private(
            self._path, json.dumps({name: asdict(override) for name, override in self._overrides.items()}) + "\n"
        )
