"""Recordings of any length: how they are split into windows, and how results become segments."""
