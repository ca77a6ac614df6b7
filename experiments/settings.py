"""The flags that all steps share, the places they read and write, and the way a step becomes a command."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tyro

from probes.doctor import examined
from probes.errors import LayerError, ProbesError
from probes.lm.checkpoints import Checkpoint, ModelEntry, model_entry
from probes.lm.engines import LOAD_THEMSELVES, Engine, EngineName, start
from probes.lm.writers import Kind
from probes.pairs import Pair, load_pairs
from probes.parts import Parts
from probes.presets import Preset, find_preset
from probes.provenance import plain
from probes.shards import Shard, shard_of

if TYPE_CHECKING:
    from probes.cost import Rates

# With two threads on two cores small matrices take fifteen times as long. Whoever runs a large model on a CPU sets it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

S = TypeVar("S", bound="Settings")


@dataclass(frozen=True)
class Settings:
    """What every step needs to know."""

    model: str = "tiny"
    """tiny, tiny-base, qwen3-30b-a3b, qwen3-30b-a3b-base, qwen3.5-35b-a3b, qwen3-0.6b, or a folder with a transformers model."""
    preset: str = ""
    """tiny, standard or paper; by default tiny for the embedded models and standard for others."""
    checkpoints: tuple[str, ...] = (
        "original", "antirefusal", "antirefusal_cqa", "antirefusal_cqa_sdf", "benign_control",
    )  # fmt: skip
    """Members of the family to answer and be read, as variant[+run][@stage]."""
    layers: tuple[int, ...] = ()
    """Block outputs to show, and to read by every readout, 0-based; by default the model's report layers (32 and 41 of 48)."""
    engine: EngineName = "transformers_hooks"
    """What reads residual streams; all steps of a run take the same one, and the doctor examines it before it is used."""
    despite_red: str = ""
    """Why to go on where the doctor finds that the engine reads a model wrongly; without a reason steps stop there. Activations
    and probes keep it."""
    seed: int = 0
    """Seed of all sampling."""
    out: Path = Path("runs")
    """Folder of intermediate results; git ignores it."""
    figures: Path = Path("figures")
    """Folder of figures."""

    @property
    def entry(self) -> ModelEntry:
        return model_entry(self.model)

    @property
    def size(self) -> Preset:
        return find_preset(self.preset or ("tiny" if self.entry.evidence == "toy" else "standard"))

    @property
    def folder(self) -> Path:
        """Intermediate results of this model and preset."""
        return self.out / self.entry.name / self.size.name

    @property
    def shown_layers(self) -> tuple[int, ...]:
        wrong = [layer for layer in self.layers if not 0 <= layer < self.entry.layers]
        if wrong:
            raise LayerError(f"--layers {wrong}: {self.entry.name} has block outputs 0 … {self.entry.layers - 1}.")
        return self.layers or self.entry.report_layers

    @property
    def layers_name(self) -> str:
        """The shown layers, as file names have them."""
        shown = self.shown_layers
        return "layers_" + ("_".join(map(str, shown)) if len(shown) <= 12 else f"{shown[0]}_to_{shown[-1]}")

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The questions that are asked."""
        return load_pairs(per_domain=self.size.questions_per_domain)

    @property
    def with_original(self) -> tuple[str, ...]:
        """The checkpoints, and the original that they are held against, which comes first."""
        return tuple(dict.fromkeys(("original", *self.checkpoints)))

    @property
    def rates(self) -> "Rates":
        """Tokens a second, as far as a rehearsal of this model measured them with the engine and the writer of this step."""
        from probes.cost import read_rates

        return read_rates(self.rehearsal / "rehearsal.json", self.engine, self.writer_kind)

    @property
    def writer_kind(self) -> Kind:
        """What writes; steps that have no flag for it do not write, or write with the reference."""
        return "transformers"

    @property
    def rehearsal(self) -> Path:
        """What was found on the real weights before the first long run."""
        return self.out / self.entry.name / "rehearsal"

    @property
    def scenarios(self) -> Path:
        """Where published sets of scenarios are looked for."""
        return self.out / "scenarios"

    @property
    def trained(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def share(self) -> Shard:
        """What of the work is this process's."""
        return Shard()

    def parts(self, target: Path, made_of: Mapping[str, Any]) -> Parts:
        """The resumable work that makes `target` of these things, at this size."""
        return Parts(target, plain({"preset": asdict(self.size), **made_of}), self.share)

    def training_data(self, kind: str) -> Path:
        """What is generated from a constitution: `constitution_qa` or `documents`."""
        return self.folder / "training_data" / f"{kind}.jsonl"

    def told(self, author: str) -> Path:
        """Stories of a checkpoint, their activations in it, and probes of them. The original's are those that all are read by."""
        return self.folder if author == "original" else self.folder / "own_stories" / author

    def stories(self, kind: str, author: str = "original") -> Path:
        """Texts: kind `emotional` or `neutral`, and of topics that no probe has seen `anchor` or `anchor_neutral`."""
        return self.told(author) / "stories" / f"{kind}.jsonl"

    def activations(self, kind: str, author: str = "original") -> Path:
        """Residual streams: `moments` of all stories, vectors of the `held_out` and the `neutral` ones; of a control, the
        same behind its name: `random_moments`."""
        return self.told(author) / "activations" / f"{kind}.safetensors"

    def doctor(self, checkpoint: str) -> Path:
        """What the doctor found of a checkpoint and the engine that reads it."""
        return self.folder / "doctor" / f"{checkpoint}.json"

    @contextmanager
    def reading(self, checkpoint: Checkpoint | None = None) -> Iterator[Engine]:
        """What reads a checkpoint, the original unless given: loaded, examined, and given back at the end.

        Where the engine holds the weights itself no other copy is made but for the doctor's reference, on the CPU, once.
        """
        from probes.lm.model import load
        from training.export import export

        checkpoint, itself = checkpoint or Checkpoint(self.model, "original"), self.engine in LOAD_THEMSELVES
        model = load(checkpoint, device="meta" if itself else None)
        dtype = model.network.dtype
        merged = export(checkpoint, self.merged(checkpoint.name), dtype) if itself and checkpoint.adapter else None
        with closing(start(self.engine, model, merged)) as engine:
            reference = partial(load, checkpoint, dtype=dtype, device="cpu") if itself else None
            yield examined(engine, self.doctor(checkpoint.name), self.despite_red, reference)

    def merged(self, checkpoint: str) -> Path:
        """The whole model of a trained checkpoint, for vLLM."""
        return self.folder / "merged" / checkpoint

    def probes_of(self, author: str) -> Path:
        """Probes fitted on the stories of a checkpoint, in it."""
        return self.told(author) / "probes" / "sofroniew.safetensors"

    @property
    def probes(self) -> Path:
        """The original's, which are frozen."""
        return self.probes_of("original")

    @property
    def claims(self) -> Path:
        """The family of claims that was sealed before anything was read."""
        return self.folder / "claims" / "confirmatory.json"

    @property
    def planted(self) -> Path:
        """Key, targets and scores of organisms: checkpoints with a planted emotion."""
        return self.folder / "organisms"

    @property
    def curve(self) -> Path:
        """The planted doses and what was read of them."""
        return self.planted / "curve.csv"

    def gates(self, checkpoint: str) -> Path:
        """What must hold before a number of a checkpoint is shown, and the unit of its readings."""
        return self.folder / "gates" / f"{checkpoint}.csv"

    def refit(self, checkpoint: str) -> Path:
        """Probes fitted anew in a checkpoint, on the stories that all are fitted on."""
        return self.gates(checkpoint).with_suffix(".probes.safetensors")

    def replies(self, checkpoint: str, turn: str = "answer") -> Path:
        """Replies of a checkpoint: its answers, or what it says in the turn `follow_up`."""
        return self.folder / "replies" / f"{_turn_of(checkpoint, turn)}.jsonl"

    def readings(self, checkpoint: str, turn: str = "answer") -> Path:
        return self.folder / "readings" / f"{_turn_of(checkpoint, turn)}.parquet"

    def centres(self, checkpoint: str) -> Path:
        """Where a checkpoint's reading of one text lies in each arm, at the shown layers."""
        return self.activations(f"centres_{checkpoint}")

    def figure_folder(self, figure: str) -> Path:
        return self.figures / self.entry.name / figure


@dataclass(frozen=True)
class ShardedSettings(Settings):
    """Of a step that many processes can share."""

    shard: str = ""
    """Do the units R, R + N, … of the work and merge nothing, given as R/N; by default what torchrun says, or everything."""

    @property
    def share(self) -> Shard:
        return shard_of(self.shard)

    def announce(self, step: str) -> None:
        """Say before a step begins what it takes."""
        from probes.cost import announcement

        given = (self.entry, self.size, step, len(self.with_original), self.share, self.rates, self.folder)
        print(announcement(*given, self.writer_kind), flush=True)


def flags(settings: Settings) -> list[str]:
    """The command line that gives these settings: what differs from the defaults, without switches."""
    given = [(field.name, getattr(settings, field.name)) for field in fields(settings) if field.type is not bool]
    changed = [(name, value) for name, value in given if value != getattr(type(settings), name)]
    return [
        word
        for name, value in changed
        for word in (f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,)))
    ]


def _turn_of(checkpoint: str, turn: str) -> str:
    return checkpoint if turn == "answer" else f"{checkpoint}.{turn}"


def command(main: Callable[[S], object], settings: type[S], description: str | None) -> None:
    """Run a step from the command line. An error of this package ends it with one line and exit code 1."""
    try:
        given = tyro.cli(settings, description=description)
        if isinstance(given, ShardedSettings):
            given.announce(Path(main.__code__.co_filename).stem)
        main(given)
    except ProbesError as error:
        sys.exit(f"{type(error).__name__}: {error}")
