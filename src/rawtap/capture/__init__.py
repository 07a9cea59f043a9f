"""Capturing: wire, kernel ring, file."""
