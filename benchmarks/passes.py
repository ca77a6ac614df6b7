"""Forward passes over padded batches that capture is held against: the bare trunk, and what libraries keep of them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from probes.lm.capture import Passage, pad_batch
from probes.lm.engines.nnsight import NNsight
from probes.lm.engines.transformer_lens import TransformerLens
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


def means_of(made: Sequence[Batch], states: Callable[[Batch], Sequence[Tensor]]) -> np.ndarray:
    """Means (text, layer, feature) over the spans of what `states` keeps of a batch: (text, position, feature) a layer."""
    with torch.inference_mode():
        pooled = {
            row: vectors
            for batch in made
            for row, vectors in zip(batch.rows, _pooled(states(batch), batch), strict=True)
        }
    return np.stack([pooled[row] for row in range(len(pooled))])


def _pooled(states: Sequence[Tensor], batch: Batch) -> np.ndarray:
    weights = batch.span.float() / batch.span.sum(dim=1, keepdim=True)
    pooled = [torch.einsum("tpf,tp->tf", hidden.float(), weights) for hidden in states]
    return torch.stack(pooled, dim=1).cpu().numpy()


def hidden_states(model: Model, batch: Batch) -> Sequence[Tensor]:
    """What the full model gives of every layer; the last one is after the final norm."""
    out = model.network(input_ids=batch.ids, attention_mask=batch.attention, output_hidden_states=True, use_cache=False)
    return out.hidden_states[1:]


def lens_cache(lens: TransformerLens, layers: Sequence[int], batch: Batch) -> Sequence[Tensor]:
    """What `run_with_cache` of TransformerLens keeps where it is asked for these layers only; the pass ends after the last."""
    names = [f"blocks.{layer}.hook_resid_post" for layer in layers]
    _, cache = lens.bridge.run_with_cache(
        batch.ids, attention_mask=batch.attention, names_filter=names, return_type=None, stop_at_layer=max(layers) + 1
    )
    return [cache[name] for name in names]


def whole_trace(engine: NNsight, layers: Sequence[int], batch: Batch) -> Sequence[Tensor]:
    """What a trace of nnsight keeps of these layers; the pass goes on to its end."""
    with engine.traced.trace({"input_ids": batch.ids, "attention_mask": batch.attention}, use_cache=False):
        kept = [engine.blocks[layer].output for layer in layers].save()  # pyright: ignore[reportAttributeAccessIssue]
    return kept


def stopped_trace(engine: NNsight, layers: Sequence[int], batch: Batch) -> Sequence[Tensor]:
    """The same, stopped after the last of the layers."""
    with engine.traced.trace({"input_ids": batch.ids, "attention_mask": batch.attention}, use_cache=False) as tracer:
        kept = [engine.blocks[layer].output for layer in layers].save()  # pyright: ignore[reportAttributeAccessIssue]
        tracer.stop()
    return kept
