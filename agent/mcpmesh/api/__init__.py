"""The agent's HTTP API: application, server and client, and how clients find the agent."""
