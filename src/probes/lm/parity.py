"""What an engine is held against: transformers' own hidden states of eight texts, one at a time and without padding.

Errors are relative: ‖ours − theirs‖ / ‖theirs‖ of a pooled vector, the largest over eight texts, all layers and three
reducers. In float32 the bound is what capture promises, 1e-5. In less precision it is four times what transformers itself
moves by when a text goes in a batch instead of alone, at least the step of the dtype and at most CEILING.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from probes.errors import ConventionError
from probes.lm.capture import PaddingSide, Passage, capture, pad_batch
from probes.lm.engines import Engine
from probes.lm.model import Model
from probes.lm.reducers import LastToken, MeanPool, UnitMeanPool

Pooled = dict[str, np.ndarray]
"""Reducer → (text, layer, feature)."""

REDUCERS = (MeanPool(), UnitMeanPool(), LastToken())
ROUNDING = 1e-5
CEILING = 0.1
"""A column, layer or text taken for another moves a pooled vector by more than this; a bound above it would see nothing."""

TEXTS = (
    "The bus stops here every ten minutes.",
    "She put the kettle on, cut two slices of bread, and looked for the jar that her neighbour had brought back.",
    "Two carpenters measured the window a second time. The frame was a finger too wide, so one of them went to the van for "
    "the plane while the other wrote the numbers on the wall with a pencil.",
    "Rain fell until noon.",
    "In the library a man asked where the maps were kept. They were on the lower floor, behind the stairs, in long flat "
    "drawers with brass handles. He thanked the clerk, went down, and opened the third drawer from the top, which held the "
    "coast as it was drawn a hundred years ago.",
    "The gardener planted beans along the south fence and onions beside them, because the soil there drains well.",
    "Every Thursday the market fills the square: cheese, boots, clocks, bread. By two o'clock the stalls are folded and a "
    "small machine sweeps the stones.",
    "Take the second road on the left, pass the mill, and follow the river until you see a blue gate; the house is the one "
    "with the low roof and the three pear trees in front of it.",
)


@dataclass(frozen=True)
class Finding:
    """What a check measured."""

    figure: float
    what: str
    """What the figure is, and why the bound."""
    bound: float | None = None
    """None: the figure is reported and held to nothing."""


class DoesNotApplyError(Exception):
    """There is nothing to check here; the message says why."""


@dataclass(frozen=True)
class Case:
    """An engine with eight texts and what transformers gives for them, one at a time and without padding."""

    engine: Engine
    model: Model
    """The reference: the engine's own, or the same with its weights where that has none."""
    passages: list[Passage]
    truth: Pooled
    bound: float
    why: str

    @cached_property
    def together(self) -> Pooled:
        """What the engine gives, all texts in one batch."""
        return self.read()

    @cached_property
    def alone(self) -> Pooled:
        """What the engine gives, each text in a batch of its own."""
        return self.read(together=False)

    @cached_property
    def leftwards(self) -> Pooled:
        """The same as together, padded on the left."""
        return self.read(side="left")

    @cached_property
    def batched_truth(self) -> Pooled:
        """What transformers gives, all texts in one batch: one pass where `truth` takes eight."""
        return batched_truth_of(self.model, self.passages)

    @cached_property
    def routes(self) -> list[Tensor]:
        """What routes_of gives for each text alone."""
        return routes_of(self.model, self.passages)

    @cached_property
    def batched_routes(self) -> list[Tensor]:
        """The same in one batch."""
        return routes_of(self.model, self.passages, together=True)

    def held(self, figure: float, what: str) -> Finding:
        """A figure held to the case's bound."""
        return Finding(figure, f"{what}; {self.why}", self.bound)

    def read(self, passages: Sequence[Passage] = (), together: bool = True, side: PaddingSide = "right") -> Pooled:
        """What the engine gives, all texts in one batch or each alone."""
        texts = passages or self.passages
        budget = len(texts) * max(len(text.token_ids) for text in texts) if together else 1
        return capture(self.engine.model, texts, "all", REDUCERS, budget, side, label="", engine=self.engine)


def case_of(engine: Engine, reference: Model | None = None) -> Case:
    """The eight texts by transformers, and how far an engine may be from that. Raises ConventionError for other weights."""
    model = reference or engine.model
    if (model.weights, model.network.dtype) != (engine.model.weights, engine.model.network.dtype):
        raise ConventionError(f"{engine.name} runs {engine.model}, and {model} is to vouch for it: load the same one.")
    passages = passages_of(model)
    truth = truth_of(model, passages)
    if model.network.dtype == torch.float32:
        return Case(engine, model, passages, truth, ROUNDING, "bound: what capture promises in float32")
    step, noise = torch.finfo(model.network.dtype).eps, apart(batched_truth_of(model, passages), truth)
    why = f"bound: 4 × transformers' own drift in a batch, {noise:.1g}"
    return Case(engine, model, passages, truth, min(max(step, 4 * noise), CEILING), why)


def passages_of(model: Model) -> list[Passage]:
    """The eight texts in a model's tokens."""
    ids = [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    return [passage_of(model, tokens) for tokens in ids]


def passage_of(model: Model, ids: list[int]) -> Passage:
    """Pooled from the fourth token to the last but one, so that a column more or less is seen."""
    ids = ids[: model.max_tokens]
    return Passage(ids, range(3, len(ids) - 1))


@torch.inference_mode()
def _states(model: Model, ids: Tensor, attention: Tensor) -> Tensor:
    """hidden_states[i + 1] of ids (text, position) for each layer i, the last one as the final norm takes it.

    float32 on the CPU: (text, layer, position, feature).
    """
    taken: list[Tensor] = []
    handle = model.trunk.get_submodule("norm").register_forward_pre_hook(lambda _module, args: taken.append(args[0]))
    try:
        device = model.network.device
        out = model.trunk(
            input_ids=ids.to(device), attention_mask=attention.to(device), output_hidden_states=True, use_cache=False
        )
    finally:
        handle.remove()
    return torch.stack([hidden.float().cpu() for hidden in (*out.hidden_states[1:-1], taken[0])], dim=1)


def truth_of(model: Model, passages: Sequence[Passage]) -> Pooled:
    """Pooled by the definition, in float64."""
    alone = [torch.tensor([list(passage.token_ids)]) for passage in passages]
    return _stack(
        [_pooled(_states(model, ids, torch.ones_like(ids))[0], p.span) for ids, p in zip(alone, passages, strict=True)]
    )


def batched_truth_of(model: Model, passages: Sequence[Passage]) -> Pooled:
    """The same of texts that go in one batch, padded on the right."""
    ids, attention, _ = pad_batch(passages, pad_token(model), "right")
    states = _states(model, ids, attention)
    return _stack([_pooled(one, passage.span) for one, passage in zip(states, passages, strict=True)])


def _pooled(states: Tensor, span: range) -> Pooled:
    """(layer, position, feature) → each reducer's (layer, feature)."""
    hidden = states[:, span.start : span.stop].double()
    unit = hidden / hidden.norm(dim=-1, keepdim=True)
    return {"mean": hidden.mean(1).numpy(), "unit_mean": unit.mean(1).numpy(), "last": hidden[:, -1].numpy()}


def _stack(texts: Sequence[Pooled]) -> Pooled:
    return {name: np.stack([text[name] for text in texts]) for name in texts[0]}


@torch.inference_mode()
def routes_of(model: Model, passages: Sequence[Passage], together: bool = False) -> list[Tensor]:
    """Of each text the experts (layer, position, expert) that its tokens go to, in ascending order.

    Raises DoesNotApplyError for a model without experts.
    """
    count = getattr(model.network.config.get_text_config(), "num_experts_per_tok", None)
    if not count:
        raise DoesNotApplyError(f"{type(model.network).__name__} is no mixture of experts")
    groups = [list(passages)] if together else [[passage] for passage in passages]
    return [routes for group in groups for routes in _routed(model, group, count)]


def _routed(model: Model, passages: Sequence[Passage], count: int) -> list[Tensor]:
    device = model.network.device
    ids, attention, _ = (tensor.to(device) for tensor in pad_batch(passages, pad_token(model), "right"))
    out = model.trunk(input_ids=ids, attention_mask=attention, output_router_logits=True, use_cache=False)
    chosen = torch.stack([logits.topk(count, dim=-1).indices.cpu() for logits in out.router_logits])
    by_text = chosen.sort(dim=-1).values.unflatten(1, ids.shape).unbind(dim=1)
    return [routes[:, : len(passage.token_ids)] for routes, passage in zip(by_text, passages, strict=True)]


def pad_token(model: Model) -> int:
    """Id of what batches are padded with."""
    pad = model.tokenizer.pad_token_id
    assert isinstance(pad, int)
    return pad


def apart(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], layers: slice = slice(None)) -> float:
    """Largest relative error over reducers, texts and layers."""
    errors = []
    for name, values in theirs.items():
        differences = np.linalg.norm(ours[name][:, layers] - values[:, layers], axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):  # an engine may give zeros
            errors.append(differences / np.linalg.norm(values[:, layers], axis=-1))
    return float(np.max(errors))


def _least_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    lengths = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    return float(((ours * theirs).sum(-1) / lengths).min())


def in_words(ours: Pooled, theirs: Pooled) -> str:
    """Cosines of the means, and of what is left of them without the mean of the texts: that is what directions are made of."""
    means, differences = cosines(ours, theirs)
    return f"least cosine {means:.6f}, of differences between texts {differences:.4f}"


def cosines(ours: Pooled, theirs: Pooled) -> tuple[float, float]:
    """The least cosine of two engines' means, and of what is left of them without the mean of the texts."""
    centred = [value["mean"] - value["mean"].mean(0) for value in (ours, theirs)]
    return _least_cosine(ours["mean"], theirs["mean"]), _least_cosine(*centred)
