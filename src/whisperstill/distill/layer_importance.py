"""Importance of the decoder layers: how much each changes its input, measured on labelled windows.

The influence of a layer is 1 - cos(input, output), averaged over tokens (Men et al. 2024, arXiv 2403.03853). A layer
with low influence can be left out. The first layer reads the embeddings and always counts as 1.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from whisperstill.distill.data_loader import DataLoader
from whisperstill.distill.dataset import TrainingExample
from whisperstill.model.decoder import LayerOutputs
from whisperstill.model.whisper import Whisper

MAX_WINDOWS = 64
"""Windows measured: some thousand tokens, enough for two digits of the mean."""
BATCH_SIZE = 8


@torch.inference_mode()
def layer_importance(teacher: Whisper, data_loader: DataLoader, examples: Sequence[TrainingExample]) -> list[float]:
    """Influence of each layer along the teacher's labels, over `MAX_WINDOWS` examples at regular intervals."""
    sampled_examples = examples[:: max(1, len(examples) // MAX_WINDOWS)][:MAX_WINDOWS]
    layer_sums, num_tokens = torch.zeros(teacher.dims.decoder_layers, dtype=torch.float64), 0
    for start in range(0, len(sampled_examples), BATCH_SIZE):
        batch = data_loader.load(sampled_examples[start : start + BATCH_SIZE], 0).to(teacher.device)
        layer_outputs = LayerOutputs()
        teacher.decoder.forward_packed(
            batch.decoder_ids, batch.lengths, batch.encoder_states.to(teacher.dtype), layer_outputs
        )
        outputs = [output[batch.loss_mask].float() for output in layer_outputs.hidden_states]
        for layer in range(1, len(outputs)):
            layer_sums[layer] += (1 - F.cosine_similarity(outputs[layer - 1], outputs[layer], dim=-1)).sum().cpu()
        layer_sums[0] += len(outputs[0])
        num_tokens += len(outputs[0])
    return (layer_sums / num_tokens).tolist()
