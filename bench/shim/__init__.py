"""`make bench-shim`: the shim and other stdio-to-HTTP bridges, in one interleaved run (docs/performance.md)."""
