"""How much each decoder layer changes what it is handed, measured on windows the teacher has labelled.

The influence of a layer is 1 - cos(what it gets, what it hands on), mean over tokens (Men et al. 2024, arXiv
2403.03853): a layer that changes little can be left out. The first one gets the embeddings, which it turns into
something else altogether: it counts as 1.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from whisperstill.distill.examples import Example
from whisperstill.distill.source import BatchSource
from whisperstill.model.decoder import Inside
from whisperstill.model.whisper import Whisper

WINDOWS = 64
"""Windows looked at: some thousand tokens, of which the mean is the same to two digits whatever the windows."""
TOGETHER = 8


@torch.inference_mode()
def influence(teacher: Whisper, source: BatchSource, found: Sequence[Example]) -> list[float]:
    """Of each layer, along the teacher's own words, over up to `WINDOWS` examples spread over all of them."""
    chosen = found[:: max(1, len(found) // WINDOWS)][:WINDOWS]
    sums, tokens = torch.zeros(teacher.dims.decoder_layers, dtype=torch.float64), 0
    for at in range(0, len(chosen), TOGETHER):
        batch, inside = source.load(chosen[at : at + TOGETHER], 0).batch.to(teacher.device), Inside()
        teacher.decoder.packed(batch.decoder_ids, batch.lengths, batch.states.to(teacher.dtype), inside)
        outputs = [output[batch.scored].float() for output in inside.outputs]
        for layer in range(1, len(outputs)):
            sums[layer] += (1 - F.cosine_similarity(outputs[layer - 1], outputs[layer], dim=-1)).sum().cpu()
        sums[0] += len(outputs[0])
        tokens += len(outputs[0])
    return (sums / tokens).tolist()
