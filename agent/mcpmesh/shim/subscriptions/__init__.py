"""Subscriptions of clients to changes of the server."""
