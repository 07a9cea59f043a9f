"""What holds everything: guests, captures and bridges, their order of start and of release, and what was seen of them."""
