"""What is claimed, and how it is judged.

A function of a claim takes the snapshot (and the service, for a claim about
one). It has `probes` look where the snapshot does not suffice, and returns
findings. No module here opens a connection itself; an import contract holds
that. Functions named `judge_…` are pure.
"""
