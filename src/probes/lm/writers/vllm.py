"""vLLM in this process (`vllm.LLM`): hundreds of prompts at once, over one GPU or several.

It reads the weights from a folder and never from the Hub; of a trained checkpoint it needs the whole model, since adapters of
experts are not to be trusted there (vllm PRs 41384 and 52194). Prompts go in and completions come out as token ids, so that
vLLM's own tokenizer plays no part, and neither do the sampling defaults that ship with a model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes import store
from probes.errors import ConventionError, MissingInputError
from probes.lm.checkpoints import EXPORT_RECORD
from probes.lm.model import dtype_name, placement
from probes.lm.weights import local_file
from probes.lm.writers import UNITS, Writer

if TYPE_CHECKING:
    from probes.lm.generate import Sampling


@dataclass(frozen=True)
class VllmWriter(Writer):
    """Writes with vLLM. The engine starts with the first text, and `close` gives its memory back.

    Raises MissingInputError where vLLM is not installed or a trained checkpoint has no folder, ConventionError for a folder
    with another checkpoint, and what vLLM raises.
    """

    merged: Callable[[], Path] | None = None
    """Gives the folder with a trained checkpoint as a whole model."""
    gpus: int = 1

    kind = "vllm"
    unit = UNITS[kind]

    def __post_init__(self):
        vllm()  # before anything is loaded or exported for nothing

    @property
    def written_by(self) -> str:
        return f"vllm {vllm().__version__}, {self.dtype}"

    @property
    def dtype(self) -> str:
        """What lm.load would read the weights in here."""
        return dtype_name(placement()[0])

    @cached_property
    def engine(self) -> Any:
        """The running vllm.LLM."""
        return vllm().LLM(
            model=str(self._folder()), dtype=self.dtype, tensor_parallel_size=self.gpus, enable_prefix_caching=True,
            generation_config="vllm", max_model_len=-1,  # what the model takes, or as much of it as fits
        )  # fmt: skip

    def _folder(self) -> Path:
        """Where the whole weights are."""
        if self.checkpoint.manifest is None:
            config = local_file(self.entry, "config.json")
            assert config is not None  # it was read before
            return config.parent
        if self.merged is None:
            raise MissingInputError(
                f"vLLM writes with whole models, and {self.address} is an adapter: export it with "
                f"`python experiments/export_checkpoint.py --checkpoint {self.checkpoint.name}`, and say where it is (merged)."
            )
        folder = self.merged()
        record = store.read_json(folder / EXPORT_RECORD)
        if (record.get("manifest"), record.get("dtype")) != (self.weights, self.dtype):
            raise ConventionError(
                f"{folder} holds {record.get('checkpoint')} in {record.get('dtype')}, and not {self.address} as it is trained now "
                f"in {self.dtype}. Remove it, and export the checkpoint again."
            )
        return folder

    def write(
        self, prompt_ids: Sequence[list[int]], seeds: Sequence[int], sampling: "Sampling", done: Callable[[int], object]
    ) -> list[list[int]]:
        """What Writer.write says."""
        prompts = [{"prompt_token_ids": ids} for ids in prompt_ids]
        outputs = self.engine.generate(prompts, [self._params(seed, sampling) for seed in seeds], use_tqdm=False)
        done(len(prompts))
        return [list(output.outputs[0].token_ids) for output in outputs]

    def _params(self, seed: int, sampling: "Sampling") -> Any:
        return vllm().SamplingParams(
            max_tokens=sampling.max_new_tokens, temperature=sampling.temperature, top_p=sampling.top_p, seed=seed,
            stop_token_ids=list(self.stop_ids), skip_special_tokens=False, detokenize=False,
        )  # fmt: skip

    def close(self) -> None:
        """End the engine, whose processes hold the GPUs."""
        engine = vars(self).pop("engine", None)
        if engine is not None:
            engine.llm_engine.engine_core.shutdown()


def vllm() -> Any:
    """The package, which takes ten seconds to import. Raises MissingInputError."""
    try:
        return import_module("vllm")
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        raise MissingInputError(
            "the writer vllm is not installed: pip install 'emotion-probes[vllm]' on a machine with a GPU, or let transformers or "
            "a server write."
        ) from error
