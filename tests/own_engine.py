"""whisperstill as an `ExternalEngine`: the reference for the other engines."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from whisperstill.audio.mel import pad_or_trim
from whisperstill.corpus.loading import Waveform
from whisperstill.decode.longform.recordings import Recording, TranscriptionSession
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.errors import AudioError
from whisperstill.evaluate.engines.external_engine import ModelDescription
from whisperstill.model.checkpoints import load_checkpoint


class Ours:
    """A `WhisperModel` in float32, as an `ExternalEngine`."""

    version, device, dtype = "0", "cpu", "float32"

    def __init__(self, source: str | Path) -> None:
        checkpoint = load_checkpoint(source)
        self.description = ModelDescription.from_checkpoint(checkpoint)
        self._model = WhisperModel(checkpoint, device="cpu", dtype=torch.float32)

    def transcribe(
        self, waveforms: Sequence[Waveform], languages: Sequence[str | None], *, long_form: bool = False
    ) -> list[str]:
        """Texts of the waveforms."""
        codes = [self.description.resolve_language(language) for language in languages]
        if long_form:
            return self._long(waveforms, codes)
        windows = torch.from_numpy(np.stack([pad_or_trim(waveform) for waveform in waveforms]))
        states = self._model.encode(windows)
        transcripts = self._model.decode(states, self._model.resolve_languages(states, codes))
        return [transcript.text for transcript in transcripts]

    def _long(self, waveforms: Sequence[Waveform], codes: Sequence[str | None]) -> list[str]:
        recordings = [
            Recording("the waveform", language=code, blocks=iter([waveform]))
            for waveform, code in zip(waveforms, codes, strict=True)
        ]
        texts = []
        session = TranscriptionSession(self._model, DecodingOptions(temperature=(0.0,)))
        for _, result in session.transcribe(recordings):
            if isinstance(result, AudioError):
                raise result
            texts.append(result.text)
        return texts
