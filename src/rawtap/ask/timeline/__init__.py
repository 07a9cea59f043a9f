"""What happened, from all sources, on one clock."""
