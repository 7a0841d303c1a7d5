"""Legacy sessions: over a process of their own, or over shared ones."""
