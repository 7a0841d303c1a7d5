"""`mcpmesh verify`: each claim about the mesh, tried on the running system.

Nothing here is taken from what the agent remembers. Processes come from the
kernel and registrations from Consul's own answers. Each promise of the mesh
(identity, refusal, route) is tried as a client would use it, or as a caller
that has to be refused.

`probes` look at the running mesh and return what they saw. `claims` judge
that, and return findings. `claim_list` says which claims are made.
"""
