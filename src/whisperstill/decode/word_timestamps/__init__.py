"""Word timestamps from cross-attention."""
