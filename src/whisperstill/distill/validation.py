"""Validation: the student's word error rate on held-out utterances.

Where the encoder is frozen its states are computed once and kept; each validation then costs the decoder alone.
"""

from collections.abc import Sequence
from dataclasses import astuple

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
        batch_size: int = 16,
        frozen: bool = True,
    ) -> None:
        """`frozen`: the encoder does not change. Keeps utterances of at most 30 s that have a reference, of several
        processes each its share.

        Raises `CorpusError` when none are left.
        """
        self.network, self.tokenizer, self.rules, self.batch_size = network, tokenizer, rules, batch_size
        self.ranks, self.frozen = ranks, frozen
        self.items: list[tuple[Utterance, str, Tensor]] = []
        usable = [u for u in utterances if u.text is not None and u.audio.duration <= WINDOW_SECONDS]
        for utterance in ranks.share(sorted(usable, key=lambda u: u.audio.duration)):
            try:
                waveform = load_audio(utterance.audio.path, utterance.audio.start, utterance.audio.duration)
            except AudioError:
                continue
            with torch.inference_mode():
                mel = log_mel(torch.from_numpy(pad_or_trim(waveform))[None].to(network.device), network.dims.mels)
                heard = network.encoder(mel)[0].clone() if frozen else mel[0].clone()
            self.items.append((utterance, utterance.language or language or "en", heard))
        if not ranks.total(len(self.items))[0]:
            raise CorpusError("the validation manifest has no utterance of at most 30 s with a reference")

    @torch.inference_mode()
    def edits(self) -> EditCounts:
        """Edits of the network as it is now, over all utterances, in what their languages count (`unit_for`)."""
        was_training = self.network.training
        self.network.eval()
        total = NO_EDITS
        for begin in range(0, len(self.items), self.batch_size):
            items = self.items[begin : begin + self.batch_size]
            start = torch.tensor(
                [self.rules.vocabulary.start(language) for _, language, _ in items], device=self.network.device
            )
            states = torch.stack(
                [heard if self.frozen else self.network.encoder(heard[None])[0] for *_, heard in items]
            )
            found, _ = decode_batch(self.network, states, start, self.rules)
            for (utterance, language, _), decoded in zip(items, found, strict=True):
                heard = self.tokenizer.decode(list(decoded.tokens))
                total = total + count_edits(scored_units(utterance.text or "", language), scored_units(heard, language))
        self.network.train(was_training)
        return EditCounts(*map(int, self.ranks.total(*astuple(total))))
