"""The checks of the doctor: each is a fault that capture code was published with."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import packages_distributions, version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from probes.activations import describe
from probes.doctor import Line, Verdict
from probes.lm.capture import PaddingSide, Passage, capture, pad_batch
from probes.lm.chat import CLOSE, OPEN, render, token_spans
from probes.lm.checkpoints import Checkpoint
from probes.lm.engines import Engine
from probes.lm.model import Model, load
from probes.lm.parity import (
    REDUCERS,
    Case,
    DoesNotApplyError,
    Finding,
    Pooled,
    apart,
    batched_truth_of,
    case_of,
    in_words,
    pad_token,
    passage_of,
    passages_of,
    truth_of,
)
from probes.lm.precision import dtypes, flips_between_engines, flips_in_batches, flips_in_dtypes
from probes.prompts import user_turn

LONG, PREFIX = 512, 40
"""Tokens of a text that is to need several chunks where the engine names no length, and of a beginning that texts share."""

QUESTION, THOUGHTS, ANSWER = "Where are the maps?", "They asked for the maps.", "On the lower floor, behind the stairs."


def verdict(engine: Engine, attached: Pooled | None = None, reference: Model | None = None) -> Verdict:
    """Every check of an engine.

    Args:
        attached: what attached_states gave, for a checkpoint with an adapter.
        reference: the model with its weights, where the engine's has none.

    Raises ConventionError for a reference of other weights.
    """
    case = case_of(engine, reference)
    checks = {**CHECKS, "adapter merged against attached": lambda case: _adapter(case, attached)}
    about = {**about_engine(engine), "device": ", ".join(case.model.devices)}
    return Verdict(about, tuple(line_of(name, check, case) for name, check in checks.items()))


def about_engine(engine: Engine) -> dict[str, Any]:
    """What a verdict on an engine is about: the model, and the libraries that compute."""
    names = ["torch", "transformers"]
    if engine.name != "transformers_hooks":
        names += packages_distributions().get(engine.name, [])  # a build of vLLM for CPUs goes by another name
    return {**describe(engine.model, engine), "versions": {name: version(name) for name in dict.fromkeys(names)}}


def attached_states(checkpoint: Checkpoint, dtype: torch.dtype | None, device: str | None) -> Pooled:
    """What transformers gives for the eight texts while the adapter is attached and not merged; loads a base of its own."""
    from peft import PeftModel

    model = load(Checkpoint(checkpoint.model, "original"), None, dtype, device)
    PeftModel.from_pretrained(model.network, str(checkpoint.adapter))  # puts the adapter into the network it is given
    return truth_of(model, passages_of(model))


def line_of(name: str, check: Callable[[Case], Finding], case: Case) -> Line:
    """What a check found. An engine that fails is red: whatever it raises is what there is to report."""
    try:
        found = check(case)
    except DoesNotApplyError as why:
        return Line(name, "does not apply", None, None, str(why))
    except Exception as error:
        return Line(name, "red", None, None, f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    if not np.isfinite(found.figure):
        return Line(name, "red", None, found.bound, f"not a finite number: {found.what}")
    if found.bound is None:
        return Line(name, "reported", found.figure, None, found.what)
    return Line(name, "green" if found.figure <= found.bound else "red", found.figure, found.bound, found.what)


# ---- the engine ------------------------------------------------------------------------------------------------------


def _batch(case: Case) -> Finding:
    return case.held(apart(case.together, case.alone), "eight texts in a batch against each alone")


def _sides(case: Case) -> Finding:
    return case.held(apart(case.leftwards, case.together), "left padding against right")


def _mask(case: Case) -> Finding:
    """What stands where the mask is 0 must change nothing; without a mask, left padding is read as text."""
    layers, other = range(len(case.model.blocks)), case.passages[0].token_ids[0]

    def read(side: PaddingSide) -> Pooled:
        reduced = case.engine.reduce(pad_batch(case.passages, other, side), layers, REDUCERS)
        return {name: values.cpu().numpy() for name, values in reduced.items()}

    worst = max(apart(read("left"), case.leftwards), apart(read("right"), case.together))
    return case.held(worst, "another token in place of the padding")


def _tuples(case: Case) -> Finding:
    if not case.engine.reads_blocks:
        raise DoesNotApplyError(
            f"{case.engine.name} has layers of its own and reads none of transformers' return values"
        )
    with _returning_tuples(case.model):
        got = case.read()
    return case.held(apart(got, case.together), "layers that return a tuple against layers that return a tensor")


@contextmanager
def _returning_tuples(model: Model) -> Iterator[None]:
    """Every block returns its output in a tuple, and what comes next takes it out again."""

    def wrap(_module: nn.Module, _args: tuple, output: Tensor | tuple) -> tuple:
        if isinstance(output, tuple):
            raise DoesNotApplyError(f"the layers of {type(model.network).__name__} return tuples, never a tensor")
        return (output,)

    def unwrap(_module: nn.Module, args: tuple) -> tuple:
        return (args[0][0], *args[1:]) if isinstance(args[0], tuple) else args

    handles = [block.register_forward_hook(wrap, prepend=True) for block in model.blocks]
    handles += [
        module.register_forward_pre_hook(unwrap) for module in (*model.blocks[1:], model.trunk.get_submodule("norm"))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _index(case: Case) -> Finding:
    figure = apart(case.alone, case.truth, slice(None, -1))
    return case.held(figure, "layer i against hidden_states[i + 1], all but the last")


def _last(case: Case) -> Finding:
    figure = apart(case.alone, case.truth, slice(-1, None))
    return case.held(figure, "the last layer against what the final norm takes")


def _buffers(case: Case) -> Finding:
    """All layers at once, kept as given while other texts pass, against each layer asked for alone and copied at once."""
    mine, others = (pad_batch(some, pad_token(case.model), "right") for some in (case.passages[:2], case.passages[2:4]))
    layers = range(len(case.model.blocks))
    alone = [_kept(case.engine, mine, [layer], copy=True)[layer] for layer in layers]
    kept = _kept(case.engine, mine, layers)
    _kept(case.engine, others, layers)
    pairs = [[hidden.float().cpu()[mine[2]] for hidden in (kept[layer], alone[layer])] for layer in layers]
    worst = max(float((ours - theirs).norm() / theirs.norm()) for ours, theirs in pairs)
    return case.held(worst, "outputs kept while other texts pass, against one layer at a time")


def _kept(
    engine: Engine, padded: tuple[Tensor, Tensor, Tensor], layers: Sequence[int], copy: bool = False
) -> dict[int, Tensor]:
    """What `visit` is given (text, position, feature), as it is or copied when it comes."""
    seen: dict[int, Tensor] = {}
    ids, attention, _ = (tensor.to(engine.device) for tensor in padded)
    engine.run(ids, attention, layers, lambda layer, hidden: seen.update({layer: hidden.clone() if copy else hidden}))
    return seen


def _chunks(case: Case) -> Finding:
    chunk = case.engine.chunk_tokens
    length = min(case.model.max_tokens, 2 * chunk + 1 if chunk else LONG)
    if chunk and length <= chunk:
        raise DoesNotApplyError(f"no text of this model is longer than one chunk of {chunk} tokens")
    every = [token for passage in case.passages for token in passage.token_ids]
    long = [passage_of(case.model, (every * (length // len(every) + 1))[:length])]
    found = case.held(
        apart(case.read(long), truth_of(case.model, long)), f"a text of {length} tokens, by chunks of {chunk}"
    )
    return _only_if(chunk is not None, found, f"texts go whole; one of {length} tokens is off by")


def _prefixes(case: Case) -> Finding:
    """Texts that begin alike, one after the other and then again: what is computed once must not be lacking the next time."""
    start = [token for passage in case.passages for token in passage.token_ids][:PREFIX]
    alike = [passage_of(case.model, [*start, *passage.token_ids]) for passage in case.passages[:4]]
    want = truth_of(case.model, alike)
    figure = max(apart(case.read(alike, together=False), want) for _ in range(2))
    found = case.held(figure, f"texts that share {PREFIX} tokens, sent twice")
    return _only_if(
        case.engine.keeps_prefixes, found, "no prefix is kept; texts that share one, sent twice, are off by"
    )


def _only_if(applies: bool, found: Finding, otherwise: str) -> Finding:
    """A finding as it is where the engine has what is checked, or where it goes wrong all the same."""
    assert found.bound is not None
    if not applies and found.figure <= found.bound:
        raise DoesNotApplyError(f"{otherwise} {found.figure:.1e}")
    return found


def _order(case: Case) -> Finding:
    """Sixteen texts in one batch: by then an order of ids as text (0, 1, 10, 11, 2) is another one.

    Eight differ from the others in their last token, which nothing that is read looks at: a text that begins another would
    be read in one pass with it.
    """
    others = [replace(text, token_ids=[*text.token_ids[:-1], text.token_ids[0]]) for text in case.passages[::-1]]
    twice = {name: np.concatenate([values, values[::-1]]) for name, values in case.truth.items()}
    figure = apart(case.read([*case.passages, *others]), twice)
    return case.held(figure, "sixteen texts in one batch, each against its own")


def _spans(case: Case) -> Finding:
    """Prompt, thinking and answer by token_spans and in pad_batch's mask, against the tokenizer's own character offsets."""
    tokenizer = case.model.tokenizer
    if not tokenizer.chat_template:
        raise DoesNotApplyError("the tokenizer has no chat template")
    thinks = len(tokenizer(OPEN, add_special_tokens=False)["input_ids"]) == 1
    completions = [(False, ANSWER), *([(True, f"{OPEN}\n{THOUGHTS}\n{CLOSE}\n\n{ANSWER}")] if thinks else [])]
    wrong = sum(_misplaced(case.model, thinking, completion) for thinking, completion in completions)
    what = f"tokens of {len(completions)} conversations in another span than their characters say; bound: none may be"
    return Finding(float(wrong), what, 0.0)


def _misplaced(model: Model, thinking: bool, completion: str) -> int:
    """Tokens that are in a span and should not be, or the other way round."""
    tokenizer = model.tokenizer
    prompt = render(tokenizer, user_turn(QUESTION), thinking=thinking)
    ids, own = tokenizer(prompt, add_special_tokens=False)["input_ids"], list(model.stop_ids[:1])
    written = tokenizer(completion, add_special_tokens=False, return_offsets_mapping=True)["input_ids"]
    spans = token_spans(tokenizer, ids, [*written, *own])
    want = {text: {len(ids) + i for i in _tokens_of(model, completion, text)} for text in (THOUGHTS, ANSWER)}
    misplaced = len(set(spans.thinking) ^ want[THOUGHTS]) + len(set(spans.answer) ^ want[ANSWER])
    tail = prompt.rfind(OPEN)
    start = len(tokenizer(prompt[:tail], add_special_tokens=False)["input_ids"]) if tail >= 0 else len(ids)
    return misplaced + abs(spans.prompt.stop - start) + _masked_apart(model, [*ids, *written, *own], spans.answer)


def _tokens_of(model: Model, completion: str, text: str) -> list[int]:
    """Positions of the tokens that hold characters of `text`; none where it does not occur."""
    start = completion.find(text)
    offsets = model.tokenizer(completion, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [i for i, (a, b) in enumerate(offsets) if start >= 0 and a < start + len(text) and b > start]


def _masked_apart(model: Model, ids: list[int], span: range) -> int:
    """Tokens under the mask of a padded batch that are not those of the span."""
    if not span:
        return len(ids)
    wrong = 0
    for side in ("left", "right"):
        rows, _, mask = pad_batch([Passage(ids, span), Passage([*ids, *ids], span)], pad_token(model), side)
        wrong += sum(a != b for a, b in zip(rows[0][mask[0]].tolist(), ids[span.start : span.stop], strict=False))
        wrong += abs(int(mask[0].sum()) - len(span))
    return wrong


def _kernel(case: Case) -> Finding:
    """The attention that transformers chose against its plain one: some leave out what a config asks for."""
    network = case.model.network
    chosen = network.config._attn_implementation
    assert chosen is not None
    if chosen == "eager":
        raise DoesNotApplyError("attention is computed by transformers' plain code already")
    ours = case.batched_truth
    network.set_attn_implementation("eager")
    try:
        figure = apart(ours, batched_truth_of(case.model, case.passages))
    finally:
        network.set_attn_implementation(chosen)
    what = f"attention by {chosen} against transformers' plain code"
    return case.held(figure, what) if network.dtype == torch.float32 else Finding(figure, what)


def _engines(case: Case) -> Finding:
    if case.engine.name == "transformers_hooks":
        raise DoesNotApplyError("this is the reference itself; name another with --engine")
    ours, theirs = case.together, capture(case.model, case.passages, "all", REDUCERS, label="")
    return case.held(apart(ours, theirs), f"against transformers_hooks ({in_words(ours, theirs)})")


def _adapter(case: Case, attached: Pooled | None) -> Finding:
    if attached is None:
        model = case.model
        raise DoesNotApplyError(
            f"the adapter was merged already; `python -m probes doctor {model.address}` attaches it too"
            if model.checkpoint.adapter
            else "this checkpoint has no adapter"
        )
    return case.held(apart(case.truth, attached), "adapter merged into the weights against attached to them")


CHECKS: dict[str, Callable[[Case], Finding]] = {
    "batch against single": _batch,
    "left padding against right": _sides,
    "attention mask honoured": _mask,
    "tensor against tuple": _tuples,
    "layer i is hidden_states[i + 1]": _index,
    "last layer un-normed": _last,
    "outputs stay as given": _buffers,
    "chunked prefill": _chunks,
    "prefix cache": _prefixes,
    "results in the order of the texts": _order,
    "span masks against the template": _spans,
    "attention kernel": _kernel,
    "engine against engine": _engines,
    "dtype": dtypes,
    "routing flips between batch sizes": flips_in_batches,
    "routing flips between dtypes": flips_in_dtypes,
    "routing flips between engines": flips_between_engines,
}
"""Name of the line → its check; the adapter's comes last."""
