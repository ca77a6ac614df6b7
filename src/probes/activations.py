"""Residual streams pooled over each text, as labelled arrays (sample, layer, feature).

A dataset of activations has the variables `mean` (mean of h over the text's span) and, for replies, `unit_mean` (mean of
h/‖h‖), float32, with everything known of a text as coordinates of `sample`, and model, convention and span as attributes.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

from probes import store
from probes.conventions import check_activations
from probes.errors import ConventionError, DataError, FileFormatError, LayerError, UnknownNameError
from probes.moments import ADDED_UP, HALVES, Moments, check_folds, empty_moments, merge, pack
from probes.readings import LAYER_CONVENTION

if TYPE_CHECKING:
    from probes.lm.capture import Passage
    from probes.lm.engines import Engine, EngineName
    from probes.lm.model import Model
    from probes.lm.reducers import MomentSums
    from probes.parts import Parts
    from probes.replies import Replies, Span
    from probes.stories import Stories, Story

AT_A_TIME = 2048
"""Stories whose token ids are in memory at once: enough to batch by length without waste."""
UNIT = 16_384
"""Stories of one unit of a resumable run: minutes of a large model, against the gigabyte that a unit's moments take."""
VECTORS = 1024
"""Texts of one unit that are kept as vectors, at the most: 0.4 GB at 48 layers of 2048."""


def capture(
    model: "Model",
    texts: "Stories | Replies",
    layers: Sequence[int] | Literal["all"] = "all",
    start_token: int = 50,
    batch_tokens: int = 16_384,
    spans: "Sequence[Span]" = ("answer",),
    engine: "EngineName | Engine" = "transformers_hooks",
) -> xr.Dataset:
    """Run stories (as raw text) or replies (in their conversations) through a model and pool every layer.

    Args:
        start_token: stories are pooled from this 0-based token on (Sofroniew et al. 2026: from the 50th token on);
            shorter ones are dropped and counted in the attribute `dropped_short`.
        spans: what replies are pooled over: their answer, the last token of their prompt, or both in one pass.
        engine: what runs the model, by its name or started (engines.start); activations of two engines are never compared.
            Where the doctor has examined it (doctor.examined), the attribute `doctor` says what was found.

    Returns `mean` (sample, layer, feature), and `unit_mean` too for replies, where a reply is a sample for each span; one
    without an answer is NaN.
    Raises what probes.lm.capture and engines.start raise.
    """
    from probes.lm.engines import start
    from probes.replies import Replies

    if isinstance(texts, Replies):
        _check_own(model, texts)
        return _capture_replies(start(engine, model), texts, layers, batch_tokens, spans)
    return _capture_stories(start(engine, model), texts, layers, start_token, batch_tokens)


def _capture_stories(engine: "Engine", stories: "Stories", layers, start_token: int, batch_tokens: int) -> xr.Dataset:
    from probes.lm.capture import capture, check_layers
    from probes.lm.reducers import MeanPool

    model = engine.model
    chosen = check_layers(layers, len(model.blocks))
    passages, labels, short = story_passages(model, stories, start_token)
    arrays = capture(model, passages, chosen, [MeanPool()], batch_tokens, label="capture stories", engine=engine)
    about = {"start_token": start_token, "dropped_short": short, **describe(model, engine)}
    return label(arrays, labels, chosen, about)


def capture_in_units(
    model: "Model",
    stories: "Stories",
    parts: "Parts",
    layers: Sequence[int] | Literal["all"] = "all",
    start_token: int = 50,
    engine: "EngineName | Engine" = "transformers_hooks",
) -> xr.Dataset:
    """What capture gives of stories, for a run that goes on after a kill, or in shards. Raises what capture raises."""
    from probes.parts import own, units
    from probes.stories import Stories

    few = -(-len(stories) // VECTORS)  # units of one size: a short last one might have no text that is long enough
    kept = []
    for number, unit in own(units(stories, -(-len(stories) // few)), parts):
        texts = Stories(unit, stories.model)
        make = partial(capture, model, texts, layers, start_token, engine=engine)
        kept.append(parts.vectors(f"vectors-{number:06d}", make))
    parts.end_of_share()
    return join(kept)


def join(units: Sequence[xr.Dataset]) -> xr.Dataset:
    """Activations of several units one after the other. Raises ConventionError where they differ in more than short stories."""
    about = [{name: value for name, value in unit.attrs.items() if name != ADDED_UP} for unit in units]
    different = sorted({name for one in about for name in {*one, *about[0]} if one.get(name) != about[0].get(name)})
    if different or any(unit["layer"].values.tolist() != units[0]["layer"].values.tolist() for unit in units):
        raise ConventionError(
            f"units of activations that differ in {', '.join(different) or 'layers'} are none of one run. Capture them again."
        )
    whole = xr.concat(units, "sample", data_vars="all", coords="different", compat="equals", join="exact")
    whole.attrs = units[0].attrs | {ADDED_UP: sum(unit.attrs[ADDED_UP] for unit in units)}
    return whole


def capture_moments(
    model: "Model",
    stories: "Stories",
    folds: Mapping[str, int],
    layers: Sequence[int] | Literal["all"] = "all",
    start_token: int = 50,
    second_moment: bool = True,
    batch_tokens: int = 16_384,
    parts: "Parts | None" = None,
    engine: "EngineName | Engine" = "transformers_hooks",
) -> Moments:
    """Run stories through a model and keep what fits probes, not the vectors: memory does not grow with their number.

    Args:
        folds: topic → fold, of topic_folds; the same for every shard, so that the shards' moments merge.
        layers, start_token, engine: as in capture.
        second_moment: keep the scatter too. It adds 2 · layers · width² operations a story, 0.03 % of what a 30B model
            with 3B active parameters takes for 200 tokens; for 48 layers of 2048 also 3.2 GB on the device while it runs
            and 0.81 GB in the result, where means alone of 171 emotions in 8 folds take 1.1 GB and 0.54 GB. Another pass would
            cost hours: it is on.
        parts: where finished units are kept, for a run that goes on after a kill.

    Raises what capture raises, and DataError for a topic without a fold. Neutral dialogues are few: take capture for them.
    """
    from probes.lm.capture import check_layers
    from probes.lm.engines import start
    from probes.parts import own, units

    check_folds(folds, (story.topic for story in stories))
    chosen = check_layers(layers, len(model.blocks))
    runs = start(engine, model)
    about = {"start_token": start_token, **describe(model, runs)}
    total = empty_moments(chosen, model.entry.width, folds, {**about, "dropped_short": 0}, second_moment)
    work, done = own(units(stories, UNIT), parts), 0
    with tqdm(
        total=sum(len(unit) for _, unit in work), desc=f"capture moments ({model.address})", mininterval=1
    ) as bar:
        for number, unit in work:
            make = partial(_unit_moments, runs, unit, total, batch_tokens, bar)
            part = parts.moments(f"moments-{number:06d}", make) if parts else make()
            if not parts or parts.shard.is_whole:
                total = merge(total, part)
            done += len(unit)
            bar.update(done - bar.n)  # a unit that was read back counts too
    if parts:
        parts.end_of_share()
    if not total.stories:
        raise _too_short(len(stories), start_token)
    return total


def _unit_moments(engine: "Engine", stories: "Sequence[Story]", like: Moments, batch_tokens: int, bar: tqdm) -> Moments:
    """Moments of some stories, in the layers, folds and halves of others, whose sums they do not touch."""
    from probes.parts import units

    model = engine.model
    emotions, count = sorted({story.emotion for story in stories}), like.counts.shape[1]
    cells = {(name, topic): i * count + fold for i, name in enumerate(emotions) for topic, fold in like.folds.items()}
    sums, short = _cell_sums(engine, len(emotions), count, len(like.layers), bool(like.scatter)), 0
    for few in units(stories, AT_A_TIME):
        short += _add_stories(sums, cells, engine, few, like.layers, like.about["start_token"], batch_tokens)
        bar.update(len(few))
    about = {**like.about, "dropped_short": short}
    if sums.centre is None:
        return empty_moments(like.layers, model.entry.width, like.folds, about, bool(like.scatter))
    return _moments(sums, emotions, like.folds, like.layers, about)


def _cell_sums(engine: "Engine", emotions: int, folds: int, layers: int, second_moment: bool) -> "MomentSums":
    """A group a cell, emotion by emotion; a block a half."""
    from probes.lm.reducers import MomentSums

    halves = [fold % 2 for _ in range(emotions) for fold in range(folds)]
    shape = (layers, engine.model.entry.width)
    return MomentSums(halves, HALVES if second_moment else (), shape, engine.device)


def _add_stories(
    sums, cells, engine: "Engine", stories: "Sequence[Story]", layers, start_token: int, batch_tokens: int
) -> int:
    """Add some stories to the sums of their cells, emotion and topic → group; how many were too short."""
    from probes.lm.capture import capture_batches
    from probes.lm.reducers import MeanPool

    model = engine.model
    passages, labels, short = _passages(model, stories, start_token)
    if not passages:
        return short
    groups = np.array([cells[cell] for cell in zip(labels["emotion"], labels["topic"], strict=True)])
    for rows, pooled in capture_batches(model, passages, layers, [MeanPool()], batch_tokens, engine=engine):
        sums.add(pooled["mean"], groups[rows])
    return short


def _moments(
    sums: "MomentSums", emotions: Sequence[str], folds, layers: Sequence[int], about: dict[str, Any]
) -> Moments:
    """The sums off the device."""
    assert sums.centre is not None
    counts = sums.counts.reshape(len(emotions), -1)
    offsets = sums.offsets.float().cpu().numpy().reshape(*counts.shape, *sums.centre.shape)
    scatter = {half: pack(sums.scatter(half, i) for i in range(len(layers))) for half in sums.products}
    centre = sums.centre.double().cpu().numpy()
    return Moments(tuple(emotions), tuple(layers), dict(folds), counts, centre, offsets, scatter, about)


def _capture_replies(
    engine: "Engine", replies: "Replies", layers, batch_tokens: int, spans: "Sequence[Span]"
) -> xr.Dataset:
    passages, kept, labels = replies.passages(spans)
    return capture_passages(engine, passages, kept, labels, layers, batch_tokens, "capture replies")


def capture_passages(
    engine: "Engine",
    passages: "Sequence[Passage]",
    kept: Sequence[int],
    labels: pd.DataFrame,
    layers: Sequence[int] | Literal["all"],
    batch_tokens: int,
    title: str,
) -> xr.Dataset:
    """Pool passages over their spans: `mean` and `unit_mean`, a sample a row of `labels`.

    Args:
        kept: which row each passage is; a row without a passage is NaN.
        title: what the progress bar says.
    """
    from probes.lm.capture import capture, check_layers

    chosen = check_layers(layers, len(engine.model.blocks))
    captured = capture(engine.model, passages, chosen, batch_tokens=batch_tokens, label=title, engine=engine)
    arrays = {name: np.full((len(labels), *values.shape[1:]), np.nan, np.float32) for name, values in captured.items()}
    for name, values in captured.items():
        arrays[name][kept] = values
    return label(arrays, labels, chosen, describe(engine.model, engine))


def _check_own(model: "Model", replies: "Replies") -> None:
    """Readings are labelled with the checkpoint that the replies name: its very weights must be the ones that read them."""
    named = {(f"{reply.model}/{reply.checkpoint}", reply.weights) for reply in replies}
    if named != {(model.address, model.weights)}:
        who = ", ".join(sorted(f"{address} (weights {weights[:12]})" for address, weights in named))
        raise ConventionError(
            f"replies of {who} given to {model.address} (weights {model.weights[:12]}). Load that checkpoint to read them, "
            "write the replies again after training, or put a fixed text through this one with force_replies."
        )


def story_passages(model: "Model", stories: "Stories", start_token: int) -> "tuple[list[Passage], pd.DataFrame, int]":
    """Stories as passages from `start_token` on, their labels, and how many were too short. Raises DataError for none left."""
    passages, labels, short = _passages(model, stories, start_token)
    if not passages:
        raise _too_short(len(stories), start_token)
    return passages, labels, short


def _too_short(stories: int, start_token: int) -> DataError:
    return DataError(f"none of {stories} stories has more than {start_token} tokens; lower the start token.")


def _passages(
    model: "Model", stories: "Sequence[Story]", start_token: int
) -> "tuple[list[Passage], pd.DataFrame, int]":
    """What story_passages gives, of stories that may all be too short."""
    from probes.lm.capture import Passage

    if isinstance(stories, str) or not all(hasattr(story, "text") for story in stories):
        raise DataError(
            "capture takes Stories or Replies, not bare texts: give each one a sample name, emotion and topic."
        )
    empty = [story.sample for story in stories if not story.text.strip()]
    if empty or not len(stories):
        raise DataError(
            f"{len(stories)} stories, {len(empty)} of them empty ({', '.join(empty[:5]) or 'none'}): filter them first."
        )
    ids = [model.tokenizer(story.text, add_special_tokens=False)["input_ids"] for story in stories]
    kept = [i for i, tokens in enumerate(ids) if len(tokens) > start_token]
    passages = [Passage(ids[i], range(start_token, len(ids[i])), stories[i].sample) for i in kept]
    rows = [
        {"sample": s.sample, "emotion": s.emotion, "topic": s.topic, "text": s.text} for s in (stories[i] for i in kept)
    ]
    labels = pd.DataFrame(rows).assign(n_tokens=[len(passage.span) for passage in passages])
    return passages, labels, len(ids) - len(kept)


def describe(model: "Model", engine: "Engine | None" = None) -> dict[str, Any]:
    """What must travel with every number read from a model by an engine, the reference unless given."""
    about = {
        "model": model.name, "checkpoint": model.checkpoint.name, "revision": model.revision, "base_sha": model.base_sha,
        "weights": model.weights,
        "tokenizer_sha": model.tokenizer_sha, "template_sha": model.template_sha, "dtype": str(model.network.dtype),
        "evidence": model.entry.evidence, "engine": engine.name if engine else "transformers_hooks",
        "layer_convention": LAYER_CONVENTION,
        "model_layers": model.entry.layers,
    }  # fmt: skip
    return {**about, **engine.examined} if engine else about


def label(
    arrays: dict[str, np.ndarray], labels: pd.DataFrame, layers: Sequence[int], about: dict[str, Any]
) -> xr.Dataset:
    """Arrays (sample, layer, feature) with the labels of their samples and where they come from."""
    variables = {name: (("sample", "layer", "feature"), values) for name, values in arrays.items()}
    coords = {name: ("sample", column.to_numpy()) for name, column in labels.items()}
    return xr.Dataset(variables, {**coords, "layer": list(layers)}, attrs=about)


def select_layers(activations: xr.Dataset, layers: Sequence[int]) -> xr.Dataset:
    """Some layers of the activations. Raises LayerError naming those that were not captured."""
    there = activations["layer"].values.tolist()
    lacking = [layer for layer in layers if layer not in there]
    if lacking or not len(layers):
        raise LayerError(
            f"layers {lacking} were not captured; there are {there}. Give one or more of these, or capture again."
        )
    return activations.sel(layer=list(layers))


def split(activations: xr.Dataset, by: str, test: float, seed: int) -> tuple[xr.Dataset, xr.Dataset]:
    """Train and test parts that share no value of the coordinate `by`, so that nothing of a topic is in both.

    Args:
        test: share of the values of `by` that go to the test part, at least one and not all.

    Raises UnknownNameError for a coordinate that is not there, DataError when it has fewer than two values.
    """
    labels = [str(name) for name, coord in activations.coords.items() if coord.dims == ("sample",)]
    if by not in labels:
        raise UnknownNameError("coordinate", by, labels)
    values = np.unique(activations[by].values)
    if len(values) < 2 or not 0 < test < 1 or seed < 0:
        raise DataError(
            f"cannot split by {by}: {len(values)} value(s), test share {test}, seed {seed}; need two values, a share in (0, 1) "
            "and a seed from 0 on."
        )
    count = min(max(1, round(test * len(values))), len(values) - 1)
    held_out = np.random.default_rng(seed).permutation(values)[:count]
    mask = np.isin(activations[by].values, held_out)
    return activations.isel(sample=~mask), activations.isel(sample=mask)


LABELS = "labels"
"""Name of the array that holds the samples' labels as JSON bytes: a header could not hold the texts of a large run."""


def save_activations(path: Path | str, activations: xr.Dataset) -> Path:
    """Write a dataset of activations as one safetensors file. Raises what check_activations raises."""
    check_activations(activations)
    labels = {name: coord.values.tolist() for name, coord in activations.coords.items() if coord.dims == ("sample",)}
    encoded = np.frombuffer(json.dumps(labels, sort_keys=True, ensure_ascii=False).encode(), np.uint8)
    arrays = {str(name): array.values for name, array in activations.items()}
    metadata = {"kind": "activations", "layers": activations["layer"].values.tolist(), "about": activations.attrs}
    return store.write_arrays(path, {**arrays, LABELS: encoded}, metadata)


def load_activations(path: Path | str) -> xr.Dataset:
    """Read what save_activations wrote. Raises FileFormatError for another kind of file, or one with parts missing."""
    arrays, metadata = store.read_arrays(path)
    if metadata.get("kind") != "activations":
        raise FileFormatError(f"{path} holds {metadata.get('kind')!r}, not activations.")
    try:
        labels = pd.DataFrame(json.loads(arrays.pop(LABELS).tobytes()))
        return check_activations(label(arrays, labels, metadata["layers"], metadata["about"]))
    except (LookupError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} does not fit its own card: {str(error).rstrip('.')}. Capture again.") from error
