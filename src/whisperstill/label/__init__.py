"""The one visit of the teacher: labels, evidence, top-k, encoder states; the store; the filter's rules."""
