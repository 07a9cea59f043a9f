"""What was fetched or sent as a whole, like a page or a file, taken out of the bytes of a conversation. Pure."""
