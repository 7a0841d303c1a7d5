"""A service mesh for MCP servers on Consul Connect and Envoy."""

__version__ = "0.1.0"
