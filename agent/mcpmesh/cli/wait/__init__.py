"""Waiting: for the agent, for services to be ready, for events and for changes of the status."""
