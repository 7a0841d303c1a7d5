"""The one address that clients use, and who serves it."""
