"""From audio files and streams to waveforms and log-mel spectrograms; voice activity, noise, distortions.

`mel` and `silero_vad` are the only modules here that need torch.
"""
