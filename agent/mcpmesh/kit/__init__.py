"""Plumbing without opinions about the mesh."""
