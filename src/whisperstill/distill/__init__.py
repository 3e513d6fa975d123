"""Everything with a gradient: objectives, batches, step, schedule, trainer, checkpoints."""
