"""How fast do we decode against the peers, at equal text?

Hypothesis: on a CPU the network's weights bound all of them alike; what is left to win is memory that is kept, windows
that share a step, and drafts that are verified in blocks.
Method: the same audio, threads, allocator and greedy decoding without timestamps, fallbacks and conditioning on earlier
text for all; one process a library, stopped but for its turns (`contenders`); every contender once a round, forth and
back (A B C, C B A, ...), the first round not counted; the median over rounds of a contender's time over ours. Short:
clips one by one, in memory. Long: recordings from file to text, windows batched where the contender can; all but
"own" take our cuts. Decoder time is what is left when the encoder's is subtracted, where a library lets it be timed.
Ours is float32 greedy where nothing else is said; word error rates are Whisper-normalised, `same` is the share of texts
equal to the letter. whisper.cpp computes with f16 weights and caches: its f32 files abort in 1.8.5.
Limit: the encoder (87.4 GFLOP a window of base), which nobody here does without; "decoder" shows the rest.

    python bench/decode.py --speech ../shared/speech --student runs/mini-librispeech/student
    python bench/decode.py ... --settings long --batch-sizes 8 16 4        (each at its best)
    python bench/decode.py --render bench/results/decode.json
"""

import argparse
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from contenders import CONTENDERS, Contender, Job, workers

from whisperstill.cli.allocator import restart_with_allocator

SETTINGS = {
    "short": ("librispeech-mini-test", "ljspeech-ood"),
    "long": ("longform-librispeech", "longform-ljspeech"),
}
PACKAGES = ("torch", "transformers", "faster-whisper", "ctranslate2", "pywhispercpp")


def prepare(name: str, student: str | None, work: Path) -> None:
    """Write what the peers read, unless it is there already."""
    from whisperstill.export.ctranslate2 import write_ctranslate2
    from whisperstill.export.whispercpp import write_whispercpp
    from whisperstill.model.checkpoints import contains_checkpoint, load_checkpoint, write_huggingface

    checkpoint = load_checkpoint(name)
    if not contains_checkpoint(work / "hf", checkpoint):
        write_ctranslate2(checkpoint, work / "ct2")
        write_whispercpp(checkpoint, work / "ggml-f16.bin")
        write_huggingface(checkpoint, work / "hf")  # the last: it tells that all are there
    if student is not None:
        write_huggingface(load_checkpoint(student), work / "student-hf")


def measure(job: Job, turns: list[tuple[Contender, int]], rounds: int) -> dict[tuple[str, int], dict[str, Any]]:
    """Seconds of every round, and the texts of the last, by contender and batch size."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    with workers(job, [one for one, _ in turns]) as running:
        for number in range(rounds + 1):
            for one, batch_size in turns if number % 2 else turns[::-1]:
                answer = running[one.process].run(one.name, batch_size)
                row = found.setdefault((one.name, batch_size), {"seconds": [], "encoder_seconds": []})
                row["texts"] = answer["texts"]
                if number:
                    row["seconds"].append(answer["seconds"])
                    row["encoder_seconds"].append(answer["encoder_seconds"])
                print(f"round {number} {one.name}, batch {batch_size}: {answer['seconds']:.1f} s", flush=True)
        idle = sum(worker.idle_cpu_seconds for worker in running.values())
        print(f"processor time of processes that were not at turn: {idle:.2f} s", flush=True)
    return found


def summary(
    found: dict[tuple[str, int], dict[str, Any]], ours: tuple[str, int], references: list[str], audio_seconds: float
) -> list[dict[str, Any]]:
    """A row for each contender, in the order of `CONTENDERS`."""
    from whisperstill.evaluate.score import score

    base = found[ours]
    rows = []
    for one, batch_size in sorted(found, key=lambda key: [each.name for each in CONTENDERS].index(key[0])):
        row = found[one, batch_size]
        ratios = [b / a for a, b in zip(base["seconds"], row["seconds"], strict=True)]
        told_apart = None not in row["encoder_seconds"] and None not in base["encoder_seconds"]
        decoder = [s - (e or 0.0) for s, e in zip(row["seconds"], row["encoder_seconds"], strict=True)]
        ours_decoder = [s - (e or 0.0) for s, e in zip(base["seconds"], base["encoder_seconds"], strict=True)]
        same = [a.strip() == b.strip() for a, b in zip(row["texts"], base["texts"], strict=True)]
        rows.append(
            {
                "contender": one,
                "batch_size": batch_size,
                "time_to_ours": round(median(ratios), 3),
                "least_and_most": [round(min(ratios), 3), round(max(ratios), 3)],
                "times_real_time": round(audio_seconds / median(row["seconds"]), 2),
                "decoder_to_ours": round(median(b / a for a, b in zip(ours_decoder, decoder, strict=True)), 3)
                if told_apart
                else None,
                "wer": round(score(references, row["texts"], normalizer="english").wer, 2),
                "same": round(sum(same) / len(same), 3),
                "wer_against_ours": round(score(base["texts"], row["texts"], normalizer="english").wer, 2),
                "seconds": [round(value, 3) for value in row["seconds"]],
                "encoder_seconds": [value and round(value, 3) for value in row["encoder_seconds"]],
            }
        )
    return rows


def render(result: dict[str, Any]) -> str:
    """The tables of docs/results/decoding.md."""
    lines = []
    for case in result["cases"]:
        hours = case["audio_seconds"] / 3600
        lines += [
            f"\n### {case['model']}, {case['setting']}: {case['clips']} recordings, {hours:.2f} h\n",
            "| | batch | time against ours | times real time | decoder against ours | WER % | same text |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for row in case["rows"]:
            decoder = "-" if row["decoder_to_ours"] is None else f"{row['decoder_to_ours']:.2f}"
            speed = f"{row['time_to_ours']:.2f} | {row['times_real_time']:.1f} | {decoder}"
            text = f"{row['wer']:.1f} | {100 * row['same']:.0f} %"
            lines.append(f"| {row['contender']} | {row['batch_size']} | {speed} | {text} |")
    return "\n".join(lines).strip()


def clips_of(folder: Path) -> list[dict[str, Any]]:
    """A set's recordings, whole."""
    lines = map(json.loads, (folder / "manifest.jsonl").read_text().splitlines())
    return [{**one, "audio": str(folder / one["audio"])} for one in lines]


def cases(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every model in every setting."""
    import torch

    from whisperstill.model.whisper import best_dtype

    models = {"teacher": options.teacher, "student": options.student}
    done = []
    for role in options.models:
        if models[role] is None:
            continue
        student = options.student if role == "teacher" else None
        work = options.work / role
        prepare(models[role], student, work)
        for setting in options.settings:
            clips = [one for name in SETTINGS[setting] for one in clips_of(options.speech / name)[: options.clips]]
            if options.recordings:
                clips = [one for one in clips if one["id"] in options.recordings]
            chosen = [
                one
                for one in CONTENDERS
                if getattr(one, setting)
                and (student or not one.assisted)
                and (not one.bfloat16 or best_dtype("cpu") == torch.bfloat16)
                and (one.name == "ours" or not options.contenders or any(p in one.name for p in options.contenders))
            ]
            batches = options.batch_sizes if setting == "long" else [1]
            turns = [(one, size) for one in chosen for size in (batches if one.batched else [1])]
            job = Job(
                model=models[role],
                work=str(work),
                student=student,
                clips=tuple(one["audio"] for one in clips),
                long=setting == "long",
                language="en",
                threads=options.threads,
                options=json.loads(options.ours),
            )
            found = measure(job, turns, options.rounds)
            seconds = sum(one["duration_s"] for one in clips)
            rows = summary(found, ("ours", batches[0]), [one["text"] for one in clips], seconds)
            done.append(
                {
                    "model": role,
                    "setting": setting,
                    "clips": len(clips),
                    "audio_seconds": round(seconds, 1),
                    "rows": rows,
                }
            )
    return done


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def commit() -> str:
    """The commit that was measured."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def main() -> None:
    """Command line."""
    names = [one.name for one in CONTENDERS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, help="folder of the sets, each with a manifest.jsonl")
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--student", help="directory of a student of the teacher")
    parser.add_argument("--models", nargs="+", choices=["teacher", "student"], default=["teacher", "student"])
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--contenders", nargs="*", default=[], help=f"parts of names out of: {'; '.join(names)}")
    parser.add_argument("--clips", type=int, help="only the first so many of each set")
    parser.add_argument("--recordings", nargs="+", help="only those with these ids")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[8], help="of recordings; the first is ours'")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ours", default="{}", help="further keywords of our transcribe, as JSON")
    parser.add_argument("--work", type=Path, default=Path("build/decode"))
    parser.add_argument("--output", type=Path, default=Path("bench/results/decode.json"))
    parser.add_argument("--render", type=Path, help="print the tables of a result and end")
    options = parser.parse_args()
    if options.render:
        print(render(json.loads(options.render.read_text())))
        return
    if options.speech is None:
        parser.error("--speech: expected the folder of the sets")

    result = {
        "question": "decoding speed against the peers",
        "teacher": options.teacher,
        "threads": options.threads,
        "rounds": options.rounds,
        "machine": processor(),
        "commit": commit(),
        "allocator": os.environ.get("GLIBC_TUNABLES", ""),
        "versions": {name: version(name) for name in PACKAGES},
        "cases": cases(options),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(render(result))


if __name__ == "__main__":
    restart_with_allocator()
    main()
