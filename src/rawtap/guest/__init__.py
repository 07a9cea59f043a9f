"""QEMU guests: profiles, the process, its monitor and its console."""
