"""How fast is a training step, compared with distil-whisper's?

Hypothesis: most of the reference's time goes into padding (labels are padded to 448 tokens) and into running the
teacher again on labelled windows. Without padding a step is at least twice as fast; with the teacher's encoder states
and distribution from the store, ten times.
Method: the same windows, labels, weights and losses (1.0 cross-entropy + 0.8 KL at T = 2, decoder trained, encoder
frozen and shared), gradient clipping, AdamW; one process, interleaved rounds (A B C, C B A, ...) after a warm-up. The
reference step is distil-whisper's with transformers' modules: labels padded to 448 (its default) or to 128, one encoder
pass for both models, logits of every position, torch's default AdamW. Before the measurement, loss and gradients of
both are compared on equal weights. Peak memory is measured in a separate process for each.
Limit: the matrix products; the GFLOP of a window are listed.

    python bench/train.py --labels runs/mini-librispeech/filtered --teacher base
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from harness import argument_parser, interleaved, peak_memory_gib, set_threads, silence_transformers, write_result

from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.corpus.loading import load_window_waveform
from whisperstill.decode.generate.logit_filter import LogitFilter
from whisperstill.distill.data_loader import DataLoader
from whisperstill.distill.dataset import TrainingExample, build_examples
from whisperstill.distill.decoder_distillation import DecoderDistillation
from whisperstill.distill.encoder_states import OnlineStates, StoredStates
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.settings import ExampleOptions, LossConfig, TargetKind
from whisperstill.distill.teacher_targets import StoredTargetReader, TeacherTargetSource
from whisperstill.distill.training_checkpoint import trainable_parameters
from whisperstill.label.filter_decisions import read_decisions
from whisperstill.label.store import LabelStore, open_labels
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint, write_huggingface
from whisperstill.model.device import choose_dtype
from whisperstill.model.student_init import init_student, select_spaced_layers
from whisperstill.model.whisper import Whisper
from whisperstill.pipeline.cost_estimate import cross_attention_flops, decoder_token_flops, encoder_flops, model_size
from whisperstill.text.markdown import markdown_table
from whisperstill.text.vocabulary import Vocabulary
from whisperstill.units import SAMPLE_RATE

LOSS = LossConfig(kl_weight=0.8, ce_weight=1.0, temperature=2.0)
LEARNING_RATE, MAX_GRAD_NORM = 1e-4, 1.0
IGNORED_LABEL = -100


@dataclass(frozen=True)
class Task:
    """The data of one step, and the models."""

    store: LabelStore
    examples: list[TrainingExample]
    teacher: Checkpoint
    student: Checkpoint
    vocabulary: Vocabulary


Step = Callable[[], float]
"""One optimizer step; returns the loss before it."""


def our_step(
    kind: TargetKind, from_store: bool, dtype: torch.dtype, frozen: bool, task: Task, _: Path
) -> tuple[Step, Any]:
    """Our step, and the student that it trains."""
    student = Whisper.from_state(task.student.dims, task.student.state, torch.float32)
    student.requires_grad_(False)
    student.decoder.requires_grad_(True)
    student.decoder.embedding.requires_grad_(not frozen)
    teacher = None
    if kind == "online":
        teacher = Whisper.from_state(task.teacher.dims, task.teacher.state, dtype)
    original = teacher.decoder.embedding.weight if teacher else student.decoder.embedding.weight.detach().clone()
    encoder = student if dtype == torch.float32 else Whisper.from_state(task.student.dims, task.student.state, dtype)
    states = StoredStates(task.store) if from_store else OnlineStates(encoder)
    targets = StoredTargetReader(task.store, kind, LOSS.temperature, needs_hidden=False)
    source = DataLoader(task.vocabulary, ExampleOptions(), states, targets)
    logit_filter = LogitFilter(task.vocabulary, task.student.generation_config, False, "cpu")
    distillation = DecoderDistillation(
        source, student, TeacherTargetSource(original, teacher), LOSS, dtype, ProcessGroup(), logit_filter
    )
    weights = list(trainable_parameters(student).values())
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.0, fused=True)

    def step() -> float:
        student.zero_grad(set_to_none=True)
        _, loss = distillation.accumulate_gradients([source.load(task.examples, 0)])
        torch.nn.utils.clip_grad_norm_(weights, MAX_GRAD_NORM)
        optimizer.step()
        return loss

    return step, student


def reference(pad: int, dtype: torch.dtype, task: Task, folder: Path) -> tuple[Step, Any]:
    """The reference step with transformers' modules, and the student that it trains."""
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    silence_transformers()
    networks: list[Any] = []
    for name, checkpoint in (("teacher", task.teacher), ("student", task.student)):
        if not (folder / name).exists():
            write_huggingface(checkpoint, folder / name)
        networks.append(WhisperForConditionalGeneration.from_pretrained(folder / name, attn_implementation="sdpa"))
    teacher, student = networks
    teacher.eval().requires_grad_(False)
    student.train()
    student.model.encoder.requires_grad_(False)
    features: Any = WhisperFeatureExtractor.from_pretrained(folder / "student")
    waveforms = [load_window_waveform(example.label.window) for example in task.examples]
    mel = features(waveforms, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
    decoder_ids, labels = [], []
    for example in task.examples:
        prompt = task.vocabulary.sot_sequence(example.label.language)
        sequence = (*prompt, *example.label.tokens, task.vocabulary.end_of_text)
        targets_row = [IGNORED_LABEL] * (len(prompt) - 1) + list(sequence[len(prompt) :])
        num_padding = pad - len(targets_row)
        decoder_ids.append([*sequence[:-1], *[task.vocabulary.end_of_text] * num_padding])
        labels.append(targets_row + [IGNORED_LABEL] * num_padding)
    inputs, targets = torch.tensor(decoder_ids), torch.tensor(labels)
    weights = [weight for weight in student.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.0)
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)
    t = LOSS.temperature

    def step() -> float:
        optimizer.zero_grad()
        with mixed:
            with torch.no_grad():
                encoder_outputs = student.model.encoder(mel)
                teacher_logits = teacher(encoder_outputs=encoder_outputs, decoder_input_ids=inputs).logits
            logits = student(encoder_outputs=encoder_outputs, decoder_input_ids=inputs).logits
            cross_entropy = F.cross_entropy(
                logits.view(-1, logits.shape[-1]), targets.view(-1), ignore_index=IGNORED_LABEL
            )
            teacher_probs = F.softmax(teacher_logits / t, dim=-1)
            student_logprobs = F.log_softmax(logits / t, dim=-1)
            mask = (targets != IGNORED_LABEL).unsqueeze(-1)
            kl = F.kl_div(student_logprobs, teacher_probs, reduction="none") * mask
            kl_loss = kl.sum() / mask.sum() * t**2
            loss = LOSS.ce_weight * cross_entropy + LOSS.kl_weight * kl_loss
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(weights, MAX_GRAD_NORM)
        optimizer.step()
        return float(loss.detach())

    return step, student


BuildStep = Callable[[Task, Path], tuple[Step, Any]]


def build_systems(dtypes: list[torch.dtype]) -> dict[str, BuildStep]:
    """Name -> builder of the step."""
    systems: dict[str, BuildStep] = {}
    for dtype in dtypes:
        suffix = str(dtype).removeprefix("torch.")
        for pad in (448, 128):
            systems[f"reference, labels padded to {pad}, {suffix}"] = partial(reference, pad, dtype)
        systems[f"ours, nothing from the store, {suffix}"] = partial(our_step, "online", False, dtype, False)
        systems[f"ours, from the store, {suffix}"] = partial(our_step, "topk", True, dtype, False)
        systems[f"ours, from the store, embedding frozen, {suffix}"] = partial(our_step, "topk", True, dtype, True)
    return systems


def load_task(options: argparse.Namespace) -> Task:
    """The windows of one step."""
    labels, decisions = options.labels, None
    if (labels / "filter.json").exists():
        labels, decisions = read_decisions(labels)
    store = open_labels(labels)
    teacher = load_checkpoint(options.teacher)
    vocabulary = Vocabulary.from_size(teacher.dims.vocab_size)
    examples = build_examples(store.read_labels(), decisions, vocabulary.end_of_text)
    complete = [example for example in examples if all(example.utterance_mask) and example.label.ended]
    chosen = random.Random(0).sample(complete, options.batch_size)
    return Task(
        store,
        chosen,
        teacher,
        init_student(teacher, select_spaced_layers(teacher.dims.decoder_layers, options.layers)),
        vocabulary,
    )


def compare_gradients(task: Task, folder: Path) -> dict[str, float]:
    """Differences of loss and clipped gradients in float32, relative to the largest gradient of each tensor."""
    step, reference_student = reference(448, torch.float32, task, folder)
    reference_loss = step()
    gradients = {name: weight.grad for name, weight in reference_student.named_parameters() if weight.grad is not None}
    step, our_student = our_step("online", False, torch.float32, False, task, folder)
    our_loss = step()
    # Loading the gradients as a checkpoint converts them to our tensor names and fused projections.
    as_weights = {
        name: gradients.get(name, torch.zeros_like(weight)) for name, weight in reference_student.named_parameters()
    }
    reference_student.load_state_dict(as_weights, strict=False)
    reference_student.save_pretrained(folder / "gradients")
    write_huggingface(task.student, folder / "as-read")
    for file in (folder / "as-read").iterdir():
        if not (folder / "gradients" / file.name).exists():
            (folder / "gradients" / file.name).write_bytes(file.read_bytes())
    read = load_checkpoint(str(folder / "gradients")).state
    differences = {
        name: float((weight.grad - read[name]).abs().max() / read[name].abs().max())
        for name, weight in trainable_parameters(our_student).items()
        if weight.grad is not None
    }
    worst = max(differences, key=lambda name: differences[name])
    return {
        "loss": abs(our_loss - reference_loss) / reference_loss,
        "gradients": differences[worst],
        "tensors": len(differences),
        "control": float((our_student.decoder.norm.weight.grad - 2 * read["decoder.norm.weight"]).abs().max()),
    }


def main() -> None:
    parser = argument_parser(__doc__, "train.json")
    parser.add_argument(
        "--labels", type=Path, required=True, help="label store or output of `filter`, with encoder states"
    )
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="run one system twice and print its peak memory")
    options = parser.parse_args()
    set_threads(options.threads)
    task = load_task(options)
    dtypes = [torch.float32] + [torch.bfloat16] * (choose_dtype("auto", "cpu") == torch.bfloat16)
    systems = build_systems(dtypes)
    memory: dict[str, float] = {}
    for name in () if options.only else systems:  # before this process allocates memory
        command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
        memory[name] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        if options.only:
            step, _ = systems[options.only](task, folder)
            step()
            step()
            print(peak_memory_gib())
            return
        differences = compare_gradients(task, folder)
        print(json.dumps(differences), flush=True)
        steps = {name: build(task, folder)[0] for name, build in systems.items()}
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for number, name in interleaved(list(steps), options.rounds):
            start_time = time.perf_counter()
            steps[name]()
            step_seconds = time.perf_counter() - start_time
            if number:
                seconds[name].append(step_seconds)
            print(f"{number} {name}: {step_seconds:.2f} s", flush=True)
        steps.clear()
    tokens = statistics.mean(len(example.label.tokens) + 4 for example in task.examples)
    sizes = model_size(options.teacher)
    rows = [
        {"name": name, "seconds": round(statistics.median(values), 3), "memory_gib": round(memory[name], 2)}
        for name, values in seconds.items()
    ]
    result: dict[str, Any] = {
        "windows": options.batch_size,
        "tokens": round(tokens, 1),
        "equal": differences,
        "rows": rows,
    }
    if sizes:
        student = replace(sizes, decoder_layers=options.layers)
        result["gflop_per_window"] = {
            "encoder": encoder_flops(sizes) / 1e9,
            "teacher": (cross_attention_flops(sizes) + tokens * decoder_token_flops(sizes)) / 1e9,
            "student": 3 * (cross_attention_flops(student) + tokens * decoder_token_flops(student)) / 1e9,
        }
    write_result(options.output, "training speed against distil-whisper", result)
    print(render(result))


def render(result: dict[str, Any]) -> str:
    """The table of docs/results/training.md."""
    rows = {row["name"]: row for row in result["rows"]}
    table = []
    for name, row in rows.items():
        dtype = name.rsplit(" ", 1)[1]
        baselines = (rows[f"reference, labels padded to {pad}, {dtype}"] for pad in (448, 128))
        ratios = [f"{baseline['seconds'] / row['seconds']:.1f}x" for baseline in baselines]
        table.append([name, *ratios, f"{row['memory_gib']:.1f}"])
    columns = (
        "training step",
        "speed / reference padded to 448",
        "speed / reference padded to 128",
        "peak memory, GiB",
    )
    return markdown_table(columns, table)


if __name__ == "__main__":
    restart_with_allocator()
    main()
