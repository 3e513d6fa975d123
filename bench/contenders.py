"""Who decodes: ours and the peers, each from sound to text, each in a process of its library's own.

Libraries with threads of their own disturb each other when they share a process or wait by spinning. So every library
has one long-lived process here, told over a pipe to run one contender over all clips, and stopped (SIGSTOP) until its
next turn. `Worker` is the near end; run as a script this file is the far end.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
LIBRARY = {"ours": "torch", "transformers": "torch", "faster-whisper": "ctranslate2", "whisper.cpp": "ggml"}
"""First word of a contender's name -> the process it runs in."""


def first_word(name: str) -> str:
    """Whose a contender is."""
    return name.replace(",", "").split()[0]


@dataclass(frozen=True)
class Contender:
    """A way to decode; `name` is what the tables call it."""

    name: str
    short: bool = True
    """Whether it takes part where clips come one by one."""
    long: bool = True
    """Whether it takes part in recordings."""
    assisted: bool = False
    """Whether a student drafts: then only the teacher decodes so."""
    bfloat16: bool = False
    """Whether it makes sense only where the processor multiplies bfloat16 fast."""
    batched: bool = True
    """Whether several windows are decoded together in recordings."""

    @property
    def process(self) -> str:
        """The process it runs in."""
        return LIBRARY[first_word(self.name)]


CONTENDERS = (
    Contender("ours"),
    Contender("ours bfloat16", bfloat16=True),
    Contender("ours int8"),
    Contender("ours, student drafts", assisted=True),
    Contender("ours bfloat16, student drafts", assisted=True, bfloat16=True),
    Contender("transformers"),
    Contender("transformers bfloat16", bfloat16=True),
    Contender("transformers, student drafts", assisted=True, long=False),
    Contender("faster-whisper float32", batched=False),
    Contender("faster-whisper int8", batched=False),
    Contender("faster-whisper float32, batched"),
    Contender("faster-whisper int8, batched"),
    Contender("faster-whisper float32, batched, own pauses", short=False),
    Contender("faster-whisper int8, batched, own pauses", short=False),
    Contender("whisper.cpp f16", batched=False),
    Contender("whisper.cpp f16, own windows", short=False, batched=False),
)


@dataclass(frozen=True)
class Job:
    """What a process needs to know before its first turn."""

    model: str
    """Name or directory of the checkpoint that decodes."""
    work: str
    """Folder with what the peers read: `hf`, `ct2`, `ggml-f16.bin` of the model, `student-hf` of its student."""
    student: str | None
    clips: tuple[str, ...]
    long: bool
    language: str
    threads: int
    options: dict[str, Any]
    """Further keywords of our `transcribe`."""


@dataclass
class Stopwatch:
    """Seconds spent in what it was wrapped around."""

    seconds: float = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def timed(*arguments: Any, **keywords: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                self.seconds += time.perf_counter() - begun

        return timed


Decode = Callable[[Any, int], str]
"""A waveform in memory (short) or a path (long), and the batch size -> the text."""


def build(name: str, job: Job, encoder: Stopwatch) -> Decode:
    """The contender, loaded. `encoder` counts what its encoder takes where that can be told apart."""
    builders = {"ours": _ours, "transformers": _transformers}
    builders |= {"faster-whisper": _faster_whisper, "whisper.cpp": _whispercpp}
    return builders[first_word(name)](name, job, encoder)


def _ours(name: str, job: Job, encoder: Stopwatch) -> Decode:
    import torch

    import whisperstill
    from whisperstill.audio.mel import pad_or_trim

    assistant = job.student if "student" in name else None
    dtype = next((one for one in ("bfloat16", "int8") if one in name), "float32")
    model = whisperstill.load(job.model, device="cpu", dtype=dtype, assistant=assistant)
    recogniser = model.model
    recogniser.encode = encoder.around(recogniser.encode)  # type: ignore[method-assign]

    def short(waveform: Any, batch_size: int) -> str:
        window = torch.from_numpy(pad_or_trim(waveform))[None]
        states = recogniser.encode(window)
        drafted = recogniser.encode_for_draft(window, states)
        return recogniser.decode(states, [job.language], draft_encoder_states=drafted)[0].text

    def long(path: str, batch_size: int) -> str:
        how = {"language": job.language, "without_timestamps": True, "batch_size": batch_size, **job.options}
        return model.transcribe(path, **how).text

    return long if job.long else short


def _pieces(path: str) -> list[Any]:
    """A recording cut as ours cuts it: the waveforms."""
    from whisperstill.audio import cut_file
    from whisperstill.audio.audio_files import load_audio
    from whisperstill.units import WINDOW_SECONDS

    return [load_audio(path, start, seconds) for start, seconds in cut_file(path, WINDOW_SECONDS)]


def _transformers(name: str, job: Job, encoder: Stopwatch) -> Decode:
    import torch
    from transformers import (
        WhisperFeatureExtractor,
        WhisperForCausalLM,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
        logging,
    )

    from whisperstill.units import MAX_NEW_TOKENS

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hf, dtype = f"{job.work}/hf", torch.bfloat16 if "bfloat16" in name else torch.float32

    how = {"attn_implementation": "sdpa", "dtype": dtype}
    network = WhisperForConditionalGeneration.from_pretrained(hf, **how).eval()
    features = WhisperFeatureExtractor.from_pretrained(hf)
    tokenizer = WhisperTokenizer.from_pretrained(hf)
    said = {"language": job.language, "task": "transcribe"} if network.generation_config.is_multilingual else {}
    said |= {"max_new_tokens": MAX_NEW_TOKENS, "num_beams": 1, "do_sample": False}
    if "student" in name:
        # As a decoder alone it is given the states of the one encoder; whole, it would run its own.
        said["assistant_model"] = WhisperForCausalLM.from_pretrained(f"{job.work}/student-hf", **how).eval()
    network.model.encoder.forward = encoder.around(network.model.encoder.forward)

    @torch.inference_mode()
    def texts(waveforms: list[Any]) -> list[str]:
        inputs = features(waveforms, sampling_rate=16_000, return_tensors="pt").input_features.to(dtype)
        rows = network.generate(inputs, force_unique_generate_call=True, **said)
        return [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]

    def short(waveform: Any, batch_size: int) -> str:
        return texts([waveform])[0]

    def long(path: str, batch_size: int) -> str:
        pieces = _pieces(path)
        groups = (pieces[at : at + batch_size] for at in range(0, len(pieces), batch_size))
        return " ".join(text for group in groups for text in texts(group))

    return long if job.long else short


def _faster_whisper(name: str, job: Job, encoder: Stopwatch) -> Decode:
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    kind = name.split()[1].strip(",")
    model = WhisperModel(f"{job.work}/ct2", device="cpu", compute_type=kind, cpu_threads=job.threads)
    model.encode = encoder.around(model.encode)
    how: dict[str, Any] = {"language": job.language, "beam_size": 1, "temperature": 0.0, "without_timestamps": True}
    how |= {"condition_on_previous_text": False, "vad_filter": "own pauses" in name}
    pipeline = BatchedInferencePipeline(model) if "batched" in name else None

    def said(segments: Iterator[Any]) -> str:
        return " ".join(segment.text.strip() for segment in segments)

    def decode(sound: Any, batch_size: int) -> str:
        if pipeline is None:
            return said(model.transcribe(sound, **how)[0])
        if job.long and "own pauses" not in name:
            from whisperstill.audio import cut_file
            from whisperstill.units import WINDOW_SECONDS

            cuts = [{"start": at, "end": at + seconds} for at, seconds in cut_file(sound, WINDOW_SECONDS)]
            return said(pipeline.transcribe(sound, batch_size=batch_size, clip_timestamps=cuts, **how)[0])
        return said(pipeline.transcribe(sound, batch_size=batch_size, **how)[0])

    return decode


def _whispercpp(name: str, job: Job, encoder: Stopwatch) -> Decode:
    from pywhispercpp.model import Model

    from whisperstill.audio.audio_files import load_audio

    own = "own windows" in name
    model = Model(
        f"{job.work}/ggml-f16.bin",
        redirect_whispercpp_logs_to=None,
        print_progress=False,
        n_threads=job.threads,
        language=job.language,
        temperature_inc=0.0,
        n_max_text_ctx=0,
        suppress_nst=True,
        no_timestamps=not own,
        single_segment=not own,
    )

    def said(waveform: Any) -> str:
        return " ".join(segment.text for segment in model.transcribe(waveform)).strip()

    def decode(sound: Any, batch_size: int) -> str:
        if not job.long:
            return said(sound)
        return said(load_audio(sound)) if own else " ".join(map(said, _pieces(sound)))

    return decode


class Worker:
    """The process of one library; stopped but for its turns."""

    def __init__(self, job: Job) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(job.threads)}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.idle_cpu_seconds = 0.0
        """Computed while it should not have."""
        self._ask(asdict(job))
        self._cpu = self._rest()

    def run(self, contender: str, batch_size: int) -> dict[str, Any]:
        """One round of a contender over all clips: `seconds`, `encoder_seconds`, `texts`."""
        self.idle_cpu_seconds += cpu_seconds(self._process.pid) - self._cpu
        os.kill(self._process.pid, signal.SIGCONT)
        answer = self._ask({"contender": contender, "batch_size": batch_size})
        self._cpu = self._rest()
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _rest(self) -> float:
        os.kill(self._process.pid, signal.SIGSTOP)
        return cpu_seconds(self._process.pid)

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with {self._process.wait()}: see above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def workers(job: Job, contenders: list[Contender]) -> Iterator[dict[str, Worker]]:
    """The processes that the contenders need, by library; ended when the block is."""
    running: dict[str, Worker] = {}
    try:
        for process in dict.fromkeys(one.process for one in contenders):
            running[process] = Worker(job)
        yield running
    finally:
        for worker in running.values():
            worker.close()


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve() -> None:
    """The far end: a job, then turns, one JSON a line; what libraries print goes to stderr."""
    if sys.platform == "linux":  # end with the bench, however that ends: a stopped process would stay for ever
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    told = json.loads(sys.stdin.readline())
    job = Job(**{**told, "clips": tuple(told["clips"])})
    import torch

    from whisperstill.audio.audio_files import load_audio

    torch.set_num_threads(job.threads)
    sounds = job.clips if job.long else [load_audio(path) for path in job.clips]
    ready: dict[str, tuple[Decode, Stopwatch]] = {}
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        turn = json.loads(line)
        name = turn["contender"]
        if name not in ready:
            watch = Stopwatch()
            ready[name] = build(name, job, watch), watch
        decode, watch = ready[name]
        watch.seconds = 0.0
        begun = time.perf_counter()
        texts = [decode(sound, turn["batch_size"]) for sound in sounds]
        seconds = time.perf_counter() - begun
        answer = {"seconds": seconds, "encoder_seconds": watch.seconds or None, "texts": texts}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve()
