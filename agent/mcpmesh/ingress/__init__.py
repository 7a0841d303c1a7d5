"""The ingress, the one address for clients: Consul's API gateway or Kong."""
