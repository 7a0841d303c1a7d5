"""`mcpmesh verify`: each claim about the mesh, tried on the running system.

Nothing here is taken from what the agent remembers: processes come from the
kernel, registrations from Consul's own answers, and every promise of the mesh
(identity, refusal, route) is put to the test by somebody who relies on it or
should be turned away.
"""
