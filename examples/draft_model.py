"""Speculative decoding: the student proposes tokens and the teacher verifies them; same text, less time.

python examples/draft_model.py speech.flac --teacher base --student student
"""

import argparse
import time
from pathlib import Path

import whisperstill as ws


def main() -> None:
    """Transcribe one file with and without the draft model, and compare texts and times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--student", required=True)
    options = parser.parse_args()
    texts = {}
    for name, draft in (("teacher alone", None), ("with draft", options.student)):
        model = ws.load(options.teacher, dtype="float32", assistant=draft)
        start = time.perf_counter()
        texts[name] = model.transcribe(options.audio).text
        print(f"{name}: {time.perf_counter() - start:.1f} s")
    print("identical text" if len(set(texts.values())) == 1 else f"texts differ: {texts}")


if __name__ == "__main__":
    main()
