"""Logits to tokens: batched greedy, sampled and beam decoding, and speculative decoding with a draft model."""
