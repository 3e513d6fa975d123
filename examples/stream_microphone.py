"""Transcribe live audio of a microphone; each segment is printed as soon as it is final.

arecord -t raw -f S16_LE -r 16000 -c 1 | python examples/stream_microphone.py --model tiny.en
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np

import whisperstill as ws

CHUNK_SAMPLES = 8000  # half a second


def chunks() -> Iterator[np.ndarray]:
    """16 kHz mono samples from standard input, -1 to 1."""
    while data := sys.stdin.buffer.read(2 * CHUNK_SAMPLES):
        yield np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / 32768


def main() -> None:
    """Print each segment with its start time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--language", default=None)
    options = parser.parse_args()
    segments, info = ws.load(options.model).stream(chunks(), language=options.language)
    for segment in segments:
        print(f"{segment.start:7.2f} {segment.text.strip()}", flush=True)
    print(f"{info.duration:.1f} s in {info.language}", file=sys.stderr)


if __name__ == "__main__":
    main()
