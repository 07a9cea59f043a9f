"""One judge for each subject: it sees the packets in their order, and settles at the end what never came."""
