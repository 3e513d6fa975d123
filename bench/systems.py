"""Decoding systems that bench/decode.py compares, and the processes that they run in.

Thread pools of several libraries slow each other down in one process, or when idle threads spin. Therefore each library
has one long-lived worker process, which receives requests over a pipe and is stopped (SIGSTOP) between its turns.
`Worker` is the parent's end; this file, run as a script, is the worker.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

PR_SET_PDEATHSIG = 1
LIBRARY = {"whisperstill": "torch", "transformers": "torch", "faster-whisper": "ctranslate2", "whisper.cpp": "ggml"}
"""Engine -> library; each library has one worker process."""

Waveform = Float32[np.ndarray, "samples"]


@dataclass(frozen=True)
class BenchSystem:
    """An engine with its settings."""

    name: str
    engine: str
    dtype: str = "float32"
    short: bool = True
    """Runs on single clips."""
    long: bool = True
    """Runs on long recordings."""
    drafted: bool = False
    """Speculative decoding with the student as draft model."""
    batched: bool = True
    """Decodes several windows of a recording together."""
    own_windows: bool = False
    """The library splits long recordings itself; all other systems get our windows."""


SYSTEMS = (
    BenchSystem("ours", "whisperstill"),
    BenchSystem("ours bfloat16", "whisperstill", "bfloat16"),
    BenchSystem("ours int8", "whisperstill", "int8"),
    BenchSystem("ours, student drafts", "whisperstill", drafted=True),
    BenchSystem("ours bfloat16, student drafts", "whisperstill", "bfloat16", drafted=True),
    BenchSystem("transformers", "transformers"),
    BenchSystem("transformers bfloat16", "transformers", "bfloat16"),
    BenchSystem("transformers, student drafts", "transformers", drafted=True, long=False),
    BenchSystem("faster-whisper float32", "faster-whisper", batched=False),
    BenchSystem("faster-whisper int8", "faster-whisper", "int8", batched=False),
    BenchSystem("faster-whisper float32, batched", "faster-whisper"),
    BenchSystem("faster-whisper int8, batched", "faster-whisper", "int8"),
    BenchSystem("faster-whisper float32, batched, own pauses", "faster-whisper", short=False, own_windows=True),
    BenchSystem("faster-whisper int8, batched, own pauses", "faster-whisper", "int8", short=False, own_windows=True),
    BenchSystem("whisper.cpp f16", "whisper.cpp", "auto", batched=False),
    BenchSystem("whisper.cpp f16, own windows", "whisper.cpp", "auto", short=False, batched=False, own_windows=True),
)


@dataclass(frozen=True)
class DecodeJob:
    """Models, audio and settings of a worker, sent before its first turn."""

    model: str
    """Name or directory of the checkpoint."""
    cache: str
    """Directory for conversions of the checkpoint."""
    student: str | None
    clips: tuple[str, ...]
    long: bool
    language: str
    threads: int
    options: dict[str, Any]
    """Further keywords of our `transcribe`."""


@dataclass
class Stopwatch:
    """Seconds spent in the functions that it wraps."""

    seconds: float = 0.0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def timed(*arguments: Any, **keywords: Any) -> Any:
            start_time = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                self.seconds += time.perf_counter() - start_time

        return timed


Decode = Callable[[Any, int], str]
"""(waveform of a clip or path of a recording, batch size) -> text."""


def load_system(system: BenchSystem, job: DecodeJob, encoder: Stopwatch) -> Decode:
    """Load a system. `encoder` measures its encoder time, if the library's encoder can be wrapped."""
    return _load_ours(system, job, encoder) if system.engine == "whisperstill" else _load_peer(system, job, encoder)


def _load_ours(system: BenchSystem, job: DecodeJob, encoder: Stopwatch) -> Decode:
    import torch

    import whisperstill
    from whisperstill.audio.mel import pad_or_trim

    assistant = job.student if system.drafted else None
    transcriber = whisperstill.load(job.model, device="cpu", dtype=system.dtype, assistant=assistant)
    model = transcriber.model
    model.encode = encoder.wrap(model.encode)  # type: ignore[method-assign]

    def decode_clip(waveform: Waveform, batch_size: int) -> str:
        states = model.encode(torch.from_numpy(pad_or_trim(waveform))[None])
        return model.decode(states, model.resolve_languages(states, [job.language]))[0].text

    def decode_recording(path: str, batch_size: int) -> str:
        options = {"language": job.language, "without_timestamps": True, "batch_size": batch_size, **job.options}
        return transcriber.transcribe(path, **options).text

    return decode_recording if job.long else decode_clip


def _load_peer(system: BenchSystem, job: DecodeJob, encoder: Stopwatch) -> Decode:
    from whisperstill.audio.audio_files import load_audio
    from whisperstill.evaluate.engines import load_engine

    engine: Any = load_engine(system.engine, job.model, Path(job.cache), device="cpu", dtype=system.dtype)
    if system.engine == "transformers":
        engine.network.model.encoder.forward = encoder.wrap(engine.network.model.encoder.forward)
    if system.engine == "faster-whisper":
        engine.model.encode = encoder.wrap(engine.model.encode)
    if system.drafted:
        engine.network.generate = partial(engine.network.generate, assistant_model=_load_transformers_draft(job))
    if system.engine == "faster-whisper" and system.batched:
        return _batched_faster_whisper(engine.model, system, job)

    def decode_clip(waveform: Waveform, batch_size: int) -> str:
        return str(engine.transcribe([waveform], [job.language])[0])

    def decode_recording(path: str, batch_size: int) -> str:
        if system.own_windows:
            return str(engine.transcribe([load_audio(path)], [job.language], long_form=True)[0])
        windows = _our_windows(path)
        batches = (windows[start : start + batch_size] for start in range(0, len(windows), batch_size))
        texts = (text for batch in batches for text in engine.transcribe(batch, [job.language] * len(batch)))
        return " ".join(texts)

    return decode_recording if job.long else decode_clip


def _load_transformers_draft(job: DecodeJob) -> Any:
    """The student's decoder only, for the teacher's encoder states; a complete model would run its own encoder."""
    import torch
    from transformers import WhisperForCausalLM

    from whisperstill.model.checkpoints import load_checkpoint, write_huggingface

    assert job.student is not None
    directory = write_huggingface(load_checkpoint(job.student), Path(job.cache) / "student-huggingface")
    draft: Any = WhisperForCausalLM.from_pretrained(directory, attn_implementation="sdpa", dtype=torch.float32)
    return draft.eval()


def _batched_faster_whisper(model: Any, system: BenchSystem, job: DecodeJob) -> Decode:
    """faster-whisper's batched pipeline, on our windows or (`own_windows`) on those of its VAD."""
    from faster_whisper import BatchedInferencePipeline  # type: ignore[import-untyped]

    from whisperstill.audio.sound_activity import cut_file
    from whisperstill.units import WINDOW_SECONDS

    pipeline = BatchedInferencePipeline(model)

    def decode(audio: Any, batch_size: int) -> str:
        options: dict[str, Any] = {"vad_filter": system.own_windows}
        if job.long and not system.own_windows:
            windows = cut_file(audio, WINDOW_SECONDS)
            options["clip_timestamps"] = [{"start": start, "end": start + seconds} for start, seconds in windows]
        segments, _ = pipeline.transcribe(
            audio,
            batch_size=batch_size,
            language=job.language,
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
            **options,
        )
        return " ".join(segment.text.strip() for segment in segments)

    return decode


def _our_windows(path: str) -> list[Waveform]:
    """The windows of a recording as our default strategy cuts them."""
    from whisperstill.audio.audio_files import load_audio
    from whisperstill.audio.sound_activity import cut_file
    from whisperstill.units import WINDOW_SECONDS

    return [load_audio(path, start, seconds) for start, seconds in cut_file(path, WINDOW_SECONDS)]


class Worker:
    """The process of one library, stopped between its turns."""

    def __init__(self, job: DecodeJob) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(job.threads)}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.idle_cpu_seconds = 0.0
        """Processor time used between turns; should be 0."""
        self._request(asdict(job))
        self._cpu_seconds = self._stop()

    def run(self, system: str, batch_size: int) -> dict[str, Any]:
        """One round of a system over all clips: `seconds`, `encoder_seconds`, `texts`."""
        self.idle_cpu_seconds += cpu_seconds(self._process.pid) - self._cpu_seconds
        os.kill(self._process.pid, signal.SIGCONT)
        answer = self._request({"system": system, "batch_size": batch_size})
        self._cpu_seconds = self._stop()
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _stop(self) -> float:
        os.kill(self._process.pid, signal.SIGSTOP)
        return cpu_seconds(self._process.pid)

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker exited with {self._process.wait()}; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def start_workers(job: DecodeJob, systems: Iterable[BenchSystem]) -> Iterator[dict[str, Worker]]:
    """Engine -> worker, for the systems of one job; the processes end with the block."""
    workers: dict[str, Worker] = {}
    try:
        for library in dict.fromkeys(LIBRARY[system.engine] for system in systems):
            workers[library] = Worker(job)
        yield {engine: workers[library] for engine, library in LIBRARY.items() if library in workers}
    finally:
        for worker in workers.values():
            worker.close()


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve() -> None:
    """The worker: a job, then requests, one JSON object per line; prints of the libraries go to stderr."""
    if sys.platform == "linux":  # end with the parent: a stopped process would stay forever
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    fields = json.loads(sys.stdin.readline())
    job = DecodeJob(**{**fields, "clips": tuple(fields["clips"])})
    import torch

    from whisperstill.audio.audio_files import load_audio

    torch.set_num_threads(job.threads)
    systems = {system.name: system for system in SYSTEMS}
    inputs = job.clips if job.long else [load_audio(path) for path in job.clips]
    loaded: dict[str, tuple[Decode, Stopwatch]] = {}
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        name = request["system"]
        if name not in loaded:
            encoder = Stopwatch()
            loaded[name] = load_system(systems[name], job, encoder), encoder
        decode, encoder = loaded[name]
        encoder.seconds = 0.0
        start_time = time.perf_counter()
        texts = [decode(audio, request["batch_size"]) for audio in inputs]
        seconds = time.perf_counter() - start_time
        answer = {"seconds": seconds, "encoder_seconds": encoder.seconds or None, "texts": texts}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve()
