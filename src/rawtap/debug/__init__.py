"""Looking into a guest: gdb, confined, and what may be asked of it."""
