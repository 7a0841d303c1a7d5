"""How the agent reports on itself to its operator."""
