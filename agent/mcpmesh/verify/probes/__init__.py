"""How the running mesh is looked at: processes, sockets, connections, admin addresses, calls.

A probe returns what it saw, or raises a `PeerError`. It does not judge, and it
knows nothing of claims; an import contract holds that.
"""
