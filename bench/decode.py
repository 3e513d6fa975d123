"""How fast is greedy decoding, compared with other libraries at equal text?

Hypothesis: on a CPU reading the weights limits all libraries alike; a preallocated KV cache, batched windows, and draft
tokens that are verified in blocks save most of the remaining time.
Method: same audio, threads, allocator and greedy decoding (no timestamps, no fallback, not conditioned on previous
text) for all systems; one process per library, stopped between its turns (`systems.py`); interleaved rounds (A B C,
C B A, ...) after a warm-up round; median over rounds of a system's time over ours. Short: single clips in memory.
Long: recordings from file to text, windows batched where the system supports it; all systems get our windows, except
those with "own" in their name. Decoder time is total minus encoder time, for libraries whose encoder can be timed.
"ours" is whisperstill, in float32 without drafts unless the name states another dtype or drafts. WER is after Whisper's
normalizer, `identical` is the share of identical texts. whisper.cpp computes with
float16 weights and cache: its float32 files abort in 1.8.5.
Limit: the encoder (87.4 GFLOP per window of whisper-base), which every system computes; the decoder column excludes it.

    python bench/decode.py --speech ../shared/speech --student runs/mini-librispeech/student
    python bench/decode.py ... --settings long --batch-sizes 8 16 4        (best batch size of each system)
    python bench/decode.py --render bench/results/decode.json
"""

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

from harness import Clip, argument_parser, interleaved, median_ratio, read_clips, set_threads, write_result
from systems import SYSTEMS, BenchSystem, DecodeJob, start_workers

from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.text.markdown import markdown_table

SETTINGS = {
    "short": ("librispeech-mini-test", "ljspeech-ood"),
    "long": ("longform-librispeech", "longform-ljspeech"),
}
Rounds = dict[tuple[str, int], dict[str, Any]]
"""(system, batch size) -> `seconds` and `encoder_seconds` of every round, and `texts`."""


def measure(job: DecodeJob, turns: list[tuple[BenchSystem, int]], num_rounds: int) -> Rounds:
    """Times of every round, and the texts of the last one."""
    rounds: Rounds = {}
    with start_workers(job, [system for system, _ in turns]) as workers:
        for number, (system, batch_size) in interleaved(turns, num_rounds):
            answer = workers[system.engine].run(system.name, batch_size)
            row = rounds.setdefault((system.name, batch_size), {"seconds": [], "encoder_seconds": []})
            row["texts"] = answer["texts"]
            if number:
                row["seconds"].append(answer["seconds"])
                row["encoder_seconds"].append(answer["encoder_seconds"])
            print(f"round {number} {system.name}, batch {batch_size}: {answer['seconds']:.1f} s", flush=True)
        idle = sum(worker.idle_cpu_seconds for worker in set(workers.values()))
        print(f"processor time of stopped processes: {idle:.2f} s", flush=True)
    return rounds


def summarise(rounds: Rounds, baseline_key: tuple[str, int], clips: list[Clip]) -> list[dict[str, Any]]:
    """One row per system and batch size, in the order of `SYSTEMS`."""
    from whisperstill.evaluate.metrics import Scoring, score

    baseline = rounds[baseline_key]
    references, audio_seconds = [clip.text for clip in clips], sum(clip.duration for clip in clips)
    rows = []
    for name, batch_size in sorted(rounds, key=lambda key: [system.name for system in SYSTEMS].index(key[0])):
        row = rounds[name, batch_size]
        ratios = [
            seconds / baseline_seconds
            for baseline_seconds, seconds in zip(baseline["seconds"], row["seconds"], strict=True)
        ]
        decoder_ratio = None
        if None not in row["encoder_seconds"] and None not in baseline["encoder_seconds"]:
            decoder_ratio = round(median_ratio(_decoder_seconds(row), _decoder_seconds(baseline)), 3)
        identical = [
            text.strip() == baseline_text.strip()
            for text, baseline_text in zip(row["texts"], baseline["texts"], strict=True)
        ]
        rows.append(
            {
                "system": name,
                "batch_size": batch_size,
                "time_to_ours": round(median(ratios), 3),
                "min_and_max": [round(min(ratios), 3), round(max(ratios), 3)],
                "times_real_time": round(audio_seconds / median(row["seconds"]), 2),
                "decoder_to_ours": decoder_ratio,
                "wer": round(score(references, row["texts"], Scoring("english")).wer, 2),
                "identical": round(sum(identical) / len(identical), 3),
                "wer_against_ours": round(score(baseline["texts"], row["texts"], Scoring("english")).wer, 2),
                "seconds": [round(value, 3) for value in row["seconds"]],
                "encoder_seconds": [value and round(value, 3) for value in row["encoder_seconds"]],
            }
        )
    return rows


def _decoder_seconds(row: dict[str, Any]) -> list[float]:
    return [total - encoder for total, encoder in zip(row["seconds"], row["encoder_seconds"], strict=True)]


def render(result: dict[str, Any]) -> str:
    """The tables of docs/results/decoding.md."""
    time_columns = ("time / our time", "speed, x real time", "decoder time / ours")
    columns = ("system", "batch size", *time_columns, "WER %", "identical texts")
    parts = []
    for case in result["cases"]:
        rows = [
            [
                row["system"],
                str(row["batch_size"]),
                f"{row['time_to_ours']:.2f}",
                f"{row['times_real_time']:.1f}",
                "-" if row["decoder_to_ours"] is None else f"{row['decoder_to_ours']:.2f}",
                f"{row['wer']:.1f}",
                f"{100 * row['identical']:.0f} %",
            ]
            for row in case["rows"]
        ]
        hours = case["audio_seconds"] / 3600
        parts.append(f"### {case['model']}, {case['setting']}: {case['clips']} recordings, {hours:.2f} h")
        parts.append(markdown_table(columns, rows))
    return "\n\n".join(parts)


def select_systems(options: argparse.Namespace, setting: str, student: str | None) -> list[BenchSystem]:
    """Systems that run in a setting on this machine, and that the command line selects."""
    import torch

    from whisperstill.model.whisper import best_dtype

    has_bfloat16 = best_dtype("cpu") == torch.bfloat16
    return [
        system
        for system in SYSTEMS
        if (system.long if setting == "long" else system.short)
        and (student or not system.drafted)
        and (system.dtype != "bfloat16" or has_bfloat16)
        and (system.name == "ours" or not options.systems or any(part in system.name for part in options.systems))
    ]


def run_cases(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every model in every setting."""
    models = {"teacher": options.teacher, "student": options.student}
    cases = []
    for role in options.models:
        if models[role] is None:
            continue
        student = options.student if role == "teacher" else None
        for setting in options.settings:
            per_dataset = (read_clips(options.speech, [name]) for name in SETTINGS[setting])
            clips = [clip for clips in per_dataset for clip in clips[: options.clips]]
            if options.recordings:
                clips = [clip for clip in clips if clip.id in options.recordings]
            sizes = options.batch_sizes if setting == "long" else [1]
            systems = select_systems(options, setting, student)
            turns = [(system, size) for system in systems for size in (sizes if system.batched else [1])]
            job = DecodeJob(
                model=models[role],
                cache=str(options.work / role),
                student=student,
                clips=tuple(clip.path for clip in clips),
                long=setting == "long",
                language="en",
                threads=options.threads,
                options=json.loads(options.ours),
            )
            rows = summarise(measure(job, turns, options.rounds), ("ours", sizes[0]), clips)
            seconds = round(sum(clip.duration for clip in clips), 1)
            cases.append(
                {"model": role, "setting": setting, "clips": len(clips), "audio_seconds": seconds, "rows": rows}
            )
    return cases


def main() -> None:
    names = [system.name for system in SYSTEMS]
    parser = argument_parser(__doc__, "decode.json")
    parser.add_argument("--speech", type=Path, help="directory of the datasets, each with a manifest.jsonl")
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--student", help="directory of a student of the teacher")
    parser.add_argument("--models", nargs="+", choices=["teacher", "student"], default=["teacher", "student"])
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--systems", nargs="*", default=[], help=f"parts of names out of: {'; '.join(names)}")
    parser.add_argument("--clips", type=int, help="clips per dataset; default: all")
    parser.add_argument("--recordings", nargs="+", help="ids of recordings; default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--batch-sizes", nargs="+", type=int, default=[8], help="for long; the first is that of the baseline"
    )
    parser.add_argument("--ours", default="{}", help="further keywords of our transcribe, as JSON")
    parser.add_argument("--work", type=Path, default=Path("build/decode"), help="directory for conversions")
    parser.add_argument("--render", type=Path, help="print the tables of a result file and exit")
    options = parser.parse_args()
    if options.render:
        print(render(json.loads(options.render.read_text())))
        return
    if options.speech is None:
        parser.error("--speech: expected the directory of the datasets")
    set_threads(options.threads)
    result = {"teacher": options.teacher, "rounds": options.rounds, "cases": run_cases(options)}
    write_result(options.output, "decoding speed against other libraries", result)
    print(render(result))


if __name__ == "__main__":
    restart_with_allocator()
    main()
