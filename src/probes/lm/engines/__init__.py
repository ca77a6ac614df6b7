"""Ways to run a model so that every layer's output passes by, behind one signature.

`transformers_hooks` is the reference. What another engine gives must be the same numbers: `python -m probes doctor` says
whether it does. Activations carry their engine's name, and those of two engines are never compared.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from probes.errors import ConventionError, MissingInputError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from probes.lm.model import Model
    from probes.lm.reducers import Reducer

EngineName = Literal["transformers_hooks", "transformer_lens", "nnsight", "vllm"]
LOAD_THEMSELVES = ("vllm",)
"""Engines that hold the weights themselves: they are given a model without any (lm.load with device="meta")."""

Visit = Callable[[int, "Tensor"], None]
"""Called with a layer and its output (text, position, feature) for every layer asked for, in order."""
Padded = tuple["Tensor", "Tensor", "Tensor"]
"""Token ids and attention (text, position), and the mask of a span (passage, position): what capture.pad_batch gives."""


class Engine(Protocol):
    """What runs a model. What it is made of decides which checks of the doctor apply to it."""

    name: str
    """What activations say read them."""
    model: "Model"
    """Whose layers are read."""
    reads_blocks: bool
    """Whether it reads what `model.blocks` return; else it has layers of its own."""
    chunk_tokens: int | None
    """Tokens that one pass takes; a longer text comes in several. None if a text always goes whole."""
    keeps_prefixes: bool
    """Whether what texts begin with alike is computed once and kept."""
    device: str
    """Where reduced batches are."""
    examined: dict[str, str]
    """What activations say of the doctor's findings (doctor.examined); nothing where it was not asked."""

    def run(self, input_ids: "Tensor", attention_mask: "Tensor", layers: Sequence[int], visit: Visit) -> None:
        """One pass of padded ids (text, position); `visit` sees each layer's output, which nothing changes afterwards."""
        ...

    def reduce(
        self, padded: Padded, layers: Sequence[int], reducers: "Sequence[Reducer]", row: "Tensor | None" = None
    ) -> "dict[str, Tensor]":
        """One pass, reduced where the layers are computed: the reducers' names → (passage, layer, feature).

        Args:
            row: the row of ids that each span lies in; by default there is one span a row.
        """
        ...

    def close(self) -> None:
        """Let go of the model and of all that was started for it; nothing can be read with this engine afterwards."""
        ...


def start(engine: "str | Engine", model: "Model", merged: Path | None = None) -> Engine:
    """The engine of this name, ready to run the model; one that was started already is given back.

    Args:
        merged: folder with a trained checkpoint as a whole model (training.export), for an engine that loads the weights itself.

    Raises UnknownNameError, MissingInputError for one that is not installed or has no weights to load, ConventionError for a
    model that it cannot run, or a started engine of another model.
    """
    if isinstance(engine, str):
        return _start(engine, model, merged)
    if engine.model is not model:
        raise ConventionError(
            f"the engine {engine.name} runs {engine.model.address}, not {model.address}: start its own."
        )
    return engine


def _start(name: str, model: "Model", merged: Path | None) -> Engine:
    if name not in get_args(EngineName):
        raise UnknownNameError("engine", name, get_args(EngineName))
    try:
        return _started(name, model, merged)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingInputError(
            f"the engine {name} is not installed: pip install 'emotion-probes[{name}]', or take transformers_hooks."
        ) from error


def _started(name: str, model: "Model", merged: Path | None) -> Engine:
    """Engines are imported when they are asked for: they take seconds, and nnsight changes `object` for the whole process."""
    if name == "transformer_lens":
        from probes.lm.engines.transformer_lens import TransformerLens

        return TransformerLens(model)
    if name == "nnsight":
        from probes.lm.engines.nnsight import NNsight

        return NNsight(model)
    if name == "vllm":
        from probes.lm.engines.vllm import VLLM

        return VLLM(model, merged)
    from probes.lm.engines.transformers_hooks import TransformersHooks

    return TransformersHooks(model)
