"""From audio files and streams to waveforms and log-mel spectrograms; voice activity, noise, distortions.

`mel` and `silero_vad` are the only modules here that need torch.
"""

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
