"""Pseudo-labelling: the teacher's labels, top-k logits and encoder states; the label store; filtering."""
