"""Whisper as one readable network: dims, attention, cache, encoder, decoder; student from teacher; checkpoints."""
