"""What the RFCs ask of a guest's network stack, as data, and how one rule is tried. Pure, apart from the wire it is given."""
