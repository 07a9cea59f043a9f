"""A guest's network stack, asked for what the RFCs demand."""
