"""Our network equals transformers' on the same weights, number for number.

The oracle is `WhisperForConditionalGeneration`, loaded from the directory that `write_huggingface` wrote, so that the
writer and the network are tested together. Both get the same log-mel features, which are tested elsewhere. Logits are
compared along the same forced tokens, greedy tokens without forcing. As a negative control every check must fail for a
network with one wrong weight.

If a network emits two consecutive timestamps although they are suppressed, transformers' `generate` cuts there, decodes
the rest of the window again and joins both outputs. Untrained students do so (that of base here);
`force_unique_generate_call` makes it one pass per window, as in whisperstill.

`bench/parity.py` compares some hundred clips.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import make_checkpoint, make_tokenizer
from torch import Tensor

from whisperstill.audio.mel import log_mel, pad_or_trim
from whisperstill.console import NullConsole
from whisperstill.corpus import load_utterance_waveform, read_corpus
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint, write_huggingface
from whisperstill.model.dims import Dims
from whisperstill.stages import init
from whisperstill.units import WINDOW_SAMPLES

transformers = pytest.importorskip("transformers")

RELATIVE_TOLERANCE = 1e-5
"""Largest difference of a logit or an encoder state in float32, as a fraction of the largest magnitude in the tensor.

A float32 value of that magnitude has a rounding error of 6e-8 of it, and each of some twelve layers sums hundreds of
such products in an order that depends on the processor (AVX2, AVX-512, AMX). transformers' own sdpa and eager attention
differ by 1.3e-6 of base's largest logit; the negative controls below differ by more than 1e-3."""

REAL = {"tiny.en": "tiny_en_dir", "base": "base_installed"}
"""Model -> the fixture that returns its path, or skips."""

pytestmark = pytest.mark.usefixtures("one_thread")  # two threads wait for each other at every small product


class Pair:
    """One checkpoint in both implementations, in float32, and the windows that both decode."""

    def __init__(self, directory: Path, waveforms: Tensor, max_new_tokens: int) -> None:
        """`directory` holds what `write_huggingface` wrote; both read it."""
        self.checkpoint = load_checkpoint(directory)
        self.own = WhisperModel(self.checkpoint, dtype=torch.float32)
        self.directory = directory
        self.features = log_mel(waveforms, self.checkpoint.dims.mels)
        self.waveforms = waveforms
        self.max_new_tokens = max_new_tokens

    @cached_property
    def peer(self) -> Any:
        """transformers' network."""
        kind = transformers.WhisperForConditionalGeneration
        return kind.from_pretrained(self.directory, attn_implementation="sdpa").eval()

    @cached_property
    def states(self) -> Tensor:
        """Encoder states of whisperstill."""
        return self.own.encode(self.waveforms)

    @cached_property
    def peer_tokens(self) -> list[list[int]]:
        """Greedy tokens of transformers with start and end tokens; language and task are those of the directory."""
        rows = self.peer.generate(
            self.features,
            max_new_tokens=self.max_new_tokens,
            num_beams=1,
            do_sample=False,
            force_unique_generate_call=True,
        ).tolist()
        end = self.own.vocabulary.end_of_text
        return [row[: row.index(end) + 1] if end in row else row for row in rows]

    @cached_property
    def peer_states(self) -> Tensor:
        """Encoder states of transformers, of the first window."""
        with torch.inference_mode():
            states: Tensor = self.peer.model.encoder(self.features[:1]).last_hidden_state
        return states

    @cached_property
    def peer_logits(self) -> Tensor:
        """Logits of transformers at every token of its transcript of the first window, start and end included."""
        with torch.inference_mode():
            tokens = torch.tensor(self.peer_tokens[:1])
            logits: Tensor = self.peer(input_features=self.features[:1], decoder_input_ids=tokens).logits[0]
        return logits

    def changed(self, weight: str, by: float) -> WhisperModel:
        """The whisperstill model with `by` added to one weight."""
        state = {**self.checkpoint.state, weight: self.checkpoint.state[weight] + by}
        return WhisperModel(replace(self.checkpoint, state=state), dtype=torch.float32)


Check = Callable[[Pair, WhisperModel], None]


def relative_difference(own: Tensor, peer: Tensor) -> float:
    """The largest difference of two tensors over the largest magnitude in the second one."""
    return float((own - peer).abs().max() / peer.abs().max())


@torch.inference_mode()
def check_states(pair: Pair, own: WhisperModel) -> None:
    """Encoder states of the first window are equal."""
    assert relative_difference(own.encode(pair.waveforms[:1]), pair.peer_states) <= RELATIVE_TOLERANCE


@torch.inference_mode()
def check_logits(pair: Pair, own: WhisperModel) -> None:
    """Logits along the forced transcript of the first window, start and end included, are equal."""
    tokens, decoder = torch.tensor(pair.peer_tokens[:1]), own.network.decoder
    assert tokens.shape[1] > 20
    hidden = decoder(tokens, torch.zeros(1, dtype=torch.long), decoder.prefill(pair.states[:1]))
    logits = decoder.logits(hidden[0])
    assert logits.shape == pair.peer_logits.shape
    assert relative_difference(logits, pair.peer_logits) <= RELATIVE_TOLERANCE


def check_tokens(pair: Pair, own: WhisperModel) -> None:
    """Greedy tokens of every window, start and end included, are equal."""
    start, end = own.vocabulary.sot_sequence("en"), own.vocabulary.end_of_text
    transcripts = own.decode(pair.states, ["en"] * len(pair.states), max_new_tokens=pair.max_new_tokens)
    tokens = [[*start, *transcript.result.tokens, *[end] * transcript.result.ended] for transcript in transcripts]
    assert tokens == pair.peer_tokens


def random_checkpoint() -> Checkpoint:
    """large-v3's mels and vocabulary, narrow and shallow; its logits reach 20.

    The weights are so large that the logits depend on audio and previous tokens; small ones would hide a mistake.
    """
    dims = Dims(
        mels=128, vocab_size=51866, width=64, encoder_heads=2, encoder_layers=2, decoder_heads=4, decoder_layers=3
    )
    checkpoint = make_checkpoint(dims, make_tokenizer(50257, 100))
    strong = {"decoder.embedding.weight": 10, "decoder.positions": 20}
    for name, tensor in checkpoint.state.items():
        if name.endswith("norm.weight"):
            tensor.fill_(1.0)
        elif name in strong:
            tensor *= strong[name]
        elif "layers" in name:
            tensor *= 6 if ".cross." in name else 8
    return checkpoint


@pytest.fixture(scope="module")
def clips(speech: Path) -> Tensor:
    """Three clips of 15 s, padded to windows."""
    utterances = read_corpus(speech / "librispeech-mini-val" / "manifest.jsonl").utterances[:3]
    return torch.stack([torch.from_numpy(pad_or_trim(load_utterance_waveform(utterance))) for utterance in utterances])


@pytest.fixture(scope="module", params=[*REAL, "random"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Each model with real speech, the random one with noise."""
    directory = tmp_path_factory.mktemp("written")
    if request.param in REAL:
        checkpoint = load_checkpoint(request.getfixturevalue(REAL[request.param]))
        waveforms, most = request.getfixturevalue("clips"), 224
    else:
        checkpoint = random_checkpoint()
        waveforms, most = torch.randn(3, WINDOW_SAMPLES, generator=torch.Generator().manual_seed(0)) * 0.1, 40
    return Pair(write_huggingface(in_english(checkpoint), directory), waveforms, most)


def in_english(checkpoint: Checkpoint) -> Checkpoint:
    """With English as the language that is written into a multilingual model's settings."""
    if not checkpoint.dims.multilingual:
        return checkpoint
    return replace(checkpoint, generation_config=replace(checkpoint.generation_config, language="en"))


@pytest.mark.parametrize("check", [check_states, check_logits, check_tokens])
def test_equals_transformers(pair: Pair, check: Check) -> None:
    check(pair, pair.own)


@pytest.mark.parametrize(
    ("check", "weight", "by"),
    [
        (check_states, "encoder.conv1.bias", 0.1),
        (check_logits, "decoder.layers.1.cross.query.bias", 0.1),
        (check_logits, "decoder.norm.bias", 0.1),
        (check_tokens, "decoder.layers.1.cross.query.bias", 2.0),  # a smaller change may leave the tokens equal
    ],
)
def test_control_one_wrong_weight_is_detected(pair: Pair, check: Check, weight: str, by: float) -> None:
    with pytest.raises(AssertionError):
        check(pair, pair.changed(weight, by))


@pytest.mark.parametrize("teacher", REAL)
def test_transformers_opens_a_student(
    teacher: str, request: pytest.FixtureRequest, clips: Tensor, tmp_path: Path
) -> None:
    """transformers gets the directory only. An untrained student seldom ends its text: 40 tokens are enough."""
    name, language = str(request.getfixturevalue(REAL[teacher])), None if teacher.endswith(".en") else "en"
    init.run(init.InitSettings(teacher=name, output=tmp_path, decoder_layers=2, language=language), NullConsole())
    student = Pair(tmp_path, clips[[1, 0]], 40)  # the longer transcript first
    assert student.peer.config.decoder_layers == student.own.dims.decoder_layers == 2
    check_logits(student, student.own)
    check_tokens(student, student.own)
