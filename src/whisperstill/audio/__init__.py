"""From a file to a waveform (`files`), to log-mel (`mel`, the only module here that needs torch); `activity` finds
speech and quiet places to cut at, `noise` mixes noise in."""

from whisperstill.audio.audio_files import AUDIO_SUFFIXES, load_audio, probe_duration, stream_audio
from whisperstill.audio.sound_activity import cut_at_silences, cut_file, speech_spans

__all__ = [
    "AUDIO_SUFFIXES",
    "cut_at_silences",
    "cut_file",
    "load_audio",
    "probe_duration",
    "speech_spans",
    "stream_audio",
]
