"""Validation: the student's word error rate on held-out utterances.

With a frozen encoder its states are computed once, so each validation costs only the decoder. Several trainings in one
process, such as those of a sweep, can share them (`shared_encoder_cache`).
"""

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from whisperstill.audio.audio_files import load_audio
from whisperstill.audio.mel import log_mel, pad_or_trim
from whisperstill.decode.generate.batch_scheduler import DecodeRequest, generate
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

BATCH_SIZE = 16
"""Utterances decoded at a time."""


@dataclass(frozen=True, slots=True)
class ValidationItem:
    """A held-out utterance."""

    utterance: Utterance
    features: Tensor
    """Encoder states `[1500, width]` of a frozen encoder, else the spectrogram `[mels, 3000]`."""


@dataclass(frozen=True, slots=True)
class FrozenEncoder:
    """An encoder that training does not change."""

    sha256: str
    dtype: torch.dtype
    """Dtype its states are computed in."""


_shared_cache: ContextVar[dict[Hashable, list[ValidationItem]] | None] = ContextVar(
    "shared_encoder_cache", default=None
)


@contextmanager
def shared_encoder_cache() -> Iterator[None]:
    """Within this context, trainings with the same encoder and validation set share its encoder states."""
    token = _shared_cache.set({})
    try:
        yield
    finally:
        _shared_cache.reset(token)


class Validation:
    """Held-out utterances with their encoder states or spectrograms."""

    def __init__(
        self,
        network: Whisper,
        tokenizer: Tokenizer,
        logit_filter: LogitFilter,
        utterances: Sequence[Utterance],
        language: str | None,
        process_group: ProcessGroup,
        frozen_encoder: FrozenEncoder | None,
    ) -> None:
        """`language`: of utterances without one. `frozen_encoder`: None if training changes the encoder.

        Uses the utterances of at most 30 s with a reference; each process has its share. Raises `CorpusError` if there
        are none.
        """
        self.language = language
        self._network, self._tokenizer, self._logit_filter = network, tokenizer, logit_filter
        self._process_group, self._frozen_encoder = process_group, frozen_encoder
        usable_utterances = [u for u in utterances if u.text is not None and u.audio.duration <= WINDOW_SECONDS]
        references = repr(sorted((u.id, u.corpus, u.text, u.language) for u in usable_utterances))
        self.sha256 = hashlib.sha256(f"{references} {language}".encode()).hexdigest()
        """Identity of the utterances, wherever their audio lies."""
        local_utterances = tuple(process_group.shard(sorted(usable_utterances, key=lambda u: u.audio.duration)))
        self.items = self._load_items(local_utterances)
        if not process_group.all_reduce_sum(len(self.items))[0]:
            raise CorpusError("the validation manifest has no utterance of at most 30 s with a reference")

    def _load_items(self, utterances: tuple[Utterance, ...]) -> list[ValidationItem]:
        """The items, from the shared cache if there is one."""
        cached_items = _shared_cache.get()
        if cached_items is None or self._frozen_encoder is None:
            return self._build_items(utterances)
        cache_key = (self._frozen_encoder, self._network.device, utterances)
        if cache_key not in cached_items:
            cached_items.clear()  # one set at a time fits memory
            cached_items[cache_key] = self._build_items(utterances)
        return cached_items[cache_key]

    @torch.inference_mode()
    def _build_items(self, utterances: Sequence[Utterance]) -> list[ValidationItem]:
        items, device, frozen = [], self._network.device, self._frozen_encoder
        for utterance in utterances:
            try:
                waveform = load_audio(utterance.audio.path, utterance.audio.start, utterance.audio.duration)
            except AudioError:
                continue
            mel = log_mel(torch.from_numpy(pad_or_trim(waveform))[None].to(device), self._network.dims.mels)
            if frozen is None:
                features = mel[0]
            else:
                with torch.autocast(device.type, torch.bfloat16, enabled=frozen.dtype == torch.bfloat16):
                    features = self._network.encoder(mel)[0].to(frozen.dtype)
            items.append(ValidationItem(utterance, features.clone()))
        return items

    @torch.inference_mode()
    def compute_edits(self) -> EditCounts:
        """Edits of the network's greedy transcripts over all utterances and processes.

        In words or characters, depending on the language (`unit_for`).
        """
        network, vocabulary = self._network, self._logit_filter.vocabulary
        was_training = network.training
        network.eval()
        total = NO_EDITS
        for start in range(0, len(self.items), BATCH_SIZE):
            items = self.items[start : start + BATCH_SIZE]
            languages = [item.utterance.language or self.language or "en" for item in items]
            states = [item.features for item in items]
            if self._frozen_encoder is None:
                states = [network.encoder(mel[None])[0] for mel in states]
            requests = [
                DecodeRequest(state.to(network.dtype), vocabulary.sot_sequence(language))
                for state, language in zip(states, languages, strict=True)
            ]
            results = generate(network, self._logit_filter, requests)
            for item, language, result in zip(items, languages, results, strict=True):
                text = self._tokenizer.decode(list(result.tokens))
                reference = normalize_to_units(item.utterance.text or "", language)
                total = total + count_edits(reference, normalize_to_units(text, language))
        network.train(was_training)
        return EditCounts(*map(int, self._process_group.all_reduce_sum(*astuple(total))))
