"""Packets as tables, for questions in SQL: the tables, the questions that are taken, and DuckDB."""
