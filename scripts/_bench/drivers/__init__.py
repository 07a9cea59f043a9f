"""Programs that bench.py runs as processes of their own, each a capture by one Python library."""
