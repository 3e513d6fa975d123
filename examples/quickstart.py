# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Quickstart
#
# Transcribe a recording, distil a tiny student from the same audio, and compare the two. Open as a notebook with
# `jupytext --to notebook examples/quickstart.py`, or run as a script. Set `WHISPERSTILL_AUDIO` to a folder of
# audio with transcripts (any layout of the README), `WHISPERSTILL_TEACHER` to a model and `WHISPERSTILL_STEPS` to the
# number of training steps.

# %%
import os
import tempfile
from pathlib import Path

import whisperstill as ws

audio = os.environ.get("WHISPERSTILL_AUDIO", "build/demo/train.jsonl")
teacher = os.environ.get("WHISPERSTILL_TEACHER", "tiny.en")
steps = int(os.environ.get("WHISPERSTILL_STEPS", "20"))
work = Path(tempfile.mkdtemp(prefix="whisperstill-"))

# %% [markdown]
# ## Label
#
# The teacher runs once per window. Its text, statistics, top-k logits and encoder output go to the label store.

# %%
labels = ws.label(
    ws.LabelSettings(teacher=teacher, manifest=(audio,), encoder_states="bfloat16", output=work / "labels")
)
print(f"{labels.windows} windows, {labels.hours:.3f} h, WER of the labels {labels.wer}")

# %% [markdown]
# ## Filter
#
# Labels that differ too much from their reference are dropped, with the rule that dropped them.

# %%
filtered = ws.filter(ws.FilterSettings(labels=work / "labels", max_wer=None, output=work / "filtered"))
print(f"{filtered.kept} of {filtered.utterances} utterances kept; dropped: {filtered.dropped}")

# %% [markdown]
# ## Initialise and train
#
# The student has the teacher's encoder, and the first and last of its decoder layers.

# %%
student = ws.init(ws.InitSettings(teacher=teacher, decoder_layers=2, output=work / "init"))
print(f"layers {student.layers}: {student.teacher_parameters:,} -> {student.student_parameters:,} parameters")
trained = ws.train(
    ws.TrainSettings(
        student=work / "init", labels=work / "filtered", output=work / "student", max_steps=steps, batch_size=4
    )
)
print(f"{trained.steps} steps on {trained.hours:.3f} h in {trained.seconds:.0f} s")

# %% [markdown]
# ## Use it
#
# The student transcribes alone, or serves as draft model of its teacher, which gives the teacher's text.

# %%
recording = next(path for path in sorted(Path(audio).parent.rglob("*")) if path.suffix in (".wav", ".flac", ".opus"))
alone = ws.load(teacher, dtype="float32").transcribe(recording)
drafted = ws.load(teacher, dtype="float32", assistant=work / "student").transcribe(recording)
print(alone.text.strip())
print("same text with the draft model:", alone.text == drafted.text)
