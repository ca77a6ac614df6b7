"""The flags of steps that let checkpoints write, and the writer that they name."""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from probes import store
from probes.lm import Checkpoint, Sampling, Writer
from probes.lm.model import placement
from probes.lm.writers import Kind, kind_of, start
from probes.parts import Parts
from probes.provenance import content_sha
from settings import Settings, ShardedSettings
from training.export import export


@dataclass(frozen=True)
class WriterSettings(Settings):
    """The shared flags, and who writes."""

    writer: str = "transformers"
    """transformers; vllm, in this process; or the address of a server of vLLM or SGLang, such as http://localhost:8000/v1."""
    writer_gpus: int = 1
    """GPUs that the writer vllm spreads the weights over."""

    @property
    def writer_kind(self) -> Kind:
        """What the flag asks for."""
        return kind_of(self.writer)

    def texts(
        self,
        target: Path,
        weights: str,
        draw: Sampling,
        contents: Sequence[str],
        inputs: Mapping[str, Path] | None = None,
    ) -> Parts:
        """The resumable work of these weights on a file of texts, which another kind of writer does not go on with.

        Args:
            contents: files of the package `probes` that requests are made of.
            inputs: name → file that they are made of too.
        """
        read = {name: store.sha256(path) for name, path in (inputs or {}).items()}
        said = {"sampling": asdict(draw), "contents": content_sha(*contents)}
        return self.parts(target, {"weights": weights, "writer": self.writer_kind, **said, **read})


@dataclass(frozen=True)
class WritingSettings(WriterSettings, ShardedSettings):
    """Of a step that writes, and that many processes can share."""


def writer_of(settings: WriterSettings, checkpoint: Checkpoint) -> Writer:
    """Who writes for a checkpoint; use it in a with statement. For vLLM a trained checkpoint is merged when it first writes."""

    def merged() -> Path:
        folder = export(checkpoint, settings.merged(checkpoint.name), placement()[0])
        gc.collect()
        torch.cuda.empty_cache()  # vLLM counts what is free when it starts
        return folder

    return start(settings.writer, checkpoint, merged, settings.writer_gpus)
