"""Token ids and their meaning, the tokenizer, the normalisers, counts of edits. Nothing here imports torch."""
