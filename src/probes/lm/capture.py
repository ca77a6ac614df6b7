"""Residual streams of texts, reduced as they pass: one forward pass, many layers, many reducers, small results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from probes.errors import ConventionError, DataError, LayerError
from probes.lm.engines import Engine, Padded, start
from probes.lm.generate import batches
from probes.lm.model import Model
from probes.lm.reducers import MeanPool, Reducer, UnitMeanPool

PaddingSide = Literal["right", "left"]


@dataclass(frozen=True)
class Passage:
    """Token ids of one text and the span of positions that counts, 0-based and unpadded."""

    token_ids: Sequence[int]
    span: range
    name: str = ""
    """What an error calls the text; its position if empty."""


def check_layers(layers: Sequence[int] | Literal["all"], available: int) -> tuple[int, ...]:
    """The layers asked for, each once. Raises LayerError for one that the model does not have."""
    if layers == "all":
        return tuple(range(available))
    chosen: tuple = tuple(layers) if isinstance(layers, Sequence) and not isinstance(layers, str) else (layers,)
    wrong = [layer for layer in chosen if type(layer) is not int or layer not in range(available)]
    if wrong or not chosen or len(set(chosen)) < len(chosen):
        raise LayerError(
            f"layers {wrong or list(chosen) or 'none'} asked for; this model has block outputs 0 … {available - 1}: give a list, "
            "each once, or 'all'. Layer i is the output of block i (0-based), hidden_states[i + 1] in transformers."
        )
    return chosen


def capture(
    model: Model,
    passages: Sequence[Passage],
    layers: Sequence[int] | Literal["all"] = "all",
    reducers: Sequence[Reducer] = (MeanPool(), UnitMeanPool()),
    batch_tokens: int = 16_384,
    padding_side: PaddingSide = "right",
    label: str = "capture",
    engine: Engine | None = None,
) -> dict[str, np.ndarray]:
    """Run texts through the trunk and reduce each layer's output over each text's span.

    Args:
        label: what the progress bar says; no bar without.
        engine: what runs the model (probes.lm.engines.start); the reference unless given.

    Returns the reducers' names → float32 (text, layer, feature), in the order of the texts and layers.
    A text that another begins with is not run again: several spans of one conversation cost one pass.
    In float32 nothing depends on the batch, neither padding side, nor order, nor budget, beyond rounding (1e-5 relative).
    In bfloat16 a mixture of experts may route a token differently in another batch: keep one budget in a comparison.
    Raises LayerError; ConventionError for token ids of another vocabulary, or an engine of another model;
    DataError for an empty span, a text over the model's limit, a value that is not finite, or a budget under 1.
    """
    chosen = check_layers(layers, len(model.blocks))
    shape = (len(passages), len(chosen), model.entry.width)
    results = {reducer.name: np.empty(shape, np.float32) for reducer in reducers}
    with tqdm(total=len(passages), desc=f"{label} ({model.address})", mininterval=1, disable=not label) as bar:
        for rows, batch in capture_batches(model, passages, chosen, reducers, batch_tokens, padding_side, engine):
            for name, values in batch.items():
                results[name][rows] = values.cpu().numpy()
            bar.update(len(rows))
    return results


def capture_batches(
    model: Model,
    passages: Sequence[Passage],
    layers: Sequence[int] | Literal["all"] = "all",
    reducers: Sequence[Reducer] = (MeanPool(), UnitMeanPool()),
    batch_tokens: int = 16_384,
    padding_side: PaddingSide = "right",
    engine: Engine | None = None,
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """What capture collects, one batch at a time and still on the device: nothing of a batch is kept here.

    Yields positions in `passages`, and the reducers' names → float32 (text, layer, feature) of those texts.
    Raises what capture raises, when the first batch is asked for; values that are not finite at their batch.
    """
    chosen = check_layers(layers, len(model.blocks))
    check_passages(passages, model)
    engine = start(engine or "transformers_hooks", model)
    texts = in_one_pass(passages)
    for group in batches([len(passages[text[0]].token_ids) for text in texts], batch_tokens):
        rows = [i for text in group for i in texts[text]]
        few = [[passages[i] for i in texts[text]] for text in group]
        batch = capture_batch(engine, few, chosen, reducers, padding_side)
        _check_finite(batch, [passages[i].name or f"#{i}" for i in rows], chosen)
        yield rows, batch


def in_one_pass(passages: Sequence[Passage]) -> list[list[int]]:
    """Positions of the passages that are read in one pass of a text: the whole text first, then what it begins with.

    Attention looks back only, so that a prompt is read in the pass of the conversation that goes on from it.
    """
    ids = [tuple(passage.token_ids) for passage in passages]
    texts: list[list[int]] = []
    for i in sorted(
        range(len(ids)), key=ids.__getitem__, reverse=True
    ):  # a text comes right before what it begins with
        if texts and ids[texts[-1][0]][: len(ids[i])] == ids[i]:
            texts[-1].append(i)
        else:
            texts.append([i])
    return sorted(texts)


def capture_batch(
    engine: Engine,
    texts: Sequence[Sequence[Passage]],
    layers: Sequence[int],
    reducers: Sequence[Reducer],
    side: PaddingSide,
) -> dict[str, Tensor]:
    """One batch, padded on a side → the reducers' names → (passage, layer, feature), still on the device.

    Each text is given as its passages, the first of which is the whole of it.
    """
    pad = engine.model.tokenizer.pad_token_id
    assert isinstance(pad, int)
    passages = [Passage(text[0].token_ids, passage.span) for text in texts for passage in text]
    row = torch.repeat_interleave(torch.tensor([len(text) for text in texts]))
    ids, attention, span = pad_batch(passages, pad, side)
    first = torch.searchsorted(row, torch.arange(len(texts)))
    return engine.reduce((ids[first], attention[first], span), layers, reducers, row)


def pad_batch(passages: Sequence[Passage], pad: int, side: PaddingSide) -> Padded:
    """ids, attention and span mask, each (text, position). Positions are counted in each text, never by column."""
    width = max(len(passage.token_ids) for passage in passages)
    ids = torch.full((len(passages), width), pad)
    attention, span = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for row, passage in enumerate(passages):
        start = 0 if side == "right" else width - len(passage.token_ids)
        ids[row, start : start + len(passage.token_ids)] = torch.tensor(passage.token_ids)
        attention[row, start : start + len(passage.token_ids)] = 1
        span[row, start + passage.span.start : start + passage.span.stop] = True
    return ids, attention, span


def _named(passages: Sequence[Passage], positions: Sequence[int]) -> str:
    shown = ", ".join(passages[i].name or f"#{i}" for i in positions[:5])
    return f"{len(positions)} texts ({shown}{', …' if len(positions) > 5 else ''})"


def check_passages(passages: Sequence[Passage], model: Model, first: int = 0) -> None:
    """Raises what capture raises of texts; `first` is the first position that a span may begin at."""
    if not passages:
        raise DataError("no text to capture.")
    long = [i for i, p in enumerate(passages) if len(p.token_ids) > model.max_tokens]
    if long:
        raise DataError(
            f"{_named(passages, long)} are longer than the {model.max_tokens} tokens of {model.name}; none is cut silently."
        )
    vocabulary = model.network.config.get_text_config().vocab_size
    foreign = [i for i, p in enumerate(passages) if not all(0 <= token < vocabulary for token in p.token_ids)]
    if foreign:
        raise ConventionError(
            f"{_named(passages, foreign)} have token ids outside the {vocabulary} of {model.name}: another tokenizer made them. "
            "Write them again with this model."
        )
    empty = [i for i, p in enumerate(passages) if not first <= p.span.start < p.span.stop <= len(p.token_ids)]
    if empty:
        raise DataError(
            f"{_named(passages, empty)} have no token in their span, or one before position {first}; drop them, or lower the "
            "start token."
        )


def _check_finite(batch: dict[str, Tensor], names: Sequence[str], layers: Sequence[int]) -> None:
    for name, values in batch.items():
        bad = ~values.isfinite().all(dim=2)
        if bad.any():
            text, layer = bad.nonzero()[0].tolist()
            raise DataError(
                f"{int(bad.any(dim=1).sum())} texts of one batch have activations that are not finite ({name}; first: text "
                f"{names[text]}, layer {layers[layer]}). Use bfloat16 or float32: float16 overflows in residual streams."
            )
