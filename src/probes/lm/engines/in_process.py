"""What engines share whose layers are computed in this process: outputs are reduced as they pass."""

from collections.abc import Sequence

import torch
from torch import Tensor

from probes.lm.engines import Engine, Padded
from probes.lm.model import Model
from probes.lm.reducers import Reducer


class InProcess(Engine):
    """Runs where the model is. Engines of this kind say how, in `run`."""

    chunk_tokens = None
    keeps_prefixes = False

    def __init__(self, model: Model):
        self.model, self.device, self.examined = model, str(model.network.device), {}

    def reduce(
        self, padded: Padded, layers: Sequence[int], reducers: Sequence[Reducer], row: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Each layer's output is reduced before the next is computed; nothing else of it is kept."""
        ids, attention, span = (tensor.to(self.device) for tensor in padded)
        kept: dict[str, dict[int, Tensor]] = {reducer.name: {} for reducer in reducers}

        def visit(layer: int, hidden: Tensor) -> None:
            hidden = hidden if row is None or len(row) == len(ids) else hidden[row.to(hidden.device)]
            for reducer in reducers:
                kept[reducer.name][layer] = reducer(hidden, span.to(hidden.device))

        self.run(ids, attention, layers, visit)
        return {
            name: torch.stack([by_layer[layer].to(self.device) for layer in layers], dim=1)
            for name, by_layer in kept.items()
        }

    def close(self) -> None:
        """Let go of the model, so that the next has room whoever still holds the engine."""
        self.__dict__.clear()
