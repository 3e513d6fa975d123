"""Corpora of any layout to utterances, and utterances to windows of at most 30 s. No torch, no network."""

from whisperstill.corpus.corpus import Corpus
from whisperstill.corpus.long import split_long
from whisperstill.corpus.packing import pack
from whisperstill.corpus.reading import LAYOUTS, read_corpus
from whisperstill.corpus.waveform import utterance_waveform, window_waveform

__all__ = ["LAYOUTS", "Corpus", "pack", "read_corpus", "split_long", "utterance_waveform", "window_waveform"]
