"""Does our network give the same tokens as transformers and CTranslate2?

Hypothesis: in float32 all three compute the same function: greedy tokens are identical, and logits differ from
transformers' by no more than its two attention implementations (sdpa, eager) differ from each other.
Method: every clip of three datasets is one window; all libraries get the same log-mel features, prompt tokens (language
and task, no timestamps), suppressed tokens and limit of 224 tokens. transformers loads the output of
`write_huggingface` and generates greedily in batches, one pass per window (`force_unique_generate_call`; without it
`generate` differs only for windows with timestamps; these are counted). CTranslate2 is
`ctranslate2.models.Whisper.generate` with beam_size=1 in float32 on the published weights, which is what faster-whisper
calls. A clip with different tokens is decoded again at batch size 1. The margin is the difference of our logits of the
two tokens at which the outputs diverge: a small margin is caused by rounding, a large one by an error. An output at the
token limit is compared up to its end. Logits are compared along the same forced tokens: our transcript of a clip, or
random tokens for a random network of large-v3's width, mels and vocabulary with two encoder and two decoder layers.
Limit: all clips identical. It takes about 40 minutes on one thread, most of it in the encoders.

    python bench/parity.py --speech ../shared/speech
"""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from harness import argument_parser, set_threads, silence_transformers, write_result
from torch import Tensor

from whisperstill.audio.mel import log_mel, pad_or_trim
from whisperstill.corpus import load_utterance_waveform, read_corpus
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint, resolve_checkpoint, write_huggingface
from whisperstill.model.checkpoints.ctranslate2 import find_model_files
from whisperstill.model.dims import Dims
from whisperstill.records import Utterance
from whisperstill.text.markdown import markdown_table
from whisperstill.units import MAX_NEW_TOKENS

ENGLISH = ("librispeech-mini-val", "asterisk-en-prompts")
DATASETS = {"tiny.en": ENGLISH, "base": (ENGLISH[0], "german-kerstin", ENGLISH[1])}
GreedyDecode = Callable[[Tensor, str], list[list[int]]]
"""(windows, language) -> tokens of each window, without prompt and end."""


def load_window(utterance: Utterance) -> Tensor:
    """A clip, cut or padded to 30 s."""
    return torch.from_numpy(pad_or_trim(load_utterance_waveform(utterance)))


def our_decode(model: WhisperModel) -> GreedyDecode:
    """Greedy decoding of whisperstill."""

    def tokens(waveforms: Tensor, language: str) -> list[list[int]]:
        transcripts = model.decode(model.encode(waveforms), [language] * len(waveforms))
        return [list(transcript.result.tokens) for transcript in transcripts]

    return tokens


def transformers(peer: Any, model: WhisperModel) -> GreedyDecode:
    """Greedy decoding of transformers' `generate`."""
    vocabulary = model.vocabulary

    @torch.inference_mode()
    def tokens(waveforms: Tensor, language: str) -> list[list[int]]:
        features = log_mel(waveforms, model.dims.mels)
        prompt = {"language": language, "task": "transcribe"} if vocabulary.multilingual else {}
        limits = {"max_new_tokens": MAX_NEW_TOKENS, "num_beams": 1, "do_sample": False}
        rows = peer.generate(features, force_unique_generate_call=True, **limits, **prompt).tolist()
        start, end = list(vocabulary.sot_sequence(language)), vocabulary.end_of_text
        assert all(row[: len(start)] == start for row in rows)
        rows = [row[len(start) :] for row in rows]
        return [row[: row.index(end)] if end in row else row for row in rows]

    return tokens


def ctranslate2_whisper(peer: Any, model: WhisperModel) -> GreedyDecode:
    """Greedy decoding of CTranslate2; its `max_length` is twice the limit of new tokens."""
    import ctranslate2

    def tokens(waveforms: Tensor, language: str) -> list[list[int]]:
        features = ctranslate2.StorageView.from_array(log_mel(waveforms, model.dims.mels).numpy())
        start = [list(model.vocabulary.sot_sequence(language))] * len(waveforms)
        options = {"suppress_blank": True, "suppress_tokens": [-1], "max_length": 2 * MAX_NEW_TOKENS}
        return [result.sequences_ids[0] for result in peer.generate(features, start, beam_size=1, **options)]

    return tokens


def first_difference(left: list[int], right: list[int]) -> int | None:
    """Position of the first differing token; None if there is none, or if one output reached the limit before it."""
    shared = min(len(left), len(right))
    for position in range(shared):
        if left[position] != right[position]:
            return position
    return None if len(left) == len(right) or shared >= MAX_NEW_TOKENS else shared


@torch.inference_mode()
def forced_logits(model: WhisperModel, states: Tensor, tokens: list[int]) -> Tensor:
    """Our logits after each of the tokens."""
    decoder, row = model.network.decoder, torch.tensor([tokens])
    hidden = decoder(row, torch.zeros(1, dtype=torch.long), decoder.prefill(states))
    return decoder.logits(hidden[0])


def difference(
    model: WhisperModel,
    utterance: Utterance,
    language: str,
    tokens: list[int],
    peer_tokens: list[int],
    alone: list[int],
) -> dict[str, Any]:
    """Details of a clip with different tokens; `alone` are the peer's tokens at batch size 1."""
    position = first_difference(tokens, peer_tokens)
    assert position is not None
    end = model.vocabulary.end_of_text
    differing = [(*sequence, end)[position] for sequence in (tokens, peer_tokens)]
    states = model.encode(load_window(utterance)[None])
    logits = forced_logits(model, states, [*model.vocabulary.sot_sequence(language), *tokens[:position]])[-1]
    return {
        "id": utterance.id,
        "position": position,
        "tokens": differing,
        "margin": float(logits[differing[0]] - logits[differing[1]]),
        "ours": model.tokenizer.decode(tokens[position:]),
        "peer": model.tokenizer.decode(peer_tokens[position:]),
        "lengths": [len(tokens), len(peer_tokens)],
        "same_when_alone": first_difference(tokens, alone) is None,
    }


def compare_tokens(
    model: WhisperModel, others: dict[str, GreedyDecode], utterances: list[Utterance], batch_size: int
) -> dict[str, Any]:
    """Counts and differences of one dataset."""
    differences: dict[str, list[dict[str, Any]]] = {name: [] for name in others}
    num_tokens, num_capped, num_timestamped = 0, 0, 0
    our_greedy = our_decode(model)
    for start in range(0, len(utterances), batch_size):
        batch = utterances[start : start + batch_size]
        waveforms, language = torch.stack([load_window(utterance) for utterance in batch]), batch[0].language or "en"
        outputs = {}
        for name, engine in {"ours": our_greedy, **others}.items():
            outputs[name] = engine(waveforms, language)
        num_tokens += sum(len(tokens) for tokens in outputs["ours"])
        num_capped += sum(len(tokens) >= MAX_NEW_TOKENS for tokens in outputs["ours"])
        num_timestamped += sum(any(map(model.vocabulary.is_timestamp, tokens)) for tokens in outputs["ours"])
        for name, engine in others.items():
            for row, (left, right) in enumerate(zip(outputs["ours"], outputs[name], strict=True)):
                if first_difference(left, right) is not None:
                    alone = engine(waveforms[row : row + 1], language)[0]
                    differences[name].append(difference(model, batch[row], language, left, right, alone))
    return {
        "clips": len(utterances),
        "tokens": num_tokens,
        "cut_off_at_the_limit": num_capped,
        "with_timestamps": num_timestamped,
        "identical": {name: len(utterances) - len(clips) for name, clips in differences.items()},
        "differences": differences,
    }


@torch.inference_mode()
def compare_logits(
    model: WhisperModel, directory: Path, windows: list[Tensor], forced: Callable[[Tensor], list[int]]
) -> dict[str, Any]:
    """Largest differences of encoder states and logits; `forced` maps encoder states to the forced tokens."""
    peers = {kind: load_transformers(directory, kind) for kind in ("sdpa", "eager")}
    largest = dict.fromkeys(("logit", "states", "sdpa", "eager", "sdpa to eager"), 0.0)
    count, same_choice = 0, 0

    def update_largest(name: str, value: Tensor) -> None:
        largest[name] = max(largest[name], float(value.abs().max()))

    for window in windows:
        features = log_mel(window[None], model.dims.mels)
        states = model.encode(window[None])
        tokens = forced(states)
        logits = forced_logits(model, states, tokens)
        peer_logits = {}
        for kind, peer in peers.items():
            output = peer(input_features=features, decoder_input_ids=torch.tensor([tokens]))
            peer_logits[kind] = output.logits[0]
            update_largest(kind, logits - peer_logits[kind])
            if kind == "sdpa":
                update_largest("states", states - output.encoder_last_hidden_state)
        update_largest("logit", logits)
        update_largest("sdpa to eager", peer_logits["sdpa"] - peer_logits["eager"])
        count += len(tokens)
        same_choice += int((logits.argmax(-1) == peer_logits["sdpa"].argmax(-1)).sum())
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
    """transformers' model in float32."""
    from transformers import WhisperForConditionalGeneration

    network: Any = WhisperForConditionalGeneration.from_pretrained(directory, attn_implementation=attention)
    return network.eval()


def load_ctranslate2(name: str, directory: Path, threads: int) -> Any:
    """The published weights in CTranslate2, in float32; parts of model.bin are joined."""
    import ctranslate2

    directory.mkdir()
    paths = resolve_checkpoint(name).paths
    with (directory / "model.bin").open("wb") as model_file:
        for part in find_model_files(paths):
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, model_file)
    for path in paths:
        for file in path.iterdir():
            if file.suffix in (".json", ".txt"):
                shutil.copy(file, directory)
    return ctranslate2.models.Whisper(str(directory), compute_type="float32", inter_threads=1, intra_threads=threads)


def random_checkpoint() -> Checkpoint:
    """Random weights with large-v3's width, heads, mels and vocabulary, and two layers in encoder and decoder."""
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
    """Compare one trained model; yields (`logits` or dataset, result)."""
    checkpoint = load_checkpoint(name)
    model = WhisperModel(checkpoint, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        written = write_huggingface(checkpoint, Path(folder) / "huggingface")
        utterances_by_dataset = {
            kind: read_corpus(speech / kind / "manifest.jsonl").utterances[:clips] for kind in DATASETS[name]
        }

        def transcript(states: Tensor) -> list[int]:
            result = model.decode(states, ["en"])[0].result
            return [*model.vocabulary.sot_sequence("en"), *result.tokens, model.vocabulary.end_of_text]

        windows = [load_window(utterance) for utterance in utterances_by_dataset[ENGLISH[0]][:10]]
        yield "logits", compare_logits(model, written, windows, transcript)
        others = {
            "transformers": transformers(load_transformers(written), model),
            "CTranslate2": ctranslate2_whisper(load_ctranslate2(name, Path(folder) / "ctranslate2", threads), model),
        }
        for kind, utterances in utterances_by_dataset.items():
            yield kind, compare_tokens(model, others, list(utterances), batch_size)


def measure_random(speech: Path, clips: int) -> dict[str, Any]:
    """Logits of the random network along 50 random text tokens per clip."""
    checkpoint = random_checkpoint()
    model = WhisperModel(checkpoint, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)

    def text(_: Tensor) -> list[int]:
        tokens = torch.randint(model.vocabulary.end_of_text, (50,), generator=generator)
        return [*model.vocabulary.sot_sequence("en"), *tokens.tolist()]

    utterances = read_corpus(speech / ENGLISH[0] / "manifest.jsonl").utterances[:clips]
    with tempfile.TemporaryDirectory() as folder:
        written = write_huggingface(checkpoint, Path(folder) / "huggingface")
        return compare_logits(model, written, [load_window(utterance) for utterance in utterances], text)


def render(result: dict[str, Any]) -> str:
    """The tables of docs/results/parity.md."""
    token_rows, differences = [], []
    for model, datasets in result["tokens"].items():
        for dataset, counts in datasets.items():
            identical = counts["identical"]
            cells = (counts["clips"], counts["tokens"], identical["transformers"], identical["CTranslate2"])
            token_rows.append([model, dataset, *map(str, cells)])
            for library, clips in counts["differences"].items():
                for clip in clips:
                    alone = "same" if clip["same_when_alone"] else "differs"
                    differences.append(
                        f"* {model}, {dataset}, {clip['id']}, {library}: at token {clip['position']} ours "
                        f"{clip['ours']!r}, {library} {clip['peer']!r}; margin {clip['margin']:.2g}; "
                        f"{alone} at batch size 1"
                    )
    keys = ("largest_logit", "states_to_sdpa", "logits_to_sdpa", "logits_to_eager", "sdpa_to_eager")
    logit_rows = [
        [model, str(figures["tokens"]), *(f"{figures[key]:.2g}" for key in keys)]
        for model, figures in result["logits"].items()
    ]
    peer_columns = ("clips identical to transformers", "clips identical to CTranslate2")
    token_columns = ("model", "dataset", "clips", "tokens", *peer_columns)
    logit_columns = ("model", "forced tokens", "largest logit", "max Δ state, ours − sdpa", "max Δ logit, ours − sdpa")
    eager_columns = ("max Δ logit, ours − eager", "max Δ logit, sdpa − eager")
    tables = [
        markdown_table(token_columns, token_rows, text_columns=(0, 1)),
        markdown_table((*logit_columns, *eager_columns), logit_rows),
    ]
    return "\n\n".join([*tables, "\n".join(differences) or "All clips have identical tokens."])


def main() -> None:
    parser = argument_parser(__doc__, "parity.json")
    parser.set_defaults(threads=1)
    parser.add_argument(
        "--speech", type=Path, required=True, help="directory of the datasets, each with a manifest.jsonl"
    )
    parser.add_argument("--models", nargs="+", choices=list(DATASETS), default=list(DATASETS))
    parser.add_argument("--clips", type=int, help="clips per dataset; default: all")
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    set_threads(options.threads)

    silence_transformers()

    start_time = time.perf_counter()
    result: dict[str, Any] = {
        "dtype": "float32",
        "max_new_tokens": MAX_NEW_TOKENS,
        "batch_size": options.batch_size,
        "logits": {},
        "tokens": {},
    }
    result["logits"]["random, large-v3's width"] = measure_random(options.speech, min(10, options.clips or 10))
    for name in options.models:
        for subject, comparison in measure(name, options.speech, options.clips, options.batch_size, options.threads):
            if subject == "logits":
                result["logits"][name] = comparison
            else:
                result["tokens"].setdefault(name, {})[subject] = comparison
            print(
                f"{time.perf_counter() - start_time:7.0f} s  {name}, {subject}: {json.dumps(comparison)}",
                file=sys.stderr,
            )
    write_result(options.output, "parity with transformers and CTranslate2", result)
    print(render(result))


if __name__ == "__main__":
    main()
