"""Everything that touches a language model: loading, chat format, generation and capture of residual streams.

Names are loaded when they are first used: whoever only looks a model's name up does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probes.lm.checkpoints import MODELS, Checkpoint, family
    from probes.lm.engines import Engine
    from probes.lm.generate import Sampling
    from probes.lm.model import Model, load, load_random, random_twin
    from probes.lm.writers import Writer

_MODULE_OF = {
    "MODELS": "checkpoints", "Checkpoint": "checkpoints", "family": "checkpoints", "Engine": "engines", "Sampling": "generate",
    "Model": "model", "load": "model", "load_random": "model", "random_twin": "model", "Writer": "writers",
}  # fmt: skip

__all__ = [
    "MODELS",
    "Checkpoint",
    "Engine",
    "Model",
    "Sampling",
    "Writer",
    "family",
    "load",
    "load_random",
    "random_twin",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'probes.lm' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"probes.lm.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
