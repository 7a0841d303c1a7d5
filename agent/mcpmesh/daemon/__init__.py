"""The composition root: the one place that knows every class.

`launch` starts an agent in the background, `run` is one in the foreground,
`sweep` takes down what an agent that died has left.
"""

from __future__ import annotations

from mcpmesh.daemon.launch import launch
from mcpmesh.daemon.run import run, sweep

__all__ = ["launch", "run", "sweep"]
