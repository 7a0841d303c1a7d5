"""The container runtime: every instance is a shim and an Envoy in containers of one Docker."""
