"""Vocabulary, tokenizer, text normalizers and edit distance, without torch."""
