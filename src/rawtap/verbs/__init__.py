"""What a person gives rawtap to do: faces of the same Lab and of the same tools that agents have."""
