"""What RFCs ask of a guest's network stack, as data, and how one rule is tried. Pure, but for the wire it is given."""
