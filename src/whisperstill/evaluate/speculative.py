"""The teacher with a draft against the teacher alone: is the text the same, and how much faster does it come?

Both hear the same batches, in turns whose order changes from batch to batch. The encoder is the teacher's own in both
and its states are taken for both, so its time is measured once and charged to both.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from whisperstill.audio.files import load_audio
from whisperstill.audio.mel import pad_or_trim
from whisperstill.decode.drafts import Sofar
from whisperstill.decode.recogniser import Recogniser
from whisperstill.decode.rules import History
from whisperstill.decode.sampling import Draw
from whisperstill.decode.speculation import Speculation
from whisperstill.errors import AudioError
from whisperstill.records import Skipped, Utterance
from whisperstill.records.findings import DraftShown, DraftToken
from whisperstill.units import WINDOW_SECONDS

SHOWN_BLOCK = 8
"""Tokens that the teacher reads at a time in what is shown: one it knows, and seven proposals."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Sums over all batches."""

    utterances: int
    identical: int
    encoder_seconds: float
    alone_seconds: float
    """Decoding without the draft."""
    draft_seconds: float
    """Decoding with it."""
    counts: Speculation
    skipped: tuple[Skipped, ...]
    """Utterances that could not be read."""


def compare(
    alone: Recogniser,
    assisted: Recogniser,
    utterances: Sequence[Utterance],
    batch_size: int,
    advance: Callable[[float], None] = lambda seconds: None,
) -> Compared:
    """Decode utterances of up to 30 s both ways, `batch_size` at a time; the first batch is decoded once more before,
    to warm up. Those that cannot be read are skipped."""
    short, skipped = _readable([one for one in utterances if one.audio.duration <= WINDOW_SECONDS])
    batches = [short[at : at + batch_size] for at in range(0, len(short), batch_size)]
    encoder = 0.0
    spent = {alone: 0.0, assisted: 0.0}
    identical = 0
    for turn, batch in enumerate([*batches[:1], *batches]):
        if turn == 1:  # the first was the warm-up
            encoder, spent, identical = 0.0, {alone: 0.0, assisted: 0.0}, 0
            assisted.speculation = Speculation()
        waveforms = _waveforms(batch)
        begun = _now(alone)
        states = alone.encode(waveforms)
        encoder += _now(alone) - begun
        languages = alone.languages(states, [one.language for one in batch])
        begun = _now(assisted)
        own = assisted.draft_states(waveforms, states)
        spent[assisted] += _now(assisted) - begun  # a draft with an encoder of its own has to hear, too
        found = {}
        for which in (alone, assisted) if turn % 2 else (assisted, alone):
            begun = _now(which)
            heard = which.decode(states, languages, draft_states=own if which is assisted else None)
            spent[which] += _now(which) - begun
            found[which] = [one.decoded.tokens for one in heard]
        identical += sum(map(tuple.__eq__, found[alone], found[assisted]))
        if turn:
            advance(sum(one.audio.duration for one in batch))
    return Compared(len(short), identical, encoder, spent[alone], spent[assisted], assisted.speculation, skipped)


@torch.inference_mode()
def shown(assisted: Recogniser, utterance: Utterance, name: str, block: int = SHOWN_BLOCK) -> DraftShown:
    """One utterance token by token: what the draft proposes at each place, in blocks of `block`, the last of which is
    the teacher's own. The tokens are those that any speculative decoding gives; which of them were proposals depends
    on the block, which decoding itself chooses as it goes."""
    waveforms = _waveforms([utterance])
    states = assisted.encode(waveforms)
    own = assisted.draft_states(waveforms, states)
    language = assisted.languages(states, [utterance.language])
    (heard,) = assisted.decode(states, language, draft_states=own)
    vocabulary, device = assisted.vocabulary, assisted.network.device
    start = vocabulary.start(language[0], "transcribe", False)
    tokens = [*heard.decoded.tokens, *([vocabulary.end_of_text] if heard.decoded.ended else [])]
    sequence = torch.tensor([[*start, *tokens]], device=device)
    known = History.empty(1, device).along(sequence[:, len(start) :], vocabulary.timestamp_begin)
    make = assisted.make_draft(assisted.rules(timestamps=False))
    assert make is not None
    draft = make(1, sequence.shape[1] + block)
    draft.put([0], states if own is None else own, sequence[:, : len(start)])
    nothing = torch.zeros(1, device=device)
    found: list[DraftToken] = []
    passes = 0
    while (at := len(found)) < len(tokens):
        passes += 1
        length = torch.tensor([len(start) + at], device=device)
        sofar = Sofar(sequence, length, known[at], Draw(nothing, nothing.long(), True))
        for token, proposed in zip(tokens[at:], draft.propose(sofar, block - 1)[0].tolist(), strict=False):
            if proposed != token:
                found.append(DraftToken(_text(assisted, token), "corrected", _text(assisted, proposed)))
                break
            found.append(DraftToken(_text(assisted, token), "accepted"))
        else:
            found += [DraftToken(_text(assisted, token), "own") for token in tokens[len(found) : at + block]]
    return DraftShown(name, utterance.id, passes, tuple(found))


def _text(recogniser: Recogniser, token: int) -> str:
    return "" if token == recogniser.vocabulary.end_of_text else recogniser.tokenizer.decode([token])


def _readable(utterances: Sequence[Utterance]) -> tuple[list[Utterance], tuple[Skipped, ...]]:
    found, skipped = [], []
    for one in utterances:
        try:
            load_audio(one.audio.path, one.audio.start, one.audio.duration)
            found.append(one)
        except AudioError as error:
            skipped.append(Skipped(f"{one.corpus}/{one.id}", str(error)))
    return found, tuple(skipped)


def _waveforms(utterances: Sequence[Utterance]) -> torch.Tensor:
    loaded = [load_audio(one.audio.path, one.audio.start, one.audio.duration) for one in utterances]
    return torch.stack([torch.from_numpy(pad_or_trim(one)) for one in loaded])


def _now(recogniser: Recogniser) -> float:
    """Seconds, after all that was asked of the device is done."""
    if recogniser.network.device.type == "cuda":
        torch.cuda.synchronize(recogniser.network.device)
    return time.perf_counter()
