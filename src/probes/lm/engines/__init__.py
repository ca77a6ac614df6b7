"""Ways to run a model so that every layer's output passes by, behind one signature.

`transformers_hooks` is the reference. What another engine gives must be the same numbers: `python -m probes doctor` says
whether it does. Activations carry their engine's name, and those of two engines are never compared.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from probes.errors import MissingInputError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from probes.lm.model import Model

EngineName = Literal["transformers_hooks", "transformer_lens", "nnsight"]

Visit = Callable[[int, "Tensor"], None]
"""Called with a layer and its output (text, position, feature) for every layer asked for, in order."""


class Engine(Protocol):
    """What runs a model. What it is made of decides which checks of the doctor apply to it."""

    @property
    def name(self) -> str:
        """What activations say read them."""
        ...

    @property
    def model(self) -> "Model":
        """Whose layers are read."""
        ...

    @property
    def reads_blocks(self) -> bool:
        """Whether it reads what `model.blocks` return; else it has layers of its own."""
        ...

    @property
    def chunk_tokens(self) -> int | None:
        """Tokens of a text that one pass takes; a longer text comes in several. None if a text always goes whole."""
        ...

    @property
    def keeps_prefixes(self) -> bool:
        """Whether what texts begin with alike is computed once and kept."""
        ...

    def run(self, input_ids: "Tensor", attention_mask: "Tensor", layers: Sequence[int], visit: Visit) -> None:
        """One pass of padded ids (text, position); `visit` sees each layer's output, which nothing changes afterwards."""
        ...


def start(name: str, model: "Model") -> Engine:
    """The engine of this name, ready to run the model.

    Raises UnknownNameError, MissingInputError for one that is not installed, ConventionError for a model that it cannot run.
    """
    if name not in get_args(EngineName):
        raise UnknownNameError("engine", name, get_args(EngineName))
    try:
        return _started(name, model)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingInputError(
            f"the engine {name} is not installed: pip install 'emotion-probes[{name}]', or take transformers_hooks."
        ) from error


def _started(name: str, model: "Model") -> Engine:
    """Engines are imported when they are asked for: they take seconds, and nnsight changes `object` for the whole process."""
    if name == "transformer_lens":
        from probes.lm.engines.transformer_lens import TransformerLens

        return TransformerLens(model)
    if name == "nnsight":
        from probes.lm.engines.nnsight import NNsight

        return NNsight(model)
    from probes.lm.engines.transformers_hooks import TransformersHooks

    return TransformersHooks(model)
