"""Where what the tests start listens: a window of ports for each process that runs tests.

Several may do so side by side (`make test` starts more than one), beside a mesh
that a person runs.
"""

from __future__ import annotations

import os
from typing import Final

from mcpmesh.kit.ports import Ports

_WINDOW: Final = 20000 + os.getpid() % 40 * 300

MESH_INFRASTRUCTURE: Final = _WINDOW
MESH_SERVICES: Final = _WINDOW + 20
CONSUL_PORTS: Final = Ports(_WINDOW + 150)
KONG_PORTS: Final = Ports(_WINDOW + 250)
