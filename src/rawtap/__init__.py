"""rawtap: boot an operating system in QEMU, put it on a real wire, see every packet."""
