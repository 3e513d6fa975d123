"""Speech for the demo: Debian's Asterisk prompts, split into two manifests.

    python recipes/prepare_demo.py --output build/demo
    python recipes/prepare_demo.py --output build/demo --folder /any/folder/of/english/audio

Downloads two Debian packages with `apt-get download` (568 prompts in G.722 by one speaker, with transcripts; needs no
root) and unpacks them. Writes `train.jsonl`, `test.jsonl` (one prompt in ten, chosen by a hash of its name) and
`example.wav`, one prompt of the test set. A second run does nothing.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = ("asterisk-core-sounds-en", "asterisk-core-sounds-en-g722")
SOUNDS = Path("usr/share/asterisk/sounds")
TEST_SHARE = 10
ALTERNATIVE = (
    "name any folder of English audio instead: make demo SPEECH=/folder/of/audio (transcripts beside it as .txt)"
)


def main() -> int:
    """Download, unpack and split the speech; returns the exit code."""
    parser = argparse.ArgumentParser(description="speech for the demo")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=None)
    settings = parser.parse_args()
    manifests = [settings.output / name for name in ("train.jsonl", "test.jsonl")]
    example = settings.output / "example.wav"
    source = settings.output / "source.txt"
    source_name = str(settings.folder or "asterisk")
    if all(path.is_file() for path in (*manifests, example)) and source.is_file() and source.read_text() == source_name:
        return 0
    settings.output.mkdir(parents=True, exist_ok=True)
    folder, layout = settings.folder, "auto"
    if folder is None:
        folder, layout = fetch(settings.output), "asterisk"
    if not folder.is_dir():
        return fail(f"expected a folder of audio, got {folder}")
    counts = split(folder, layout, *manifests)
    if not counts[1]:
        return fail(f"expected transcripts beside some of the audio in {folder} (name.txt), found none to test with")
    write_example(manifests[1], example)
    source.write_text(source_name)
    print(f"demo: {counts[0]} clips to train on, {counts[1]} to test with")
    return 0


def fetch(output: Path) -> Path:
    """Folder of the prompts; downloads and unpacks them if it is missing."""
    prompts = output / "asterisk"
    if any(prompts.rglob("*.g722")):
        return prompts
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise SystemExit(
            fail(f"the demo's speech comes from Debian packages, and there is no apt-get here; {ALTERNATIVE}")
        )
    unpacked = output / "asterisk.part"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(parents=True)
    if not download(unpacked):
        if os.geteuid() == 0:
            print("demo: the package lists are missing or old: apt-get update")
            subprocess.run(["apt-get", "update", "-qq"], check=False)
        if os.geteuid() != 0 or not download(unpacked):
            raise SystemExit(
                fail(
                    f"apt-get cannot download {' and '.join(PACKAGES)}: "
                    f"`sudo apt-get update` may help, or {ALTERNATIVE}"
                )
            )
    for package in unpacked.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package.name, "."], cwd=unpacked, check=True)
        package.unlink()
    unpacked.rename(prompts)
    return prompts


def download(folder: Path) -> bool:
    """Download the packages; returns whether that succeeded."""
    command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *PACKAGES]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True).returncode == 0


def split(folder: Path, layout: str, train: Path, test: Path) -> tuple[int, int]:
    """Write the two manifests; returns their numbers of clips. The test set has only clips with a transcript."""
    from whisperstill.corpus import read_corpus

    corpus = read_corpus(folder, layout=layout, language="en")
    rows: tuple[list[str], list[str]] = ([], [])
    for utterance in corpus.utterances:
        is_test = int(hashlib.sha256(utterance.id.encode()).hexdigest(), 16) % TEST_SHARE == 0 and bool(utterance.text)
        audio = os.path.relpath(utterance.audio.path, train.parent)
        row = {
            "id": utterance.id,
            "audio": audio,
            "text": utterance.text,
            "duration_s": round(utterance.audio.duration, 3),
            "language": "en",
            "speaker": utterance.speaker,
        }
        rows[is_test].append(json.dumps(row, ensure_ascii=False) + "\n")
    for path, lines in zip((train, test), rows, strict=True):
        temporary = path.with_suffix(".part")
        temporary.write_text("".join(lines), encoding="utf-8")
        temporary.replace(path)
    return len(rows[0]), len(rows[1])


def write_example(test: Path, example: Path) -> None:
    """Write the longest test clip of at most 15 s as the wav file that the demo transcribes."""
    import soundfile

    from whisperstill.audio.audio_files import load_audio

    rows = [json.loads(line) for line in test.read_text(encoding="utf-8").splitlines()]
    longest = max(rows, key=lambda row: (row["duration_s"] <= 15, row["duration_s"]))
    samples = load_audio(test.parent / longest["audio"])
    soundfile.write(example, samples, 16_000)


def fail(message: str) -> int:
    """Print an error in one line on standard error; returns the exit code 2."""
    print(f"demo: error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
