"""Ways to let a checkpoint write, behind one signature: token ids of prompts in, token ids of completions out.

    writer = start("vllm", checkpoint)            or "transformers", or the address of a server: "http://localhost:8000/v1"
    generate(writer, prompts, sampling)           probes.lm.generate, the same for all

`transformers` is the reference, and what it returns is the Model that capture takes too. The others know everything of a
checkpoint but its network, which is never loaded twice; seeds, stop tokens and limits are ours with each of them. Whether a
model thinks is decided by the rendered prompt, which no writer and no server renders again.

vLLM makes no promise of equal bytes: what it draws depends on its version, its batches and its kernels. Every text says by
what it was written (`written_by`), a run is never gone on with by another writer, and answers of two are never compared.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from probes import store
from probes.errors import UnknownNameError
from probes.lm.checkpoints import Checkpoint, ModelEntry, model_entry
from probes.lm.connection import Connection, check_address

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from probes.lm.generate import Sampling

Kind = Literal["transformers", "vllm", "server"]
UNITS: dict[Kind, int] = {"transformers": 512, "vllm": 4096, "server": 4096}
"""Prompts that are written together: a unit of a resumable run, which a kill costs at most. Batches never cross units, so that
what transformers draws does not depend on kills."""
NAMES = ("transformers", "vllm", "http://localhost:8000/v1")
"""What a writer may be asked for by; the last stands for any address."""


@dataclass(frozen=True)
class Writer(ABC):
    """A checkpoint that can write, with all that must travel with its texts. Use it in a with statement, or close it."""

    entry: ModelEntry
    checkpoint: Checkpoint
    config: "PretrainedConfig"
    tokenizer: "PreTrainedTokenizerBase"
    base_sha: str
    """Hash of the base model's weights."""

    kind: ClassVar[Kind]
    unit: ClassVar[int]
    """Its UNITS."""

    @property
    @abstractmethod
    def written_by(self) -> str:
        """What texts say of who wrote them: library, version and dtype."""

    @abstractmethod
    def write(
        self, prompt_ids: Sequence[list[int]], seeds: Sequence[int], sampling: "Sampling", done: Callable[[int], object]
    ) -> list[list[int]]:
        """Generated ids of each prompt, up to and with its first stop token.

        Args:
            seeds: one a prompt, 63 bits.
            done: called with the number of prompts just written.
        """

    def close(self) -> None:  # noqa: B027 - only an engine in processes of its own has something to let go of
        """Let go of what `write` has started."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """Short name of the model, the same for all its checkpoints."""
        return self.entry.name

    @property
    def address(self) -> str:
        """model/variant[+run][@stage]"""
        return f"{self.entry.name}/{self.checkpoint.name}"

    @property
    def max_tokens(self) -> int:
        """Longest text the model takes."""
        return self.config.get_text_config().max_position_embeddings

    @property
    def weights(self) -> str:
        """What names the weights as they are: id of the checkpoint's manifest, or hash of the base for the original."""
        return self.checkpoint.manifest.id if self.checkpoint.manifest else self.base_sha

    @property
    def revision(self) -> str:
        """Commit of the Hub repository, or the first 12 digits of the weights' hash for a folder."""
        return getattr(self.config, "_commit_hash", None) or self.base_sha[:12]

    @property
    def tokenizer_sha(self) -> str:
        """Hash of the tokenizer's vocabulary and rules; how it last padded or cut is no part of it."""
        from transformers import PreTrainedTokenizerFast

        assert isinstance(self.tokenizer, PreTrainedTokenizerFast)
        rules = json.loads(self.tokenizer.backend_tokenizer.to_str())
        return store.hash_of({**rules, "padding": None, "truncation": None})

    @property
    def template_sha(self) -> str:
        """Hash of the chat template."""
        return hashlib.sha256(str(self.tokenizer.chat_template).encode()).hexdigest()

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end a turn or a document. Looked up once: a vocabulary is slow to list."""
        names = sorted({str(self.tokenizer.eos_token or "<|im_end|>"), "<|im_end|>", "<|endoftext|>"})
        ids = self.tokenizer.convert_tokens_to_ids(names)
        assert isinstance(ids, list)
        return tuple(sorted({token for token in ids if token is not None and token != self.tokenizer.unk_token_id}))

    def check_adapter(self) -> None:
        """Raises ConventionError unless the checkpoint's adapter is that of its manifest and was trained from this base."""
        from probes.lm.weights import check_adapter

        ours = {"base.sha": self.base_sha, "tokenizer_sha": self.tokenizer_sha, "template_sha": self.template_sha}
        check_adapter(self.checkpoint, ours)


def kind_of(name: str) -> Kind:
    """The kind of writer that a name, or an address, asks for. Raises UnknownNameError, DataError for half an address."""
    if name == "transformers" or name == "vllm":
        return name
    if "://" not in name:
        raise UnknownNameError("writer", name, NAMES)
    check_address(name, "the writer")
    return "server"


def start(name: str, checkpoint: Checkpoint, merged: Callable[[], Path] | None = None, gpus: int = 1) -> Writer:
    """The writer of this name, or at this address, for a checkpoint.

    Args:
        merged: gives the folder with a trained checkpoint as a whole model (training.export), which `vllm` writes with; asked
            when the first text is written.
        gpus: how many `vllm` spreads the weights over.

    Raises UnknownNameError, DataError for half an address, MissingInputError where vLLM is not installed or the weights, which
    are hashed, are not here, and what load raises.
    """
    kind = kind_of(name)
    if kind == "transformers":
        from probes.lm.model import load

        return load(checkpoint)
    known = _known(checkpoint)
    if kind == "vllm":
        from probes.lm.writers.vllm import VllmWriter

        writer: Writer = VllmWriter(*known, merged, gpus)
    else:
        from probes.lm.writers.server import ServerWriter

        writer = ServerWriter(*known, Connection(name))
    if checkpoint.manifest:
        writer.check_adapter()
    return writer


def _known(checkpoint: Checkpoint) -> tuple[ModelEntry, Checkpoint, Any, Any, str]:
    """What a Writer begins with, read from the files of a model without its weights, which are only hashed."""
    from probes.lm.weights import load_architecture, weights_sha

    entry = model_entry(checkpoint.model)
    sha = weights_sha(entry)  # first: it says what is missing
    return entry, checkpoint, *load_architecture(entry), sha
