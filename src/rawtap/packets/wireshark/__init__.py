"""What tshark (Wireshark's program for the command line) says of packets, where it is installed: its input, output."""
