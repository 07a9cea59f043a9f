"""Watching a running server: a socket of the user's own that only reads."""
