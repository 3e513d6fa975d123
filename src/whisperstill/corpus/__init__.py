"""Reads corpora of any layout as utterances, and packs utterances into windows of at most 30 s, without torch."""

from whisperstill.corpus.loading import load_utterance_waveform, load_window_waveform
from whisperstill.corpus.packing import pack, split_long
from whisperstill.corpus.reading import LAYOUTS, Corpus, read_corpus

__all__ = ["LAYOUTS", "Corpus", "load_utterance_waveform", "load_window_waveform", "pack", "read_corpus", "split_long"]
