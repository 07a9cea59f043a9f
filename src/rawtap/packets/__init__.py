"""Reading captures: select and page in C, decode the lines that are shown."""
