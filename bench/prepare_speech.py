"""Write the manifest.jsonl of a benchmark dataset from a corpus that whisperstill reads (LibriSpeech, LJSpeech, ...).

curl -L https://www.openslr.org/resources/31/dev-clean-2.tar.gz | tar xz
python bench/prepare_speech.py LibriSpeech/dev-clean-2 speech/librispeech-mini-val
"""

import argparse
import json
from pathlib import Path

from whisperstill.atomic_io import atomic_write
from whisperstill.corpus import read_corpus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="directory or manifest of the corpus; one utterance per audio file")
    parser.add_argument("dataset", type=Path, help="directory for the manifest; its name is that of the dataset")
    parser.add_argument("--language", default="en")
    options = parser.parse_args()
    lines = []
    for utterance in read_corpus(options.corpus, language=options.language).utterances:
        line = {
            "id": utterance.id,
            "audio": str(Path(utterance.audio.path).resolve()),
            "text": utterance.text,
            "duration_s": utterance.audio.duration,
            "speaker": utterance.speaker,
            "language": utterance.language,
        }
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    options.dataset.mkdir(parents=True, exist_ok=True)
    atomic_write(options.dataset / "manifest.jsonl", "".join(lines))
    print(f"{len(lines)} utterances in {options.dataset / 'manifest.jsonl'}")


if __name__ == "__main__":
    main()
