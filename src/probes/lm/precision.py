"""How far a model moves with its precision, and how many tokens a mixture of experts then sends elsewhere."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from probes.lm.capture import Passage
from probes.lm.engines import Engine
from probes.lm.model import Model
from probes.lm.parity import Case, DoesNotApplyError, Finding, apart, batched_truth_of, in_words, routes_of

NEAR_TIES = 1e-3
"""Share of tokens and layers where rounding in float32 may turn a tie between experts."""


def _other(dtype: torch.dtype) -> torch.dtype:
    return torch.bfloat16 if dtype == torch.float32 else torch.float32


def dtypes(case: Case) -> Finding:
    """The model's precision against the other of float32 and bfloat16."""
    mine, ours = case.model.network.dtype, case.batched_truth
    with in_dtype(case.model, _other(mine)):
        theirs = batched_truth_of(case.model, case.passages)
    what = f"{str(mine).removeprefix('torch.')} against {str(_other(mine)).removeprefix('torch.')}"
    return Finding(apart(ours, theirs), f"{what}: {in_words(ours, theirs)}")


@contextmanager
def in_dtype(model: Model, dtype: torch.dtype) -> Iterator[None]:
    """The trunk computes in this dtype; one block at a time is cast and its own weights put back, so that no copy is needed."""
    stashed: list[tuple[nn.Module, str, nn.Parameter]] = []

    def cast(module: nn.Module, _args: tuple) -> None:
        stashed.extend(
            (owner, name, weight)
            for owner in module.modules()
            for name, weight in owner.named_parameters(recurse=False)
            if weight.is_floating_point()
        )
        with torch.inference_mode(
            False
        ):  # a part of a weight that processes share takes no views of tensors made in it
            for owner, name, weight in stashed:
                setattr(owner, name, nn.Parameter(weight.detach().to(dtype), requires_grad=False))

    def put_back(*_hook: object) -> None:
        while stashed:
            setattr(*stashed.pop())

    modules = (*model.blocks, model.trunk.get_submodule("norm"))
    handles = [
        model.trunk.get_submodule("embed_tokens").register_forward_hook(lambda _module, _args, out: out.to(dtype))
    ]
    handles += [module.register_forward_pre_hook(cast) for module in modules]
    handles += [module.register_forward_hook(put_back) for module in modules]
    try:
        yield
    finally:
        put_back()
        for handle in handles:
            handle.remove()


def flips_in_batches(case: Case) -> Finding:
    """Tokens that go to other experts in a batch than alone."""
    figure = _flips(case.batched_routes, case.routes)
    what = "share of tokens and layers whose experts differ between a batch and a text alone"
    if case.model.network.dtype != torch.float32:
        return Finding(figure, what)
    return Finding(figure, f"{what}; bound: ties that float32 rounding may turn", NEAR_TIES)


def flips_in_dtypes(case: Case) -> Finding:
    """Tokens that go to other experts in float32 than in bfloat16."""
    mine, theirs = case.model.network.dtype, _other(case.model.network.dtype)
    ours = case.batched_routes
    with in_dtype(case.model, theirs):
        figure = _flips(ours, routes_of(case.model, case.passages, together=True))
    names = " and ".join(str(dtype).removeprefix("torch.") for dtype in (mine, theirs))
    return Finding(figure, f"share of tokens and layers whose experts differ between {names}")


def flips_between_engines(case: Case) -> Finding:
    """Tokens that transformers' own routers send to other experts where a layer is given what the engine read below it."""
    if case.engine.name == "transformers_hooks":
        raise DoesNotApplyError("this is the reference itself; name another with --engine")
    ours, theirs = case.routes, []
    for passage in case.passages:
        with _fed(case.model, _streams(case.engine, passage)):
            theirs += routes_of(case.model, [passage])
    figure = _flips(ours, theirs)
    what = "share of tokens and layers whose experts differ where the engine's output of the layer below goes in"
    if case.model.network.dtype != torch.float32:
        return Finding(figure, what)
    return Finding(figure, f"{what}; bound: ties that float32 rounding may turn", NEAR_TIES)


def _streams(engine: Engine, passage: Passage) -> dict[int, Tensor]:
    """Layer → (1, position, feature) as the engine gives it."""
    streams: dict[int, Tensor] = {}
    ids = torch.tensor([list(passage.token_ids)], device=engine.device)
    engine.run(ids, torch.ones_like(ids), range(len(engine.model.blocks)), streams.__setitem__)
    return streams


@contextmanager
def _fed(model: Model, streams: dict[int, Tensor]) -> Iterator[None]:
    """Each block is given this output of the one below in place of its own."""

    def feed(stream: Tensor) -> Callable[[nn.Module, tuple], tuple]:
        return lambda _module, args: (stream.to(args[0].device, args[0].dtype), *args[1:])

    handles = [
        block.register_forward_pre_hook(feed(streams[layer - 1])) for layer, block in enumerate(model.blocks) if layer
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _flips(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    differ = [(a != b).any(dim=-1).flatten() for a, b in zip(ours, theirs, strict=True)]
    return float(torch.cat(differ).float().mean())
