"""How fast is a training step, against the reference's own?

Hypothesis: the reference computes mostly what nobody needs: padding of labels to 448 tokens, and what the teacher says
about a window that it has heard before. Without padding a step is at least twice as fast; with the teacher's states
and distribution from the store an order of magnitude.
Method: the same windows, labels, weights and losses (1.0 cross-entropy + 0.8 KL at T = 2, all of the decoder trained,
encoder frozen and shared), gradients clipped, AdamW; one process, the contenders in turn (A B C, C B A ...), the first
turn not counted. The reference's step is its maths with transformers' modules: labels padded to 448 (as it does) or to
128, the encoder heard once for both, logits of every position kept, torch's default AdamW. Before the clock runs, loss
and gradients of both are compared on equal weights. Peak memory is of a process of its own for each.
Limit: the products. GFLOP of a window are counted and held against the machine's measured matrix speed.

    python bench/train.py --labels runs/mini-librispeech/filtered --teacher base
"""

import argparse
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from whisperstill.atomic_io import atomic_write
from whisperstill.cli.allocator import restart_with_allocator
from whisperstill.corpus.waveform import load_window_waveform
from whisperstill.distill.data_loader import DataLoader
from whisperstill.distill.dataset import TrainingExample, build_examples
from whisperstill.distill.encoder_states import OnlineStates, StoredStates
from whisperstill.distill.feature_losses import FeatureLosses
from whisperstill.distill.process_group import ProcessGroup
from whisperstill.distill.settings import ExampleOptions, LossConfig, TargetKind
from whisperstill.distill.teacher_targets import StoredTargetReader, TeacherTargetSource
from whisperstill.distill.train_step import TrainStep
from whisperstill.distill.training_checkpoint import trainable_parameters
from whisperstill.label.filter_decisions import read_decisions
from whisperstill.label.store import LabelStore, open_labels
from whisperstill.model.checkpoints import Checkpoint, load_checkpoint, write_huggingface
from whisperstill.model.device import choose_dtype
from whisperstill.model.student_init import make_student, select_spaced_layers
from whisperstill.model.whisper import Whisper
from whisperstill.stages.estimate import cross_attention_flops, decoder_token_flops, encoder_flops, model_size
from whisperstill.text.vocabulary import Vocabulary

WEIGHTS = LossConfig(kl_weight=0.8, ce_weight=1.0, temperature=2.0)
RATE, CLIP = 1e-4, 1.0
IGNORED = -100


@dataclass(frozen=True)
class Task:
    """What everybody trains on."""

    store: LabelStore
    found: list[TrainingExample]
    teacher: Checkpoint
    student: Checkpoint
    vocabulary: Vocabulary


Step = Callable[[], float]
"""One optimiser step; gives the loss before it."""


def ours(task: Task, kind: TargetKind, from_store: bool, dtype: torch.dtype, frozen: bool = False) -> tuple[Step, Any]:
    """Our step, and the network whose gradients it leaves."""
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
    targets = StoredTargetReader(task.store, kind, WEIGHTS.temperature, needs_hidden=False)
    source = DataLoader(task.vocabulary, ExampleOptions(), states, targets)
    train_step = TrainStep(
        student, TeacherTargetSource(original, teacher), WEIGHTS, FeatureLosses(WEIGHTS), dtype, ProcessGroup()
    )
    weights = list(trainable_parameters(student).values())
    optimiser = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0, fused=True)

    def step() -> float:
        student.zero_grad(set_to_none=True)
        _, loss = train_step.accumulate_gradients([source.load(task.found, 0)])
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        optimiser.step()
        return loss

    return step, student


def reference(task: Task, pad: int, dtype: torch.dtype, folder: Path) -> tuple[Step, Any]:
    """The reference's step in transformers' modules, and the network whose gradients it leaves."""
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    networks = []
    for name, checkpoint in (("teacher", task.teacher), ("student", task.student)):
        if not (folder / name).exists():
            write_huggingface(checkpoint, folder / name)
        networks.append(WhisperForConditionalGeneration.from_pretrained(folder / name, attn_implementation="sdpa"))
    teacher, student = networks
    teacher.eval().requires_grad_(False)
    student.train()
    student.model.encoder.requires_grad_(False)
    features = WhisperFeatureExtractor.from_pretrained(folder / "student")
    waves = [load_window_waveform(one.label.window) for one in task.found]
    mel = features(waves, sampling_rate=16_000, return_tensors="pt").input_features
    decoder_ids, labels = [], []
    for one in task.found:
        start = task.vocabulary.sot_sequence(one.label.language)
        whole = (*start, *one.label.tokens, task.vocabulary.end_of_text)
        kept = [IGNORED] * (len(start) - 1) + list(whole[len(start) :])
        rest = pad - len(kept)
        decoder_ids.append([*whole[:-1], *[task.vocabulary.end_of_text] * rest])
        labels.append(kept + [IGNORED] * rest)
    inputs, targets = torch.tensor(decoder_ids), torch.tensor(labels)
    weights = [weight for weight in student.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0)
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)
    t = WEIGHTS.temperature

    def step() -> float:
        optimiser.zero_grad()
        with mixed:
            with torch.no_grad():
                heard = student.model.encoder(mel)
                theirs = teacher(encoder_outputs=heard, decoder_input_ids=inputs).logits
            logits = student(encoder_outputs=heard, decoder_input_ids=inputs).logits
            entropy = F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1), ignore_index=IGNORED)
            sharp = F.softmax(theirs / t, dim=-1)
            soft = F.log_softmax(logits / t, dim=-1)
            scored = (targets != IGNORED).unsqueeze(-1)
            apart = F.kl_div(soft, sharp, reduction="none") * scored
            divergence = apart.sum() / scored.sum() * t**2
            loss = WEIGHTS.ce_weight * entropy + WEIGHTS.kl_weight * divergence
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        optimiser.step()
        return float(loss.detach())

    return step, student


def contenders(dtypes: list[torch.dtype]) -> dict[str, Callable[[Task, Path], tuple[Step, Any]]]:
    """Everybody, by name."""
    found: dict[str, Callable[[Task, Path], tuple[Step, Any]]] = {}
    for dtype in dtypes:
        kind = "float32" if dtype == torch.float32 else "bfloat16"
        for pad in (448, 128):
            found[f"reference, labels padded to {pad}, {kind}"] = lambda task, folder, p=pad, d=dtype: reference(
                task, p, d, folder
            )
        found[f"ours, nothing from the store, {kind}"] = lambda task, _, d=dtype: ours(task, "online", False, d)
        found[f"ours, from the store, {kind}"] = lambda task, _, d=dtype: ours(task, "topk", True, d)
        found[f"ours, from the store, embedding frozen, {kind}"] = lambda task, _, d=dtype: ours(
            task, "topk", True, d, True
        )
    return found


def task_of(given: argparse.Namespace) -> Task:
    """The windows of one step."""
    labels, decisions = given.labels, None
    if (labels / "filter.json").exists():
        labels, decisions = read_decisions(labels)
    store = open_labels(labels)
    teacher = load_checkpoint(given.teacher)
    vocabulary = Vocabulary.from_size(teacher.dims.vocab_size)
    whole = [
        one for one in build_examples(store.read_labels(), decisions, vocabulary.end_of_text) if all(one.utterance_mask)
    ]
    chosen = random.Random(0).sample([one for one in whole if one.label.ended], given.batch_size)
    return Task(
        store,
        chosen,
        teacher,
        make_student(teacher, select_spaced_layers(teacher.dims.decoder_layers, given.layers)),
        vocabulary,
    )


def equal(task: Task, folder: Path) -> dict[str, float]:
    """How far losses and gradients, clipped alike, are apart in float32; relative to the largest of each tensor."""
    step, theirs = reference(task, 448, torch.float32, folder)
    their_loss = step()
    gradients = {name: weight.grad for name, weight in theirs.named_parameters() if weight.grad is not None}
    step, mine = ours(task, "online", False, torch.float32)
    my_loss = step()
    # Their gradients, read as if they were a checkpoint's weights, have our names and our fused rows.
    as_weights = {name: gradients.get(name, torch.zeros_like(weight)) for name, weight in theirs.named_parameters()}
    theirs.load_state_dict(as_weights, strict=False)
    theirs.save_pretrained(folder / "gradients")
    write_huggingface(task.student, folder / "as-read")
    for file in (folder / "as-read").iterdir():
        if not (folder / "gradients" / file.name).exists():
            (folder / "gradients" / file.name).write_bytes(file.read_bytes())
    read = load_checkpoint(str(folder / "gradients")).state
    apart = {
        name: float((weight.grad - read[name]).abs().max() / read[name].abs().max())
        for name, weight in trainable_parameters(mine).items()
        if weight.grad is not None
    }
    worst = max(apart, key=lambda name: apart[name])
    return {
        "loss": abs(my_loss - their_loss) / their_loss,
        "gradients": apart[worst],
        "tensors": len(apart),
        "control": float((mine.decoder.norm.weight.grad - 2 * read["decoder.norm.weight"]).abs().max()),
    }


def peak_memory() -> float:
    """GiB of this process so far (what getrusage tells includes its parent's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, required=True, help="labels, or a filter's output, with states")
    parser.add_argument("--teacher", default="base")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="one contender, twice, and its peak of memory")
    parser.add_argument("--output", type=Path, default=Path("bench/results/train.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    task = task_of(given)
    dtypes = [torch.float32] + [torch.bfloat16] * (choose_dtype("auto", "cpu") == torch.bfloat16)
    chosen = contenders(dtypes)
    memory: dict[str, float] = {}
    for who in () if given.only else chosen:  # first: what this process once had it keeps
        command = [sys.executable, __file__, *sys.argv[1:], "--only", who]
        memory[who] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.only:
            step, _ = chosen[given.only](task, folder)
            step()
            step()
            print(peak_memory())
            return
        apart = equal(task, folder)
        print(json.dumps(apart), flush=True)
        steps = {who: build(task, folder)[0] for who, build in chosen.items()}
        seconds: dict[str, list[float]] = {who: [] for who in steps}
        order = list(steps)
        for turn in range(given.rounds + 1):
            for who in order:
                begun = time.perf_counter()
                steps[who]()
                took = time.perf_counter() - begun
                if turn:
                    seconds[who].append(took)
                print(f"{turn} {who}: {took:.2f} s", flush=True)
            order.reverse()
        steps.clear()
    tokens = statistics.mean(len(one.label.tokens) + 4 for one in task.found)
    sizes = model_size(given.teacher)
    rows = [
        {"name": who, "seconds": round(statistics.median(took), 3), "memory_gib": round(memory[who], 2)}
        for who, took in seconds.items()
    ]
    result: dict[str, Any] = {
        "command": "bench/train.py",
        "windows": given.batch_size,
        "tokens": round(tokens, 1),
        "threads": given.threads,
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
        "equal": apart,
        "rows": rows,
    }
    if sizes:
        student = replace(sizes, decoder_layers=given.layers)
        result["gflop_per_window"] = {
            "encoder": encoder_flops(sizes) / 1e9,
            "teacher": (cross_attention_flops(sizes) + tokens * decoder_token_flops(sizes)) / 1e9,
            "student": 3 * (cross_attention_flops(student) + tokens * decoder_token_flops(student)) / 1e9,
        }
    atomic_write(given.output, json.dumps(result, indent=1) + "\n")
    print(render(result))


def render(result: dict[str, Any]) -> str:
    """The table of docs/results/training.md."""
    rows = {row["name"]: row for row in result["rows"]}
    lines = [
        "| | windows a second, of padding to 448 | of padding to 128 | peak memory, GiB |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        kind = name.rsplit(" ", 1)[1]
        ratios = (rows[f"reference, labels padded to {pad}, {kind}"]["seconds"] / row["seconds"] for pad in (448, 128))
        cells = " | ".join(f"{ratio:.1f}x" for ratio in ratios)
        lines.append(f"| {name} | {cells} | {row['memory_gib']:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    restart_with_allocator()
    main()
