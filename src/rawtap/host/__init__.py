"""What this machine gives: privileges, programs, and the ways to a network without an administrator."""
