"""`make bench-shim`: the shim beside other stdio-to-HTTP bridges, in one interleaved run (docs/performance.md)."""
