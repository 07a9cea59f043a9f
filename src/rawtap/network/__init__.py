"""Bridges and TAPs."""
