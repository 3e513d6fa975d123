"""Does our network say what transformers and CTranslate2 say, token for token?

Hypothesis: in float32 all three compute the same function, so that greedy tokens are identical, and logits differ from
transformers' by no more than transformers' two ways of attention (sdpa, eager) differ from each other.
Method: every clip of three sets is one window; all engines get the same log-mel features, start tokens (language and
task given, no timestamps), suppressed tokens and limit of 224 tokens. transformers loads the directory that
`write_huggingface` wrote and generates greedily in batches, one pass a window (`force_unique_generate_call`; without
it `generate` gives the same for every window without timestamps, and how many have any is counted).
CTranslate2 is `ctranslate2.models.Whisper.generate` with beam_size=1 on the directory the weights came in, computing in
float32; it is what faster-whisper calls, without faster-whisper's own features and fallbacks. A clip that differs is
run once more alone, and the margin is how far apart our logits of the two tokens lie where the outputs part: a near
tie says that rounding chose, a wide one that somebody errs. An output that its engine cut off at the limit counts up
to its end. Logits are compared where all are forced along the same tokens: our transcript of a clip, start and end
included; random ones for a random network of large-v3's width, mels and vocabulary with two layers a side.
Limit: none; the count should be that of the clips. It takes about 40 minutes on one thread, most of it the encoders.

    python bench/parity.py --speech ../shared/speech
"""

import argparse
import json
import logging
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from whisperstill.audio.mel import log_mel, pad_or_trim
from whisperstill.corpus import load_utterance_waveform, read_corpus
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint, resolve_checkpoint, write_huggingface
from whisperstill.model.checkpoints.ctranslate2 import find_model_files
from whisperstill.model.dims import Dims
from whisperstill.records import Utterance
from whisperstill.units import MAX_NEW_TOKENS

ENGLISH = ("librispeech-mini-val", "asterisk-en-prompts")
SETS = {"tiny.en": ENGLISH, "base": (ENGLISH[0], "german-kerstin", ENGLISH[1])}
Greedy = Callable[[Tensor, str], list[list[int]]]
"""Windows and their language -> the tokens of each, without start and end."""


def window_of(utterance: Utterance) -> Tensor:
    """One clip, cut or padded to 30 s."""
    return torch.from_numpy(pad_or_trim(load_utterance_waveform(utterance)))


def ours(recogniser: WhisperModel) -> Greedy:
    """Tokens of whisperstill."""

    def tokens(waveforms: Tensor, language: str) -> list[list[int]]:
        heard = recogniser.decode(recogniser.encode(waveforms), [language] * len(waveforms))
        return [list(one.result.tokens) for one in heard]

    return tokens


def of_transformers(peer: Any, recogniser: WhisperModel) -> Greedy:
    """Tokens of transformers' `generate`."""
    vocabulary = recogniser.vocabulary

    @torch.inference_mode()
    def tokens(waveforms: Tensor, language: str) -> list[list[int]]:
        features = log_mel(waveforms, recogniser.dims.mels)
        said = {"language": language, "task": "transcribe"} if vocabulary.multilingual else {}
        limits = {"max_new_tokens": MAX_NEW_TOKENS, "num_beams": 1, "do_sample": False}
        rows = peer.generate(features, force_unique_generate_call=True, **limits, **said).tolist()
        start, end = list(vocabulary.sot_sequence(language)), vocabulary.end_of_text
        assert all(row[: len(start)] == start for row in rows)
        rows = [row[len(start) :] for row in rows]
        return [row[: row.index(end)] if end in row else row for row in rows]

    return tokens


def of_ctranslate2(peer: Any, recogniser: WhisperModel) -> Greedy:
    """Tokens of CTranslate2; its `max_length` counts twice what may follow the start tokens."""
    import ctranslate2

    def tokens(waveforms: Tensor, language: str) -> list[list[int]]:
        features = ctranslate2.StorageView.from_array(log_mel(waveforms, recogniser.dims.mels).numpy())
        start = [list(recogniser.vocabulary.sot_sequence(language))] * len(waveforms)
        rules = {"suppress_blank": True, "suppress_tokens": [-1], "max_length": 2 * MAX_NEW_TOKENS}
        return [found.sequences_ids[0] for found in peer.generate(features, start, beam_size=1, **rules)]

    return tokens


def first_difference(left: list[int], right: list[int]) -> int | None:
    """Where two outputs part; None where they do not, or where one was cut off at the limit and agreed so far."""
    shared = min(len(left), len(right))
    for at in range(shared):
        if left[at] != right[at]:
            return at
    return None if len(left) == len(right) or shared >= MAX_NEW_TOKENS else shared


@torch.inference_mode()
def forced_logits(recogniser: WhisperModel, states: Tensor, tokens: list[int]) -> Tensor:
    """Our logits at each of the tokens."""
    decoder, row = recogniser.network.decoder, torch.tensor([tokens])
    hidden = decoder(row, torch.zeros(1, dtype=torch.long), decoder.teacher_forced(states))
    return decoder.logits(hidden[0])


def difference(
    recogniser: WhisperModel, utterance: Utterance, language: str, mine: list[int], other: list[int], alone: list[int]
) -> dict[str, Any]:
    """What is to be known about a clip whose outputs part."""
    at = first_difference(mine, other)
    assert at is not None
    end = recogniser.vocabulary.end_of_text
    tokens = [(*sequence, end)[at] for sequence in (mine, other)]
    states = recogniser.encode(window_of(utterance)[None])
    logits = forced_logits(recogniser, states, [*recogniser.vocabulary.sot_sequence(language), *mine[:at]])[-1]
    return {
        "id": utterance.id,
        "position": at,
        "tokens": tokens,
        "margin": float(logits[tokens[0]] - logits[tokens[1]]),
        "ours": recogniser.tokenizer.decode(mine[at:]),
        "theirs": recogniser.tokenizer.decode(other[at:]),
        "lengths": [len(mine), len(other)],
        "same_when_alone": first_difference(mine, alone) is None,
    }


def compare_tokens(
    recogniser: WhisperModel, others: dict[str, Greedy], utterances: list[Utterance], batch_size: int
) -> dict[str, Any]:
    """Counts and differences of one set."""
    differences: dict[str, list[dict[str, Any]]] = {name: [] for name in others}
    said, capped, timed = 0, 0, 0
    mine = ours(recogniser)
    for at in range(0, len(utterances), batch_size):
        batch = utterances[at : at + batch_size]
        waveforms, language = torch.stack([window_of(one) for one in batch]), batch[0].language or "en"
        outputs = {}
        for name, engine in {"ours": mine, **others}.items():
            outputs[name] = engine(waveforms, language)
        said += sum(len(tokens) for tokens in outputs["ours"])
        capped += sum(len(tokens) >= MAX_NEW_TOKENS for tokens in outputs["ours"])
        timed += sum(any(map(recogniser.vocabulary.is_timestamp, tokens)) for tokens in outputs["ours"])
        for name, engine in others.items():
            for row, (left, right) in enumerate(zip(outputs["ours"], outputs[name], strict=True)):
                if first_difference(left, right) is not None:
                    alone = engine(waveforms[row : row + 1], language)[0]
                    differences[name].append(difference(recogniser, batch[row], language, left, right, alone))
    return {
        "clips": len(utterances),
        "tokens": said,
        "cut_off_at_the_limit": capped,
        "with_timestamps": timed,
        "identical": {name: len(utterances) - len(found) for name, found in differences.items()},
        "differences": differences,
    }


@torch.inference_mode()
def compare_logits(
    recogniser: WhisperModel, directory: Path, windows: list[Tensor], forced: Callable[[Tensor], list[int]]
) -> dict[str, Any]:
    """Largest differences of states and logits; `forced` gives the tokens for a window's states."""
    peers = {kind: load_transformers(directory, kind) for kind in ("sdpa", "eager")}
    largest = dict.fromkeys(("logit", "states", "sdpa", "eager", "sdpa to eager"), 0.0)
    count, same_choice = 0, 0

    def note(name: str, value: Tensor) -> None:
        largest[name] = max(largest[name], float(value.abs().max()))

    for window in windows:
        features = log_mel(window[None], recogniser.dims.mels)
        states = recogniser.encode(window[None])
        tokens = forced(states)
        logits = forced_logits(recogniser, states, tokens)
        theirs = {}
        for kind, peer in peers.items():
            output = peer(input_features=features, decoder_input_ids=torch.tensor([tokens]))
            theirs[kind] = output.logits[0]
            note(kind, logits - theirs[kind])
            if kind == "sdpa":
                note("states", states - output.encoder_last_hidden_state)
        note("logit", logits)
        note("sdpa to eager", theirs["sdpa"] - theirs["eager"])
        count += len(tokens)
        same_choice += int((logits.argmax(-1) == theirs["sdpa"].argmax(-1)).sum())
    return {
        "clips": len(windows),
        "tokens": count,
        "same_most_probable_token": same_choice,
        "largest_logit": largest["logit"],
        "states_to_sdpa": largest["states"],
        "logits_to_sdpa": largest["sdpa"],
        "logits_to_eager": largest["eager"],
        "sdpa_to_eager": largest["sdpa to eager"],
    }


def load_transformers(directory: Path, attention: str = "sdpa") -> Any:
    """transformers' network in float32."""
    from transformers import WhisperForConditionalGeneration

    return WhisperForConditionalGeneration.from_pretrained(directory, attn_implementation=attention).eval()


def load_ctranslate2(name: str, directory: Path, threads: int) -> Any:
    """The weights as they came, put together where they lie in parts, computed in float32."""
    import ctranslate2

    directory.mkdir()
    paths = resolve_checkpoint(name).paths
    with (directory / "model.bin").open("wb") as whole:
        for part in find_model_files(paths):
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, whole)
    for path in paths:
        for file in path.iterdir():
            if file.suffix in (".json", ".txt"):
                shutil.copy(file, directory)
    return ctranslate2.models.Whisper(str(directory), compute_type="float32", inter_threads=1, intra_threads=threads)


def random_checkpoint() -> Checkpoint:
    """large-v3's width, heads, mels and vocabulary with two layers a side; weights that make logits of some size."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    from small_models import make_checkpoint, make_tokenizer

    sizes = {"mels": 128, "vocab_size": 51866, "width": 1280, "encoder_heads": 20, "decoder_heads": 20}
    checkpoint = make_checkpoint(Dims(**sizes, encoder_layers=2, decoder_layers=2), make_tokenizer(50257, 100))
    for name, tensor in checkpoint.state.items():
        if name.endswith("norm.weight"):
            tensor.fill_(1.0)
        elif name in ("decoder.embedding.weight", "decoder.positions"):
            tensor *= 4
    return checkpoint


def measure(name: str, speech: Path, clips: int | None, batch_size: int, threads: int) -> Iterator[tuple[str, Any]]:
    """One trained model: (what was compared, result), each as soon as it is there."""
    checkpoint = load_checkpoint(name)
    recogniser = WhisperModel(checkpoint, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        written = write_huggingface(checkpoint, Path(folder) / "huggingface")
        listed = {kind: read_corpus(speech / kind / "manifest.jsonl").utterances[:clips] for kind in SETS[name]}

        def transcript(states: Tensor) -> list[int]:
            said = recogniser.decode(states, ["en"])[0].result
            return [*recogniser.vocabulary.sot_sequence("en"), *said.tokens, recogniser.vocabulary.end_of_text]

        windows = [window_of(one) for one in listed[ENGLISH[0]][:10]]
        yield "logits", compare_logits(recogniser, written, windows, transcript)
        others = {
            "transformers": of_transformers(load_transformers(written), recogniser),
            "CTranslate2": of_ctranslate2(load_ctranslate2(name, Path(folder) / "ctranslate2", threads), recogniser),
        }
        for kind, utterances in listed.items():
            yield kind, compare_tokens(recogniser, others, list(utterances), batch_size)


def measure_random(speech: Path, clips: int) -> dict[str, Any]:
    """Logits of the random network along 50 random text tokens a clip."""
    checkpoint = random_checkpoint()
    recogniser = WhisperModel(checkpoint, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)

    def text(_: Tensor) -> list[int]:
        tokens = torch.randint(recogniser.vocabulary.end_of_text, (50,), generator=generator)
        return [*recogniser.vocabulary.sot_sequence("en"), *tokens.tolist()]

    utterances = read_corpus(speech / ENGLISH[0] / "manifest.jsonl").utterances[:clips]
    with tempfile.TemporaryDirectory() as folder:
        written = write_huggingface(checkpoint, Path(folder) / "huggingface")
        return compare_logits(recogniser, written, [window_of(one) for one in utterances], text)


def tables(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| model | speech | clips | tokens | same as transformers | same as CTranslate2 |", "| --- " * 6 + "|"]
    for model, sets in result["tokens"].items():
        for kind, found in sets.items():
            same = found["identical"]
            cells = (model, kind, found["clips"], found["tokens"], same["transformers"], same["CTranslate2"])
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "| model | forced tokens | largest logit | max Δ state | max Δ logit | Δ to eager | sdpa to eager |"]
    lines.append("| --- " * 7 + "|")
    for model, found in result["logits"].items():
        keys = ("largest_logit", "states_to_sdpa", "logits_to_sdpa", "logits_to_eager", "sdpa_to_eager")
        lines.append(f"| {model} | {found['tokens']} | " + " | ".join(f"{found[key]:.2g}" for key in keys) + " |")
    parted = [
        f"* {model}, {kind}, {one['id']}, {engine}: at token {one['position']} ours {one['ours']!r}, theirs "
        f"{one['theirs']!r}; margin {one['margin']:.2g}; {'same' if one['same_when_alone'] else 'differs'} when alone"
        for model, sets in result["tokens"].items()
        for kind, found in sets.items()
        for engine, several in found["differences"].items()
        for one in several
    ]
    return "\n".join([*lines, "", *(parted or ["No clip differs."])])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True, help="folder of the sets, each with a manifest.jsonl")
    parser.add_argument("--models", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--clips", type=int, help="only so many of each set, for a quick look")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("bench/results/parity.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    import transformers

    logging.getLogger("transformers").setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()

    begun = time.perf_counter()
    result: dict[str, Any] = {
        "question": "parity with transformers and CTranslate2",
        "dtype": "float32",
        "max_new_tokens": MAX_NEW_TOKENS,
        "batch_size": options.batch_size,
        "threads": options.threads,
        "machine": platform.machine(),
        "versions": {name: version(name) for name in ("torch", "transformers", "ctranslate2")},
        "logits": {},
        "tokens": {},
    }
    result["logits"]["random, large-v3's width"] = measure_random(options.speech, min(10, options.clips or 10))
    for name in options.models:
        for what, found in measure(name, options.speech, options.clips, options.batch_size, options.threads):
            if what == "logits":
                result["logits"][name] = found
            else:
                result["tokens"].setdefault(name, {})[what] = found
            print(f"{time.perf_counter() - begun:7.0f} s  {name}, {what}: {json.dumps(found)}", file=sys.stderr)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(tables(result))


if __name__ == "__main__":
    main()
