"""Forward passes over padded batches that capture is held against: the bare trunk, and what transformers keeps."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from probes.lm.capture import Passage, pad_batch
from probes.lm.model import Model


class Batch(NamedTuple):
    """Some texts on the model's device."""

    rows: list[int]
    """Their positions among all texts."""
    ids: Tensor
    """(text, position)"""
    attention: Tensor
    """(text, position): 1 for a token, 0 for padding."""
    span: Tensor
    """(text, position): whether it is pooled."""


def padded(model: Model, passages: Sequence[Passage], groups: Sequence[list[int]]) -> list[Batch]:
    """A batch of each group of positions."""
    pad, device = model.tokenizer.pad_token_id, model.network.device
    assert isinstance(pad, int)
    made = [(rows, pad_batch([passages[i] for i in rows], pad, "right")) for rows in groups]
    return [Batch(rows, *(tensor.to(device) for tensor in tensors)) for rows, tensors in made]


@torch.inference_mode()
def bare_trunk(model: Model, made: Sequence[Batch]) -> None:
    """What no capture can do without: the trunk on every batch."""
    for batch in made:
        model.trunk(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)


@torch.inference_mode()
def hidden_states(model: Model, made: Sequence[Batch]) -> np.ndarray:
    """Means (text, layer, feature) of the hidden states that the full model gives; its last one is after the final norm."""
    texts = sum(len(batch.rows) for batch in made)
    means = np.empty((texts, len(model.blocks), model.entry.width), np.float32)
    for batch in made:
        means[batch.rows] = _pooled_states(model, batch)
    return means


def _pooled_states(model: Model, batch: Batch) -> np.ndarray:
    out = model.network(input_ids=batch.ids, attention_mask=batch.attention, output_hidden_states=True, use_cache=False)
    weights = batch.span.float() / batch.span.sum(dim=1, keepdim=True)
    pooled = [torch.einsum("tpf,tp->tf", hidden.float(), weights) for hidden in out.hidden_states[1:]]
    return torch.stack(pooled, dim=1).cpu().numpy()
