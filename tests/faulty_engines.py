"""Engines with one fault each, as capture code was published with."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from probes.lm.engines import Visit
from probes.lm.engines.transformers_hooks import TransformersHooks
from probes.lm.engines.vllm import VLLM
from probes.lm.engines.vllm_worker import ResidualReduction, Watch
from probes.lm.model import Model


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


# ---- vLLM ------------------------------------------------------------------------------------------------------------
# The real engine and worker extension, with one fault each; below them is fake_vllm.


class FirstRowsAgain(Watch):
    """Writes every chunk of a text from its first row on, over the chunks before."""

    def _see(self, layer, output) -> None:
        super()._see(layer, output)
        for chunk in self.step.begun:
            rows = self.rows[layer, chunk.text]
            whole = torch.cat(rows)
            whole[: len(rows[-1])] = rows[-1]
            self.rows[layer, chunk.text] = [whole]


class NoResidual(Watch):
    """Takes what a layer adds for what comes out of it."""

    def _stream(self, output):
        return output[0].float()


class SortedById(Watch):
    """Gives results in the order of vLLM's ids, which are text: 0, 1, 10, 11, 2."""

    def collect(self):
        problem, kept = super().collect()
        order = sorted(range(kept[0][2][0]), key=str)
        return problem, [
            (name, layer, shape, self._sorted(values, shape, order)) for name, layer, shape, values in kept
        ]

    def _sorted(self, values, shape, order):
        return np.frombuffer(values, np.float32).reshape(shape)[order].tobytes()


class SummedLate(Watch):
    """Keeps what layers return as it is, and looks at it when the next layer has run."""

    def _see(self, layer, output) -> None:
        later, self.later = getattr(self, "later", None), (layer, output)
        if later:
            super()._see(*later)
        if layer == max(self.layers):
            super()._see(layer, output)
            self.later = None


class ZerosForLacking(Watch):
    """Does not mind rows that never came: zeros stand for them."""

    def _follow(self, chunk) -> None:
        if chunk.start != self.seen[chunk.text]:
            width = self.runner.network.config.hidden_size
            self.rows.update({(layer, chunk.text): [torch.zeros(chunk.start, width)] for layer in self.layers})
            self.seen[chunk.text] = chunk.start
        super()._follow(chunk)


class Extension(ResidualReduction):
    """An extension with another watch."""

    kind: type[Watch] = Watch

    def _watch(self, runner, layers, reducers, texts):
        return self.kind(runner, layers, reducers, texts)


class OverwritingExtension(Extension):
    kind = FirstRowsAgain


class DeltaExtension(Extension):
    kind = NoResidual


class SortingExtension(Extension):
    kind = SortedById


class LateExtension(Extension):
    kind = SummedLate


class ForgetfulExtension(Extension):
    kind = ZerosForLacking


class VLLMWith(VLLM):
    """vLLM with another extension."""

    def __init__(self, model: Model, extension: type[Extension]):
        self.extension = extension
        super().__init__(model)


class PrefixesKept(VLLM):
    """Leaves on what vLLM does by itself: beginnings that were seen before are not computed again."""

    keeps_prefixes = True

    def options(self, folder):
        return super().options(folder) | {"enable_prefix_caching": True}


class PrefixRowsForgotten(PrefixesKept):
    """The same, and nobody looks whether all rows came: zeros stand for those that did not."""

    extension = ForgetfulExtension
