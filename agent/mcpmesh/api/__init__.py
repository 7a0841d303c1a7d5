"""The agent's HTTP API: its application, the server it runs in, and its client."""
