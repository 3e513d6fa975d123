"""Other formats: one file each, written from a `Checkpoint`."""
