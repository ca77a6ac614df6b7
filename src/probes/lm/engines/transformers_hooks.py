"""The reference engine: forward hooks on the decoder layers of a transformers model."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from probes.lm.engines import Visit
from probes.lm.engines.in_process import InProcess


class _LastLayerReachedError(Exception):
    """Ends the forward pass: what comes after the last layer asked for is not computed."""


class TransformersHooks(InProcess):
    """Runs the trunk, never the LM head, and stops after the last layer asked for.

    Layer i is the output of block i, 0-based: `hidden_states[i + 1]` of transformers, except for the last one, which
    transformers gives after the final norm and a hook gives before it.
    """

    name = "transformers_hooks"
    reads_blocks = True

    @torch.inference_mode()
    def run(self, input_ids: Tensor, attention_mask: Tensor, layers: Sequence[int], visit: Visit) -> None:
        """One forward pass of padded ids (text, position); `visit` sees each layer's output before the next is computed."""
        last = max(layers)
        handles = [self._watch(layer, layer == last, visit) for layer in sorted(set(layers))]
        try:
            self.model.trunk(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        except _LastLayerReachedError:
            pass
        finally:
            for handle in handles:
                handle.remove()

    def _watch(self, layer: int, is_last: bool, visit: Visit) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, _inputs: tuple, output: Tensor | tuple) -> None:
            # Architectures differ in whether a decoder layer returns a tensor or a tuple; indexing a tensor would
            # silently take the first text of the batch.
            visit(layer, output[0] if isinstance(output, tuple) else output)
            if is_last:
                raise _LastLayerReachedError

        return self.model.blocks[layer].register_forward_hook(hook)
