"""Validation: the student's word error rate on held-out utterances.

Where the encoder is frozen its states are computed once and kept; each validation then costs the decoder alone. Many
trainings in one process, such as a sweep's, may share what was heard (`shared_encoder_cache`).
"""

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from whisperstill.audio.audio_files import load_audio
from whisperstill.audio.mel import log_mel, pad_or_trim
from whisperstill.decode.generate.batch_scheduler import DecodeRequest
from whisperstill.decode.generate.generator import generate
from whisperstill.decode.generate.logit_filter import LogitFilter
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.errors import AudioError, CorpusError
from whisperstill.model.whisper import Whisper
from whisperstill.records import EditCounts, Utterance
from whisperstill.records.edit_counts import NO_EDITS
from whisperstill.text.edit_distance import count_edits
from whisperstill.text.normalizers import normalize_to_units
from whisperstill.text.tokenizer import Tokenizer
from whisperstill.units import WINDOW_SECONDS


@dataclass(frozen=True, slots=True)
class ValidationItem:
    """A held-out utterance."""

    utterance: Utterance
    features: Tensor
    """Its encoder states `[1500, width]`, or its spectrogram `[mels, 3000]`."""


_shared_cache: ContextVar[dict[Hashable, list[ValidationItem]] | None] = ContextVar(
    "shared_encoder_cache", default=None
)


@contextmanager
def shared_encoder_cache() -> Iterator[None]:
    """Trainings in this block whose encoder and held-out speech are the same compute its states once."""
    token = _shared_cache.set({})
    try:
        yield
    finally:
        _shared_cache.reset(token)


class Validation:
    """Held-out utterances with their encoder states, or their spectrograms."""

    def __init__(
        self,
        network: Whisper,
        tokenizer: Tokenizer,
        logit_filter: LogitFilter,
        utterances: Sequence[Utterance],
        language: str | None,
        process_group: ProcessGroup,
        frozen_encoder_sha256: str | None,
        dtype: torch.dtype = torch.float32,
        batch_size: int = 16,
    ) -> None:
        """`language`: of what states none (None: all do). `frozen_encoder_sha256`: hash of the encoder where it does
        not change, whose states are computed in `dtype`. Keeps utterances of at most 30 s that have a reference, of
        several processes each its share.

        Raises `CorpusError` when none are left.
        """
        self.network, self.tokenizer, self.logit_filter, self.batch_size = network, tokenizer, logit_filter, batch_size
        self.process_group, self.encoder_frozen, self.language, self.dtype = (
            process_group,
            frozen_encoder_sha256 is not None,
            language,
            dtype,
        )
        usable_utterances = [u for u in utterances if u.text is not None and u.audio.duration <= WINDOW_SECONDS]
        references = repr(sorted((u.id, u.corpus, u.text, u.language) for u in usable_utterances))
        self.sha256 = hashlib.sha256(f"{references} {language}".encode()).hexdigest()
        """Identity of what is held out, wherever its audio lies."""
        local_utterances = tuple(process_group.shard(sorted(usable_utterances, key=lambda u: u.audio.duration)))
        cached_items = _shared_cache.get()
        if cached_items is None or frozen_encoder_sha256 is None:
            self.items = self._build_items(local_utterances)
        else:
            cache_key = (frozen_encoder_sha256, network.device, dtype, local_utterances)
            if cache_key not in cached_items:
                cached_items.clear()  # those of one set are enough to hold
                cached_items[cache_key] = self._build_items(local_utterances)
            self.items = cached_items[cache_key]
        if not process_group.all_reduce_sum(len(self.items))[0]:
            raise CorpusError("the validation manifest has no utterance of at most 30 s with a reference")

    @torch.inference_mode()
    def _build_items(self, utterances: Sequence[Utterance]) -> list[ValidationItem]:
        items, device = [], self.network.device
        autocast = torch.autocast(device.type, torch.bfloat16) if self.dtype == torch.bfloat16 else nullcontext()
        for utterance in utterances:
            try:
                waveform = load_audio(utterance.audio.path, utterance.audio.start, utterance.audio.duration)
            except AudioError:
                continue
            mel = log_mel(torch.from_numpy(pad_or_trim(waveform))[None].to(device), self.network.dims.mels)
            if self.encoder_frozen:
                with autocast:
                    features = self.network.encoder(mel)[0].to(self.dtype)
            else:
                features = mel[0]
            items.append(ValidationItem(utterance, features.clone()))
        return items

    @torch.inference_mode()
    def compute_edits(self) -> EditCounts:
        """Edits of the network as it is now, over all utterances, in what their languages count (`unit_for`)."""
        was_training = self.network.training
        self.network.eval()
        total = NO_EDITS
        for begin in range(0, len(self.items), self.batch_size):
            items = self.items[begin : begin + self.batch_size]
            languages = [item.utterance.language or self.language or "en" for item in items]
            states = [
                item.features if self.encoder_frozen else self.network.encoder(item.features[None])[0] for item in items
            ]
            requests = [
                DecodeRequest(state.to(self.network.dtype), self.logit_filter.vocabulary.sot_sequence(language))
                for state, language in zip(states, languages, strict=True)
            ]
            results = generate(self.network, self.logit_filter, requests)
            for item, language, result in zip(items, languages, results, strict=True):
                text = self.tokenizer.decode(list(result.tokens))
                reference = normalize_to_units(item.utterance.text or "", language)
                total = total + count_edits(reference, normalize_to_units(text, language))
        self.network.train(was_training)
        return EditCounts(*map(int, self.process_group.all_reduce_sum(*astuple(total))))
