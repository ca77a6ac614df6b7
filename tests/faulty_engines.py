"""Engines with one fault each, as capture code was published with, and a stand-in for vLLM that can be given four more."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from transformers import DynamicCache

from probes.lm.engines import Visit
from probes.lm.engines.transformers_hooks import TransformersHooks
from probes.lm.model import Model

BLOCK = 16
"""Tokens of a beginning that vLLM keeps at a time."""


class ColumnOffset(TransformersHooks):
    """Gives every text from column 0 on, as if padding were always on the right."""

    def run(self, input_ids: Tensor, attention_mask: Tensor, layers: Sequence[int], visit: Visit) -> None:
        starts = attention_mask.argmax(dim=1).tolist()

        def moved(layer: int, hidden: Tensor) -> None:
            visit(layer, torch.stack([row.roll(-start, 0) for row, start in zip(hidden, starts, strict=True)]))

        super().run(input_ids, attention_mask, layers, moved)


class ElementZero(TransformersHooks):
    """Takes element 0 of whatever a layer returns, which is the first text where that is a tensor."""

    def _watch(self, layer: int, is_last: bool, visit: Visit):
        def hook(_module, _inputs, output) -> None:
            first = output[0]
            visit(layer, first if isinstance(output, tuple) else first[None].expand_as(output))

        return self.model.blocks[layer].register_forward_hook(hook)


class ElementZeroBare(ElementZero):
    """The same, without the axis of texts: reducers fail on it."""

    def _watch(self, layer: int, is_last: bool, visit: Visit):
        return self.model.blocks[layer].register_forward_hook(lambda _m, _i, output: visit(layer, output[0]))


class LayerOffByOne(TransformersHooks):
    """Gives what goes into a block for what comes out of it."""

    def _watch(self, layer: int, is_last: bool, visit: Visit):
        return self.model.blocks[layer].register_forward_pre_hook(lambda _module, args: visit(layer, args[0]))


class NormedLast(TransformersHooks):
    """Gives the last layer after the final norm, as the last of transformers' hidden states is."""

    def run(self, input_ids: Tensor, attention_mask: Tensor, layers: Sequence[int], visit: Visit) -> None:
        norm, last = self.model.trunk.norm, len(self.model.blocks) - 1
        super().run(input_ids, attention_mask, layers, lambda i, h: visit(i, norm(h) if i == last else h))


class NoMask(TransformersHooks):
    """Lets texts attend to padding."""

    def run(self, input_ids: Tensor, attention_mask: Tensor, layers: Sequence[int], visit: Visit) -> None:
        super().run(input_ids, torch.ones_like(attention_mask), layers, visit)


class ReusedBuffer(TransformersHooks):
    """Hands out views of one buffer a layer, which the next pass fills anew."""

    def __init__(self, model: Model):
        super().__init__(model)
        shape = (len(model.blocks), 16, model.max_tokens, model.entry.width)
        self.buffers = torch.zeros(shape, dtype=model.network.dtype)

    def run(self, input_ids: Tensor, attention_mask: Tensor, layers: Sequence[int], visit: Visit) -> None:
        def through_buffer(layer: int, hidden: Tensor) -> None:
            view = self.buffers[layer, : hidden.shape[0], : hidden.shape[1]]
            visit(layer, view.copy_(hidden))

        super().run(input_ids, attention_mask, layers, through_buffer)


class SavedWithoutCopy(TransformersHooks):
    """Saves the residual stream, which the next layer adds to in place, and shows it when the pass is over."""

    def run(self, input_ids: Tensor, attention_mask: Tensor, layers: Sequence[int], visit: Visit) -> None:
        stream: list[Tensor] = []
        saved: dict[int, Tensor] = {}

        def save(layer: int, hidden: Tensor) -> None:
            stream[:] = stream or [hidden.clone()]
            saved[layer] = stream[0].copy_(hidden)

        super().run(input_ids, attention_mask, layers, save)
        for layer, hidden in saved.items():
            visit(layer, hidden)


Fault = Literal["", "residual", "chunks", "prefixes", "order"]


class FakeVLLM:
    """What vLLM does with a batch, on transformers' network.

    Every text is a request without padding, which goes in chunks behind its own cache; layers give (delta, residual);
    beginnings that were seen before, in blocks of 16 tokens, are not computed again, and their rows are those kept then.
    """

    name = "fake_vllm"
    reads_blocks = False
    chunk_tokens: int | None = 32
    keeps_prefixes = True

    def __init__(self, model: Model, fault: Fault = ""):
        self.model, self.fault = model, fault
        self.kept: dict[tuple[int, ...], Tensor] = {}

    @torch.inference_mode()
    def run(self, input_ids: Tensor, attention_mask: Tensor, layers: Sequence[int], visit: Visit) -> None:
        requests = {
            str(i): ids[mask.bool()].tolist()
            for i, (ids, mask) in enumerate(zip(input_ids, attention_mask, strict=True))
        }
        done = {name: self._rows(ids) for name, ids in requests.items()}
        names = sorted(done) if self.fault == "order" else list(done)
        shape = (len(self.model.blocks), *input_ids.shape, self.model.entry.width)
        out = torch.zeros(shape, dtype=self.model.network.dtype)
        for row, name in enumerate(names):
            columns = attention_mask[row].bool().nonzero()[:, 0][: done[name].shape[1]]
            out[:, row, columns] = done[name][:, : len(columns)]
        for layer in sorted(set(layers)):
            visit(layer, out[layer])

    def _rows(self, ids: list[int]) -> Tensor:
        """(layer, position, feature) of one request."""
        rows = self._computed(ids)
        blocks = [tuple(ids[:end]) for end in range(BLOCK, len(ids), BLOCK)]
        known = max((len(start) for start in blocks if start in self.kept), default=0)
        if known:
            before = torch.zeros_like(rows[:, :known]) if self.fault == "prefixes" else self.kept[tuple(ids[:known])]
            rows = torch.cat([before, rows[:, known:]], dim=1)
        self.kept.update({start: rows[:, : len(start)] for start in blocks if start not in self.kept})
        return rows

    def _computed(self, ids: list[int]) -> Tensor:
        assert self.chunk_tokens is not None
        cache, rows = DynamicCache(config=self.model.network.config), []
        for start in range(0, len(ids), self.chunk_tokens):
            rows.append(self._chunk(ids[start : start + self.chunk_tokens], cache))
        if self.fault != "chunks":
            return torch.cat(rows, dim=1)
        whole = torch.zeros_like(torch.cat(rows, dim=1))
        for chunk in rows:  # each chunk is written from row 0 on
            whole[:, : chunk.shape[1]] = chunk
        return whole

    def _chunk(self, ids: list[int], cache: DynamicCache) -> Tensor:
        deltas, residuals, handles = [], [], []
        for block in self.model.blocks:
            handles.append(block.mlp.register_forward_hook(lambda _m, _i, out: deltas.append(out[0])))
            behind = block.post_attention_layernorm
            handles.append(behind.register_forward_pre_hook(lambda _m, args: residuals.append(args[0][0])))
        try:
            self.model.trunk(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True)
        finally:
            for handle in handles:
                handle.remove()
        pairs = zip(deltas, residuals, strict=True)
        return torch.stack([delta if self.fault == "residual" else delta + residual for delta, residual in pairs])
