"""The data of the domain: frozen, without I/O."""
