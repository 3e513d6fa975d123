"""From a file to a waveform (`files`), to log-mel (`mel`, the only module here that needs torch); `activity` finds
speech and quiet places to cut at, `noise` mixes noise in."""

from whisperstill.audio.activity import cut_at_silences, cut_file, speech_spans
from whisperstill.audio.files import AUDIO_SUFFIXES, load_audio, probe, stream_audio

__all__ = ["AUDIO_SUFFIXES", "cut_at_silences", "cut_file", "load_audio", "probe", "speech_spans", "stream_audio"]
