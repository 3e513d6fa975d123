"""Distil a model to a folder of audio, from Python: label, filter, init, train, evaluate, export.

    python examples/distil_a_domain.py /folder/of/audio --teacher tiny.en --output runs/domain --max-steps 50

After an interruption the same command skips finished stages and resumes the others.
"""

import argparse
from pathlib import Path

import whisperstill as ws


def main() -> None:
    """All stages, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", help="a folder in any layout of the README, or a manifest")
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--max-steps", type=int, default=None)
    options = parser.parse_args()
    labels, filtered, start, student = (options.output / name for name in ("labels", "filtered", "init", "student"))

    label_report = ws.label(
        ws.LabelSettings(teacher=options.teacher, manifest=(options.audio,), encoder_states="bfloat16", output=labels)
    )
    print(f"labelled {label_report.hours:.2f} h")
    filter_report = ws.filter(ws.FilterSettings(labels=labels, max_wer=20, output=filtered))
    print(f"kept {filter_report.kept} of {filter_report.utterances} utterances")
    ws.init(ws.InitSettings(teacher=options.teacher, decoder_layers=2, output=start))
    train_report = ws.train(
        ws.TrainSettings(student=start, labels=filtered, output=student, max_steps=options.max_steps)
    )
    print(f"trained {train_report.steps} steps")
    ws.export(
        ws.ExportSettings(model=str(student), format="huggingface", dtype="float16", output=options.output / "float16")
    )


if __name__ == "__main__":
    main()
