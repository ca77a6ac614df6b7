"""TransformerLens 4 (`TransformerBridge`): `hook_resid_post` of each block."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from probes.errors import ConventionError
from probes.lm.engines import Visit
from probes.lm.engines.in_process import InProcess
from probes.lm.model import Model


class TransformerLens(InProcess):
    """Runs a copy of the network, since the bridge changes what it wraps: twice the memory of the weights.

    The bridge computes attention by its own eager code, so that numbers are the reference's up to rounding.
    """

    name = "transformer_lens"
    reads_blocks = False

    def __init__(self, model: Model):
        super().__init__(model)
        bridge = import_module("transformer_lens.model_bridge").TransformerBridge
        network = deepcopy(model.network)
        network.config.architectures = [type(network).__name__]  # a network that was not read from disk has none
        try:
            self.bridge = bridge.boot_transformers(
                str(model.entry.source), hf_model=network, tokenizer=deepcopy(model.tokenizer),
                dtype=model.network.dtype, device=str(model.network.device),
            )  # fmt: skip
        except (ValueError, KeyError, AttributeError) as error:
            raise ConventionError(
                f"TransformerLens cannot wrap {type(model.network).__name__}: {error}. Take another engine."
            ) from error

    @torch.inference_mode()
    def run(self, input_ids: Tensor, attention_mask: Tensor, layers: Sequence[int], visit: Visit) -> None:
        """One forward pass of padded ids (text, position); `visit` sees each layer's output before the next is computed."""
        hooks: list[tuple[str, Callable[..., Any]]] = [
            (f"blocks.{layer}.hook_resid_post", partial(_seen, visit, layer)) for layer in sorted(set(layers))
        ]
        self.bridge.run_with_hooks(
            input_ids, attention_mask=attention_mask, fwd_hooks=hooks, return_type=None, stop_at_layer=max(layers) + 1
        )


def _seen(visit: Visit, layer: int, hidden: Tensor, **_hook: Any) -> None:
    visit(layer, hidden)
