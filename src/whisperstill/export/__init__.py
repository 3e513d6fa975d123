"""Writers of other engines' formats: one file each, from a `Checkpoint`."""
