"""Validation: the student's word error rate on held-out utterances.

Where the encoder is frozen its states are computed once and kept; each validation then costs the decoder alone. Many
trainings in one process, such as a sweep's, may share what was heard (`hearing_once`).
"""

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from whisperstill.audio.files import load_audio
from whisperstill.audio.mel import log_mel, pad_or_trim
from whisperstill.decode.batch import decode_batch
from whisperstill.decode.rules import Rules
from whisperstill.distill.ranks import Ranks
from whisperstill.errors import AudioError, CorpusError
from whisperstill.model.whisper import Whisper
from whisperstill.records import EditCounts, Utterance
from whisperstill.records.edits import NO_EDITS
from whisperstill.text.edits import count_edits
from whisperstill.text.normalise import scored_units
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.units import WINDOW_SECONDS


@dataclass(frozen=True, slots=True)
class Item:
    """A held-out utterance."""

    utterance: Utterance
    heard: Tensor
    """Its encoder states `[1500, width]`, or its spectrogram `[mels, 3000]`."""


_heard: ContextVar[dict[Hashable, list[Item]] | None] = ContextVar("heard", default=None)


@contextmanager
def hearing_once() -> Iterator[None]:
    """Trainings in this block whose encoder and held-out speech are the same compute its states once."""
    token = _heard.set({})
    try:
        yield
    finally:
        _heard.reset(token)


class Validation:
    """Held-out utterances with their encoder states, or their spectrograms."""

    def __init__(
        self,
        network: Whisper,
        tokenizer: Tokenizer,
        rules: Rules,
        utterances: Sequence[Utterance],
        language: str | None,
        ranks: Ranks,
        frozen_encoder: str | None,
        dtype: torch.dtype = torch.float32,
        batch_size: int = 16,
    ) -> None:
        """`language`: of what states none (None: all do). `frozen_encoder`: hash of the encoder where it does not
        change, whose states are computed in `dtype`. Keeps utterances of at most 30 s that have a reference, of several
        processes each its share.

        Raises `CorpusError` when none are left.
        """
        self.network, self.tokenizer, self.rules, self.batch_size = network, tokenizer, rules, batch_size
        self.ranks, self.frozen, self.language, self.dtype = ranks, frozen_encoder is not None, language, dtype
        usable = [u for u in utterances if u.text is not None and u.audio.duration <= WINDOW_SECONDS]
        said = repr(sorted((u.id, u.corpus, u.text, u.language) for u in usable))
        self.sha256 = hashlib.sha256(f"{said} {language}".encode()).hexdigest()
        """Identity of what is held out, wherever its audio lies."""
        mine = tuple(ranks.share(sorted(usable, key=lambda u: u.audio.duration)))
        known = _heard.get()
        if known is None or frozen_encoder is None:
            self.items = self._items(mine)
        else:
            key = (frozen_encoder, network.device, dtype, mine)
            if key not in known:
                known.clear()  # those of one set are enough to hold
                known[key] = self._items(mine)
            self.items = known[key]
        if not ranks.total(len(self.items))[0]:
            raise CorpusError("the validation manifest has no utterance of at most 30 s with a reference")

    @torch.inference_mode()
    def _items(self, utterances: Sequence[Utterance]) -> list[Item]:
        found, device = [], self.network.device
        mixed = torch.autocast(device.type, torch.bfloat16) if self.dtype == torch.bfloat16 else nullcontext()
        for utterance in utterances:
            try:
                waveform = load_audio(utterance.audio.path, utterance.audio.start, utterance.audio.duration)
            except AudioError:
                continue
            mel = log_mel(torch.from_numpy(pad_or_trim(waveform))[None].to(device), self.network.dims.mels)
            if self.frozen:
                with mixed:
                    heard = self.network.encoder(mel)[0].to(self.dtype)
            else:
                heard = mel[0]
            found.append(Item(utterance, heard.clone()))
        return found

    @torch.inference_mode()
    def edits(self) -> EditCounts:
        """Edits of the network as it is now, over all utterances, in what their languages count (`unit_for`)."""
        was_training = self.network.training
        self.network.eval()
        total = NO_EDITS
        for begin in range(0, len(self.items), self.batch_size):
            items = self.items[begin : begin + self.batch_size]
            languages = [item.utterance.language or self.language or "en" for item in items]
            starts = [self.rules.vocabulary.start(language) for language in languages]
            start = torch.tensor(starts, device=self.network.device)
            rows = [item.heard if self.frozen else self.network.encoder(item.heard[None])[0] for item in items]
            found, _ = decode_batch(self.network, torch.stack(rows).to(self.network.dtype), start, self.rules)
            for item, language, decoded in zip(items, languages, found, strict=True):
                text = self.tokenizer.decode(list(decoded.tokens))
                reference = scored_units(item.utterance.text or "", language)
                total = total + count_edits(reference, scored_units(text, language))
        self.network.train(was_training)
        return EditCounts(*map(int, self.ranks.total(*astuple(total))))
