"""Speed and memory of networks: encoder time per window, decoder time per token, latency of a batch, peak memory.

Medians after a warm-up, with the device synchronized. Networks are interleaved (A B A B ...), so that other load on
the machine affects all of them alike. The decoder runs on a fixed token sequence: speed does not depend on the audio.

A process keeps memory that it has freed, so a second network measured in it would look like the first. On a CPU peak
memory is therefore measured in a process of its own (`python -m whisperstill.evaluate.speed`) as its peak resident
size; on a GPU the caching allocator reports its peak.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from statistics import median

import torch

from whisperstill.decode.whisper_model import WhisperModel
from whisperstill.model.checkpoints import load_checkpoint
from whisperstill.model.int8 import Int8Linear
from whisperstill.model.whisper import Whisper
from whisperstill.records.eval_results import ModelInfo, SpeedResult
from whisperstill.units import WINDOW_FRAMES, WINDOW_SECONDS

WARMUP_ROUNDS = 2
PROMPT_TOKENS = 4
DECODE_STEPS = 24
"""Tokens per round: about a sentence and a half."""
MEMORY_DECODE_STEPS = 8
"""Tokens while peak memory is measured."""
MIB = 2**20


def measure_speed(networks: Mapping[str, Whisper], *, rounds: int, batch_size: int = 1) -> list[SpeedResult]:
    """Speed of each network by model name: `rounds` batches, interleaved.

    Peak memory is not measured (see `measure_peak_memory_mib`).
    """
    timings: dict[str, list[tuple[float, list[float], float]]] = {name: [] for name in networks}
    for _ in range(WARMUP_ROUNDS + rounds):
        for name, network in networks.items():
            timings[name].append(time_batch(network, DECODE_STEPS, batch_size))
    results = []
    for name, network in networks.items():
        encoder_ms, step_ms, latencies_ms = zip(*timings[name][WARMUP_ROUNDS:], strict=True)
        latency_ms = median(latencies_ms)
        speed = SpeedResult(
            model=name,
            batch_size=batch_size,
            encoder_ms_per_window=median(encoder_ms) / batch_size,
            decoder_ms_per_token=median(chain.from_iterable(step_ms)) / batch_size,
            latency_ms=latency_ms,
            real_time_factor=latency_ms / 1000 / (WINDOW_SECONDS * batch_size),
            num_tokens=DECODE_STEPS,
            weights_mib=weights_mib(network),
        )
        results.append(speed)
    return results


@torch.inference_mode()
def time_batch(network: Whisper, steps: int, batch_size: int) -> tuple[float, list[float], float]:
    """Milliseconds of one batch: its encoder, each decoder step, and in total."""
    device, dims = network.device, network.dims
    mel = torch.randn(batch_size, dims.mels, WINDOW_FRAMES, generator=torch.Generator().manual_seed(0)).to(device)
    batch_start = start_time = synchronized_time(device)
    # 1. Encoder: window by window on a CPU, as `WhisperModel.encode` does.
    mel_batches = [window[None] for window in mel] if device.type == "cpu" else [mel]
    encoder_states = torch.cat([network.encoder(mel_batch) for mel_batch in mel_batches])
    encoder_seconds = synchronized_time(device) - start_time
    # 2. Prompt.
    position = torch.zeros(batch_size, dtype=torch.long, device=device)
    prompt_tokens = torch.arange(PROMPT_TOKENS, device=device).repeat(batch_size, 1)
    prefill_cache = network.decoder.prefill(encoder_states)
    network.decoder(prompt_tokens, position, prefill_cache)
    kv_cache = network.decoder.static_cache(batch_size, dims.max_source_positions, PROMPT_TOKENS + steps)
    kv_cache.insert_rows(list(range(batch_size)), prefill_cache)
    position = position + PROMPT_TOKENS
    # 3. Greedy steps, each timed.
    step_ms = []
    output = network.decoder.output_layer(batch_size)
    token = prompt_tokens[:, -1:]
    for _ in range(steps):
        start_time = synchronized_time(device)
        hidden = network.decoder(token, position, kv_cache)[:, 0]
        token = output(hidden).argmax(-1)[:, None]
        step_ms.append(1000 * (synchronized_time(device) - start_time))
        position = position + 1
    return 1000 * encoder_seconds, step_ms, 1000 * (synchronized_time(device) - batch_start)


def weights_mib(network: Whisper) -> float:
    """Size of the weights in memory, MiB; tensors that share storage count once."""
    bytes_by_pointer = {
        tensor.data_ptr(): tensor.numel() * tensor.element_size()
        for tensor in (*network.parameters(), *network.buffers())
    }
    int8_bytes = sum(module.num_bytes for module in network.modules() if isinstance(module, Int8Linear))
    return (sum(bytes_by_pointer.values()) + int8_bytes) / MIB


def synchronized_time(device: torch.device) -> float:
    """Clock reading in seconds, after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def measure_peak_memory_mib(model: ModelInfo, batch_size: int) -> float:
    """Peak memory in MiB while `batch_size` windows are encoded and decoded.

    On a CPU that of the process, code and libraries included; on a GPU that of tensors. 0 if it cannot be measured.
    """
    if torch.device(model.device).type == "cuda":
        allocated_before = torch.cuda.memory_allocated(model.device)
        network = _load_network(model.source, model.device, model.dtype)
        torch.cuda.reset_peak_memory_stats(model.device)
        time_batch(network, MEMORY_DECODE_STEPS, batch_size)
        return (torch.cuda.max_memory_allocated(model.device) - allocated_before) / MIB
    command = [sys.executable, "-m", "whisperstill.evaluate.speed", model.source, str(batch_size), model.dtype]
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    completed = subprocess.run(command, capture_output=True, text=True, env=environment)
    return 0.0 if completed.returncode else float(completed.stdout)


def _load_network(source: str, device: str, dtype: str) -> Whisper:
    checkpoint = load_checkpoint(source)
    if dtype == "int8":
        return WhisperModel(checkpoint, device=device, int8=True).network
    return Whisper.from_state(checkpoint.dims, checkpoint.state, getattr(torch, dtype), device)


def _peak_rss_mib() -> float:
    try:
        status = Path("/proc/self/status").read_text()
        return float(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 1024)


def _main(source: str, batch_size: str, dtype: str) -> None:
    network = _load_network(source, "cpu", dtype)
    with contextlib.suppress(OSError):  # loading needs more memory than running: exclude it where the kernel can
        Path("/proc/self/clear_refs").write_text("5")
    time_batch(network, MEMORY_DECODE_STEPS, int(batch_size))
    sys.stdout.write(str(_peak_rss_mib()))


if __name__ == "__main__":
    _main(*sys.argv[1:])
