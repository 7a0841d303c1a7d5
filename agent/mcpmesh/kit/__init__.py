"""Plumbing that knows nothing of the mesh."""
