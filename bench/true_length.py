"""How does encoding only the part of a window that holds sound change WER and encoder time?

Hypothesis: most of the window after a short clip is digital silence; reusing its encoder states instead of computing
them hardly changes the text and saves their share of the encoder's time.
Method: every clip is encoded padded to 30 s and trimmed, interleaved, and both are decoded greedily; WER with the same
normalizer, number of differing texts, and encoder time. The states of silence are computed once per noise level,
within the measured time.
Limit: the share of positions with sound, plus the second of silence after them that is computed too.

    python bench/true_length.py --speech ../shared/speech
"""

import json
import time
from pathlib import Path
from typing import Any

import torch
from harness import argument_parser, set_threads, write_result

from whisperstill.audio.mel import pad_or_trim
from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.corpus import load_utterance_waveform, read_corpus
from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.evaluate.metrics import Scoring, score
from whisperstill.model.checkpoints import load_checkpoint

DATASETS = ("librispeech-mini-test", "librispeech-test-other-100", "ljspeech-ood", "asterisk-en-prompts")
ENCODINGS = ("padded", "trimmed")


def measure_dataset(dataset: str, speech: Path, models: dict[str, WhisperModel], limit: int) -> dict[str, Any]:
    """WER and encoder time of both encodings on one dataset."""
    utterances = read_corpus(speech / dataset / "manifest.jsonl").utterances
    utterances = utterances[:: -(-len(utterances) // limit)]
    texts: dict[str, list[str]] = {encoding: [] for encoding in ENCODINGS}
    seconds = dict.fromkeys(ENCODINGS, 0.0)
    for turn, utterance in enumerate(utterances):
        window = torch.from_numpy(pad_or_trim(load_utterance_waveform(utterance)))[None]
        for encoding in ENCODINGS if turn % 2 else ENCODINGS[::-1]:
            start_time = time.perf_counter()
            states = models[encoding].encode(window)
            seconds[encoding] += time.perf_counter() - start_time
            texts[encoding].append(models[encoding].decode(states, ["en"])[0].text)
    references = [utterance.text or "" for utterance in utterances]
    scores = {encoding: score(references, texts[encoding], Scoring("english")) for encoding in ENCODINGS}
    duration = sum(utterance.audio.duration for utterance in utterances) / len(utterances)
    return {
        "dataset": dataset,
        "clips": len(utterances),
        "mean_seconds": round(duration, 1),
        "wer": {encoding: round(result.wer, 2) for encoding, result in scores.items()},
        "texts_that_differ": sum(padded != trimmed for padded, trimmed in zip(*texts.values(), strict=True)),
        "encoder_speed": round(seconds["padded"] / seconds["trimmed"], 2),
    }


def main() -> None:
    parser = argument_parser(__doc__, "true-length.json")
    parser.add_argument("--speech", type=Path, required=True, help="directory of the datasets")
    parser.add_argument("--model", default="base")
    parser.add_argument("--limit", type=int, default=120, help="clips per dataset")
    options = parser.parse_args()
    set_threads(options.threads)
    checkpoint = load_checkpoint(options.model)
    models = {encoding: WhisperModel(checkpoint, trim_padding=encoding == "trimmed") for encoding in ENCODINGS}
    for model in models.values():  # warm-up
        model.encode(torch.from_numpy(pad_or_trim(torch.randn(32_000).numpy()))[None])
    result: dict[str, Any] = {"model": options.model, "dtype": str(models["padded"].network.dtype), "rows": []}
    for dataset in DATASETS:
        result["rows"].append(measure_dataset(dataset, options.speech, models, options.limit))
        print(json.dumps(result["rows"][-1]), flush=True)
        write_result(options.output, "cost of encoding only the part of a window that holds sound", result)


if __name__ == "__main__":
    restart_with_allocator()
    main()
