"""nnsight 0.8 (`TransformersModel`): the layers' outputs as a trace gives them."""

from collections.abc import Sequence
from functools import reduce
from importlib import import_module

import torch
from torch import Tensor

from probes.errors import ConventionError
from probes.lm.engines import Visit
from probes.lm.engines.in_process import InProcess
from probes.lm.model import Model


class NNsight(InProcess):
    """Runs the model's own network inside a trace, and stops after the last layer asked for.

    Importing nnsight adds `.save` to `object` for the whole process.
    """

    name = "nnsight"
    reads_blocks = True

    def __init__(self, model: Model):
        super().__init__(model)
        if getattr(model.network.config, "distributed_config", None):
            raise ConventionError(
                "nnsight 0.8 reads a model that processes share layer by layer with transformers 5.19 or later alone, and that is "
                "beyond what vLLM takes. Take transformers_hooks."
            )
        traced = import_module("nnsight").TransformersModel
        self.traced = traced(model.network, tokenizer=model.tokenizer, task="text-generation")
        path = next(name for name, module in model.network.named_modules() if module is model.blocks)
        self.blocks = reduce(getattr, path.split("."), self.traced)

    @torch.inference_mode()
    def run(self, input_ids: Tensor, attention_mask: Tensor, layers: Sequence[int], visit: Visit) -> None:
        """One forward pass of padded ids (text, position); `visit` sees each layer's output before the next is computed."""
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        blocks, wanted = self.blocks, sorted(set(layers))
        with self.traced.trace(batch, use_cache=False) as tracer:
            for layer in wanted:
                output = blocks[layer].output
                visit(layer, output[0] if isinstance(output, tuple) else output)
            tracer.stop()
