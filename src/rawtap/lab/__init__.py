"""What holds everything: guests, captures and bridges, how they start and are released, and what was seen of them."""
