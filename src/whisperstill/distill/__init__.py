"""Distillation: batches, losses, training step, training loop, checkpoints, validation."""
