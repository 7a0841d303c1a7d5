"""The words of the domain, frozen, without I/O."""
