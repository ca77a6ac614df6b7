"""Everything that touches a language model: loading, chat format, generation and capture of residual streams."""

from probes.lm.checkpoints import MODELS, Checkpoint, find_family
from probes.lm.generate import Sampling, generate
from probes.lm.model import Model, family, load

__all__ = ["MODELS", "Checkpoint", "Model", "Sampling", "family", "find_family", "generate", "load"]
