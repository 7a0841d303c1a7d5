"""Calls of clients at servers that many callers share."""
