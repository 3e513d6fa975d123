"""Do two commits compute the same labels, weights and transcripts, and equally fast?

Method: the command line of a checkout labels 40 clips with tiny.en, trains a 2-layer student for 30 steps, and
transcribes 20 clips (greedy, then with the student as draft model) and long recordings (chunked and sequentially), all
in float32 with word timestamps. Every array, token and text is hashed without its key or file name, so that a commit
that only renames gives the same file. Options whose names differ between commits are looked up in `--help`.
Limit: equal hashes need the same machine and libraries, and one thread, with which every sum has a fixed order. Draft
lengths depend on measured times and change the rounding of probabilities. Therefore one speculative run has fixed draft
lengths, and only text and tokens of the other are hashed. `--against` runs two checkouts in turn (A B, B A, ...),
compares their hashes and gives for each verb the ratio of the median seconds, and the largest ratio of two runs of one
checkout.

    python bench/same_behaviour.py --root . --output after.json
    python bench/same_behaviour.py --compare before.json after.json
    python bench/same_behaviour.py --root . --against ../before --output bench/results/same-behaviour.json
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from harness import write_result
from safetensors import safe_open

NAMES = {
    "store states": ("--encoder-states", "--states"),
    "float32": ("float32", "fp32"),
    "max grad norm": ("--max-grad-norm", "--clip"),
    "log every": ("--logging-steps", "--log-every"),
    "chunked": ("--long_form", "--longform", "--long_form_strategy", "--strategy"),
    "deterministic": ("--deterministic", "--mode"),
    "filter": ("--no_hallucination_filter", "--no_guards"),
    "epochs": ("--num-train-epochs", "--epochs"),
    "teacher targets": ("--teacher-targets", "--targets"),
}
"""Option -> its spellings in this and earlier commits, newest first."""
SEGMENT_KEYS = ("start", "end", "text", "tokens", "avg_logprob", "compression_ratio", "no_speech_prob", "temperature")


class Checkout:
    """The command line of one checkout."""

    def __init__(self, root: Path) -> None:
        """`root` holds `src/whisperstill`."""
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(root / "src"),
            "WHISPERSTILL_NO_REEXEC": "1",
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        self._help: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        """Wall time of each verb, with the start of its processes."""

    def run(self, *arguments: object) -> str:
        """Standard output of one call. Exits with its output if it fails."""
        command = [sys.executable, "-m", "whisperstill", *map(str, arguments)]
        start_time = time.perf_counter()
        process = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}\n{process.stdout}\n{process.stderr}")
        if "--help" not in arguments:
            verb = str(arguments[0])
            self.seconds[verb] = self.seconds.get(verb, 0.0) + time.perf_counter() - start_time
        return process.stdout

    def name(self, verb: str, meaning: str) -> str:
        """Spelling of an option or value of `verb` in this checkout."""
        text = self._help.setdefault(verb, self.run(verb, "--help"))
        for spelling in NAMES[meaning]:
            if spelling in text:
                return spelling
        raise SystemExit(f"{verb}: none of {', '.join(NAMES[meaning])} is in its help")


def digest(values: object) -> str:
    """A short hash of JSON values; every bit of a float counts."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def leaves(column: pa.Array) -> Iterator[list[Any]]:
    """The columns inside a column: structs field by field, lists flattened with their lengths."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_struct(column.type):
        for index in range(column.type.num_fields):
            yield from leaves(column.field(index))
    elif pa.types.is_list(column.type):
        yield [len(row) if row.is_valid else None for row in column]
        yield from leaves(column.flatten())
    else:
        yield column.to_pylist()


def hash_tables(directory: Path) -> list[str]:
    """Hashes of all columns of all Parquet files, without their names; columns of paths are left out."""
    hashes = []
    for path in directory.rglob("*.parquet"):
        for column in pq.read_table(path).columns:
            for values in leaves(column):
                if not any(isinstance(value, str) and "/" in value for value in values):
                    hashes.append(digest(values))
    return sorted(hashes)


def hash_tensors(directory: Path) -> list[str]:
    """Hashes of all tensors of all safetensors files, without their names."""
    hashes = []
    for path in directory.rglob("*.safetensors"):
        with safe_open(path, "np") as file:
            for key in file.keys():  # noqa: SIM118 (not a mapping)
                value = np.ascontiguousarray(file.get_tensor(key))
                hashes.append(hashlib.sha256(str(value.shape).encode() + value.tobytes()).hexdigest()[:16])
    return sorted(hashes)


def hash_transcripts(directory: Path, text_only: bool = False) -> dict[str, str]:
    """File -> hash of its text, segments and words, under openai/whisper's keys; `text_only`: of text and tokens."""
    results = {}
    for path in sorted(directory.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        segments = [
            [segment[key] for key in SEGMENT_KEYS]
            + [[word[key] for key in ("start", "end", "word", "probability")] for word in segment.get("words") or ()]
            for segment in content["segments"]
        ]
        tokens = [segment["tokens"] for segment in content["segments"]]
        results[path.stem] = digest([content["text"], content["language"], tokens if text_only else segments])
    return results


def read_manifest(speech: Path, corpus: str, count: int) -> list[dict[str, Any]]:
    """The first entries of a manifest, with full paths."""
    folder = speech / corpus
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    return [{**line, "audio": str(folder / line["audio"])} for line in map(json.loads, lines)]


def record(checkout: Checkout, speech: Path, work: Path) -> dict[str, Any]:
    """All hashes of one checkout."""
    clips = read_manifest(speech, "librispeech-mini-val", 40)
    manifest = work / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in clips), encoding="utf-8")
    labels, filtered, start, student = (work / name for name in ("labels", "filtered", "init", "student"))

    # 1. Labels: tokens, texts, statistics, top-k logits, encoder states and hidden states.
    states_option = (checkout.name("label", "store states"), checkout.name("label", "float32"))
    dtype = ("--dtype", checkout.name("label", "float32"))
    label_options = ("--teacher", "tiny.en", "--manifest", manifest, "--batch-size", 8, "--shard-windows", 8)
    checkout.run("label", *label_options, *states_option, *dtype, "--output", labels)
    checkout.run("filter", "--labels", labels, "--max-wer", 20, "--output", filtered)
    hashes: dict[str, Any] = {
        "labels": {"tables": hash_tables(labels), "tensors": hash_tensors(labels)},
        "filter": {"tables": hash_tables(filtered)},
    }

    # 2. Thirty training steps, from the stored top-k logits and states.
    checkout.run("init", "--teacher", "tiny.en", "--decoder-layers", 2, "--output", start)
    steps = ("--max-steps", 30, checkout.name("train", "epochs"), 100, "--batch-size", 4, "--warmup-steps", 5)
    log = (checkout.name("train", "log every"), 1, checkout.name("train", "max grad norm"), 1.0)
    checkout.run("train", "--student", start, "--labels", filtered, "--output", student, *steps, *log, *dtype)
    hashes["train"] = {
        "tensors": hash_named_tensors(student / "model.safetensors"),
        "init": hash_named_tensors(start / "model.safetensors"),
    }

    # 3. Transcripts, with the statistics of segments and the times of words.
    audio = [line["audio"] for line in clips[:20]]
    transcribe_options = ["--model", "tiny.en", "--output_format", "json", "--word_timestamps"]
    transcribe_options += ["--dtype", checkout.name("transcribe", "float32")]
    option = checkout.name("transcribe", "deterministic")
    fixed_blocks = [option] if option == "--deterministic" else [option, "exact-block"]
    assistants: dict[str, list[Path | str]] = {
        "greedy": [],
        "speculative": ["--assistant", student],
        "deterministic": ["--assistant", student, *fixed_blocks],
    }
    for name, assistant in assistants.items():
        checkout.run("transcribe", *audio, *transcribe_options, *assistant, "--output_dir", work / name)
        hashes[name] = hash_transcripts(work / name, text_only=name == "speculative")
    recordings = [line["audio"] for line in read_manifest(speech, "longform-librispeech", 2)]
    for strategy in ("chunked", "sequential"):
        strategy_option = (checkout.name("transcribe", "chunked"), strategy)
        checkout.run("transcribe", *recordings, *transcribe_options, *strategy_option, "--output_dir", work / strategy)
        hashes[strategy] = hash_transcripts(work / strategy)
    return hashes


def hash_named_tensors(path: Path) -> dict[str, str]:
    """Name -> hash of each tensor; names of transformers."""
    with safe_open(path, "np") as file:
        return {key: hashlib.sha256(file.get_tensor(key).tobytes()).hexdigest()[:16] for key in file.keys()}  # noqa: SIM118


def differences(before: object, after: object, where: str = "") -> list[str]:
    """The keys at which two recordings differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted({*before, *after})
        return [line for key in keys for line in differences(before.get(key), after.get(key), f"{where}/{key}")]
    if isinstance(before, list) and isinstance(after, list):
        lost, new = set(before) - set(after), set(after) - set(before)
        return [f"{where}: {len(lost)} of {len(before)} hashes lost, {len(new)} new"] if lost or new else []
    return [] if before == after else [f"{where}: {before} -> {after}"]


def measure(root: Path, speech: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Hashes of one run of a checkout, and seconds of each verb."""
    checkout = Checkout(root.resolve())
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory) / "clips"  # the corpus is named after its directory, and batches are drawn by its name
        work.mkdir()
        return record(checkout, speech.resolve(), work), checkout.seconds


def compare_speed(root: Path, other: Path, speech: Path, rounds: int) -> dict[str, Any]:
    """Differences between the checkouts' hashes; seconds of each verb and their ratios."""
    seconds: dict[Path, list[dict[str, float]]] = {root: [], other: []}
    hashes: dict[Path, dict[str, Any]] = {}
    for index in range(rounds):
        for checkout in (other, root) if index % 2 else (root, other):
            hashes[checkout], verb_seconds = measure(checkout, speech)
            seconds[checkout].append(verb_seconds)
    verbs = {}
    for verb in seconds[root][0]:
        new, old = ([run[verb] for run in seconds[checkout]] for checkout in (root, other))
        medians = statistics.median(new), statistics.median(old)
        spread = max(max(runs) / min(runs) for runs in (new, old))
        verbs[verb] = {"seconds": new, "other_seconds": old, "ratio": medians[0] / medians[1], "spread": spread}
    return {"different": differences(hashes[other], hashes[root]), "verbs": verbs}


def main(arguments: Sequence[str] | None = None) -> None:
    """Record a checkout, compare two recordings, or run two checkouts in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--speech", type=Path, default=Path("../shared/speech"))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--against", type=Path, help="another checkout, run in turn with --root")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"))
    options = parser.parse_args(arguments)
    if options.compare:
        before, after = (json.loads(path.read_text(encoding="utf-8")) for path in options.compare)
        changed = differences(before, after)
        print("\n".join(changed) or "equal")
        raise SystemExit(bool(changed))
    if options.against:
        result = compare_speed(options.root, options.against, options.speech, options.rounds)
        if options.output:
            write_result(options.output, "same results and speed as another commit", result)
        print(json.dumps(result, indent=1))
        raise SystemExit(bool(result["different"]))
    hashes, _ = measure(options.root, options.speech)
    text = json.dumps(hashes, indent=1)
    (options.output.write_text(text, encoding="utf-8") if options.output else print(text))


if __name__ == "__main__":
    main()
