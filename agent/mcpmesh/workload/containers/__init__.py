"""The instances of a catalog as containers: per instance a shim and, in its network namespace, an Envoy."""
