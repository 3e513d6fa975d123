"""Transcripts, subtitles and the files they are written to."""
