"""Long-form transcription: recordings of any length, window by window."""
