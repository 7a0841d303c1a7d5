"""Consul: finding or building its program, running our own, and a client of its HTTP API."""
