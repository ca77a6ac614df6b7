"""What runs inside vLLM's workers: each layer's output is reduced where it is computed, and only what is kept leaves it.

A decoder layer of vLLM returns (delta, residual); their sum is the residual stream. A step runs rows of many requests, one
after the other and without padding, in an order of the scheduler's own; a long text comes in chunks, over several steps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from probes.lm.reducers import Reducer

TEXT = "probes_text"
"""Where a request says which text it is, among the extra arguments of its sampling: its id is vLLM's own affair."""

Asked = tuple[int, list[tuple[int, int, int]]]
"""Of a text the number of its tokens, and of each passage in it the number, first position and end."""
Kept = tuple[str, int, list[int], bytes]
"""A reducer's name, a layer, and shape and bytes of float32 (passage, feature): plain values cross to the engine whatever
carries them."""


class ResidualReduction:
    """What vLLM mixes into its worker (`worker_extension_cls`); the engine calls both by collective_rpc."""

    model_runner: Any
    parallel_config: Any
    rank: int
    _residuals: "Watch | None" = None

    def watch_residuals(self, layers: list[int], reducers: list[str], texts: list[Asked]) -> None:
        """Reduce the layers' outputs over the passages of these texts, which come next.

        Under tensor parallelism every rank has the whole residual stream and the first of them reduces it; under pipeline
        parallelism each has layers of its own.
        """
        if self._residuals:
            self._residuals.stop()
        first = self.rank % self.parallel_config.tensor_parallel_size == 0
        made = [_reducer(name) for name in reducers]
        self._residuals = self._watch(self.model_runner, layers if first else [], made, texts)

    def _watch(
        self, runner: Any, layers: Sequence[int], reducers: Sequence[Reducer], texts: Sequence[Asked]
    ) -> "Watch":
        return Watch(runner, layers, reducers, texts)

    def collect_residuals(self) -> tuple[str, list[Kept]]:
        """What went wrong, and what was kept."""
        assert self._residuals is not None
        return self._residuals.collect()


def _reducer(name: str) -> Reducer:
    module, _, kind = name.partition(":")
    return getattr(import_module(module), kind)()


def name_of(reducer: Reducer) -> str:
    """What `watch_residuals` makes the same reducer of."""
    return f"{type(reducer).__module__}:{type(reducer).__qualname__}"


@dataclass(frozen=True)
class Chunk:
    """Rows of a text in a step."""

    text: int
    start: int
    """Position in the text of the first of them."""
    rows: slice


@dataclass(frozen=True)
class Step:
    """Whose rows a forward pass computes; the same for every layer."""

    resumed: list[int]
    """Texts that end here and began before. Their rows so far come before those of the step."""
    begun: list[Chunk]
    """Chunks of texts that go on in a later step."""
    passages: dict[int, int]
    """Numbers of the passages of texts that end here → how many tokens they have."""
    places: Tensor
    """(passage, position in the span) → row"""
    mask: Tensor
    """(passage, position in the span)"""


class HostCopies:
    """Takes results off the device while it computes on: into pinned memory, on a stream of their own.

    Where there is no CUDA results are in the memory of the host, and stay where they are.
    """

    def __init__(self, device: torch.device):
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def take(self, values: Tensor) -> Tensor:
        """Where the values will be once `finish` has returned."""
        if self.stream is None:
            return values
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        self.stream.wait_stream(torch.cuda.current_stream(values.device))
        with torch.cuda.stream(self.stream):
            host.copy_(values, non_blocking=True)
        values.record_stream(self.stream)  # or its memory would be given to another tensor while it is still read
        return host

    def finish(self) -> None:
        """Wait for the copies."""
        if self.stream is not None:
            self.stream.synchronize()


class Watch:
    """Hooks on the layers of one rank, from one set of texts to what is kept of them."""

    def __init__(self, runner: Any, layers: Sequence[int], reducers: Sequence[Reducer], texts: Sequence[Asked]):
        self.runner, self.reducers, self.texts = runner, reducers, texts
        blocks = decoder_layers(runner.model) if layers else nn.ModuleList()
        self.layers = [layer for layer in layers if not isinstance(blocks[layer], nn.Identity)]  # of another rank
        self.copies = HostCopies(runner.device)
        self.problem = ""
        self.seen = [0] * len(texts)
        self.rows: dict[tuple[int, int], list[Tensor]] = {}  # by layer and text, of texts that have not ended
        self.kept: dict[tuple[str, int], dict[int, Tensor]] = {}
        self.handles = [blocks[layer].register_forward_hook(self._hook(layer)) for layer in self.layers]
        if self.layers:
            self.handles.append(blocks[min(self.layers)].register_forward_pre_hook(lambda *_: self._begin()))

    def stop(self) -> None:
        """Take the hooks away."""
        for handle in self.handles:
            handle.remove()

    def collect(self) -> tuple[str, list[Kept]]:
        """What went wrong, and for each reducer and layer the rows in the order of the passages' numbers."""
        self.stop()
        self.copies.finish()
        lacking = [i for i, (length, _) in enumerate(self.texts) if self.layers and self.seen[i] < length]
        if lacking and not self.problem:
            self.problem = f"{len(lacking)} of {len(self.texts)} texts did not pass whole (first: #{lacking[0]})"
        if self.problem:
            return self.problem, []
        return "", [
            (name, layer, list(whole.shape), whole.numpy().tobytes())
            for (name, layer), by_passage in self.kept.items()
            for whole in [torch.cat([by_passage[number] for number in sorted(by_passage)])]
        ]

    # ---- in a step ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        chunks = self._chunks()
        ending = [chunk for chunk in chunks if self._end(chunk) == self.texts[chunk.text][0]]
        resumed = [chunk for chunk in ending if chunk.start]
        places = {number: torch.from_numpy(rows) for number, rows in _passages(ending, resumed, self.texts)}
        self.step = Step(
            [chunk.text for chunk in resumed],
            [chunk for chunk in chunks if chunk not in ending],
            {number: len(rows) for number, rows in places.items()},
            _padded(list(places.values())).to(self.runner.device),
            _padded([torch.ones_like(rows, dtype=torch.bool) for rows in places.values()]).to(self.runner.device),
        )

    def _chunks(self) -> list[Chunk]:
        """Whose the rows are. Tokens that vLLM writes itself are no part of a text."""
        batch, starts = self.runner.input_batch, self.runner.query_start_loc.np
        chunks = []
        for i, request in enumerate(batch.req_ids):
            text = (self.runner.requests[request].sampling_params.extra_args or {}).get(TEXT)
            start = int(batch.num_computed_tokens_cpu[i])
            if text is None or start >= self.texts[text][0]:
                continue
            chunks.append(Chunk(text, start, slice(int(starts[i]), int(starts[i + 1]))))
            self._follow(chunks[-1])
        return chunks

    def _follow(self, chunk: Chunk) -> None:
        """A text goes on where it stopped, or from its beginning where vLLM has dropped what it had."""
        if chunk.start == 0:
            for layer in self.layers:
                self.rows.pop((layer, chunk.text), None)
        elif chunk.start != self.seen[chunk.text]:
            self.problem = self.problem or (
                f"text #{chunk.text} goes on at token {chunk.start} and {self.seen[chunk.text]} were seen: what lies between "
                "was not computed, as under prefix caching"
            )
        self.seen[chunk.text] = self._end(chunk)

    def _end(self, chunk: Chunk) -> int:
        return chunk.start + chunk.rows.stop - chunk.rows.start

    def _hook(self, layer: int):
        def hook(_module: nn.Module, _inputs: tuple, output: Any) -> None:
            if not self.problem:
                self.problem = what_is_no_pair(layer, output)
            if not self.problem:
                self._see(layer, output)

        return hook

    def _see(self, layer: int, output: tuple[Tensor, Tensor]) -> None:
        hidden = self._stream(output)
        for chunk in self.step.begun:  # cloned: a slice would keep the rows of the whole step
            self.rows.setdefault((layer, chunk.text), []).append(hidden[chunk.rows].clone())
        if not self.step.passages:
            return
        earlier = [rows for text in self.step.resumed for rows in self.rows.pop((layer, text))]
        spans = torch.cat([*earlier, hidden])[self.step.places] if earlier else hidden[self.step.places]
        for reducer in self.reducers:
            self._keep(reducer.name, layer, reducer(spans, self.step.mask))

    def _stream(self, output: tuple[Tensor, Tensor]) -> Tensor:
        """(row, feature) in float32: a new tensor, since the next layer adds to the residual in place."""
        delta, residual = output
        return delta.float() + residual.float()

    def _keep(self, name: str, layer: int, values: Tensor) -> None:
        """A row a passage, or of EachToken one a token that counts."""
        passages, host = self.step.passages, self.copies.take(values)
        rows = [1] * len(passages) if len(values) == len(passages) else list(passages.values())
        self.kept.setdefault((name, layer), {}).update(zip(passages, host.split(rows), strict=True))


def _passages(
    ending: Sequence[Chunk], resumed: Sequence[Chunk], texts: Sequence[Asked]
) -> Iterator[tuple[int, np.ndarray]]:
    """The number of each passage that ends in a step, and the rows of its positions: those of resumed texts come first."""
    before = np.cumsum([0, *(chunk.start for chunk in resumed)])
    first = {chunk.text: row for chunk, row in zip(resumed, before, strict=False)}
    for chunk in ending:
        earlier = first.get(chunk.text, 0) + np.arange(chunk.start)
        rows = np.concatenate([earlier, before[-1] + np.arange(chunk.rows.start, chunk.rows.stop)])
        for number, start, end in texts[chunk.text][1]:
            yield number, rows[start:end]


def _padded(rows: list[Tensor]) -> Tensor:
    return pad_sequence(rows, batch_first=True) if rows else torch.zeros(0, 0, dtype=torch.long)


def what_is_no_pair(layer: int, output: Any) -> str:
    """What a layer returns, in words, where it is not (delta, residual); empty where it is."""
    pair = isinstance(output, tuple) and len(output) == 2 and all(isinstance(one, Tensor) for one in output)
    if pair and output[0].shape == output[1].shape:
        return ""
    found = f"{len(output)} values" if isinstance(output, tuple) else type(output).__name__
    return f"layer {layer} returns {found}, not (delta, residual): what its residual stream is cannot be told"


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The decoder layers of a network of vLLM; of a vision-language one those of its text model."""
    layers = getattr(model, "language_model", model).get_submodule("model.layers")
    assert isinstance(layers, nn.ModuleList)
    return layers
