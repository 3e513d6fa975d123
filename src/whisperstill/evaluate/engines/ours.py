"""Our own engine, as others are called: `load`, one window each or the default way through long recordings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from whisperstill._version import __version__
from whisperstill.audio.mel import pad_or_trim
from whisperstill.decode.longform import Recording, transcribe_recordings
from whisperstill.decode.options import DecodingOptions
from whisperstill.decode.recogniser import Recogniser
from whisperstill.errors import AudioError, SettingsError
from whisperstill.evaluate.engines.about import About
from whisperstill.evaluate.engines.engine import Waveform
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.model.device import choose_device, choose_dtype

OPTIONS = DecodingOptions(temperature=(0.0,))
"""Of long recordings."""


class Ours:
    """A `Recogniser`. Types: fp32, bf16, and int8 on a CPU."""

    name = "whisperstill"
    version = __version__

    def __init__(self, source: str | Path, device: str, dtype: str) -> None:
        """See `engines.engine`."""
        if dtype == "fp16":
            raise SettingsError("whisperstill computes in fp32, bf16 or int8, got fp16")
        checkpoint = load_checkpoint(source)
        self.about = About.of(checkpoint)
        chosen, int8 = choose_device(device), dtype == "int8"
        self._recogniser = Recogniser(
            checkpoint, device=chosen, dtype=None if int8 else choose_dtype(dtype, chosen), int8=int8
        )
        self.device = chosen
        self.dtype = "int8" if int8 else str(self._recogniser.network.dtype).removeprefix("torch.")
        self.tokens = 0

    def transcribe(
        self, waveforms: Sequence[Waveform], languages: Sequence[str | None], *, long: bool = False
    ) -> list[str]:
        """See `Engine`. Raises `AudioError` for a long recording without a sample."""
        codes = [self.about.spoken(one) for one in languages]
        if not waveforms:
            return []
        if long:
            return self._long(waveforms, codes)
        windows = torch.from_numpy(np.stack([pad_or_trim(one) for one in waveforms]))
        heard = self._recogniser.recognise(windows, codes)
        self._count(*(one.decoded.tokens for one in heard))
        return [one.text for one in heard]

    def _long(self, waveforms: Sequence[Waveform], codes: Sequence[str | None]) -> list[str]:
        recordings = [
            Recording("the waveform", language=code, blocks=iter([waveform]))
            for waveform, code in zip(waveforms, codes, strict=True)
        ]
        texts = []
        for _, result in transcribe_recordings(self._recogniser, recordings, OPTIONS):
            if isinstance(result, AudioError):
                raise result
            self._count(*(segment.tokens for segment in result.segments))
            texts.append(result.text)
        return texts

    def _count(self, *sequences: Sequence[int]) -> None:
        self.tokens += sum(self._recogniser.vocabulary.is_text(token) for one in sequences for token in one)
