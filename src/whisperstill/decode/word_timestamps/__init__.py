"""Start and end of every word, from cross-attention."""
