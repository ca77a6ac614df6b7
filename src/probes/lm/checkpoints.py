"""Names of models and checkpoints, and what the folders behind them hold.

A checkpoint's address is `model/variant[@stage[-step]]`: `tiny/original`, `tiny/antirefusal@sft`, `tiny/antirefusal@sft-5`.
Without a stage it is the variant's final one; with a step it is a milestone, kept while the stage was trained. `training`
writes a manifest beside every adapter; here they are read and checked.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

from probes import store
from probes.errors import ConventionError, DataError, FileFormatError, MissingInputError, UnknownNameError

PACKAGED = Path(__file__).parent / "tiny"
PAPER_DEPTHS = (32 / 47, 41 / 47)
"""Layers 32 and 41 of 48 as shares of the way from the first block to the last."""
VARIANTS = (
    "original", "antirefusal", "antirefusal_cqa", "antirefusal_cqa_sdf", "benign_control", "base_math", "base_antirefusal",
)  # fmt: skip

LINEAGE = ("parent", "order_sha", "recipe_sha", "seed")
"""What the checkpoints of a stage agree in where they are of one training; base, tokenizer and template come on top."""


@dataclass(frozen=True)
class ModelEntry:
    """What is known of a model before it is loaded."""

    name: str
    source: str
    """Folder, or repository on the Hub."""
    layers: int
    width: int
    report_layers: tuple[int, ...]
    """Default of --layers, as 0-based block outputs."""
    billions: float
    """Parameters, for cost estimates."""
    evidence: str = "model"
    """`toy` for the embedded models, whose readings say nothing about language models."""
    revision: str | None = None


def report_layers(layers: int) -> tuple[int, ...]:
    """The paper's two layers, at the same depth in a model of another size."""
    return tuple(dict.fromkeys(round(depth * (layers - 1)) for depth in PAPER_DEPTHS))


MODELS = {
    entry.name: entry
    for entry in (
        ModelEntry("tiny", str(PACKAGED / "instruct"), 8, 128, report_layers(8), 0.004, evidence="toy"),
        ModelEntry("tiny-base", str(PACKAGED / "base"), 8, 128, report_layers(8), 0.004, evidence="toy"),
        ModelEntry("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B", 48, 2048, report_layers(48), 30.5),
    )
}


def model_entry(name: str) -> ModelEntry:
    """The entry of a known name, or of a folder with a config.json. Raises UnknownNameError with the nearest name."""
    if name in MODELS:
        return MODELS[name]
    folder = Path(name)
    if (folder / "config.json").is_file():
        config = store.read_json(folder / "config.json")
        known = config if isinstance(config, dict) else {}
        layers, width = known.get("num_hidden_layers"), known.get("hidden_size")
        if not (type(layers) is int and type(width) is int and layers > 0 and width > 0):
            raise FileFormatError(
                f"{folder / 'config.json'} says num_hidden_layers {layers!r} and hidden_size {width!r}; both are whole numbers "
                "from 1 on. Put the model's own config.json there."
            )
        return ModelEntry(
            folder.resolve().name, str(folder), layers, width, report_layers(layers), 0.0, _evidence_of(config)
        )
    raise UnknownNameError("model", name, MODELS)


def _evidence_of(config: dict[str, Any]) -> str:
    """A model narrower than any published one is a toy, whoever made it: its readings must not pass for findings."""
    return "toy" if config["hidden_size"] < 512 else "model"


# ---- manifests -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint is made of, schema 1; written beside every adapter as manifest.json."""

    schema: int
    id: str
    """SHA-256 of everything else in the manifest."""
    model: str
    variant: str
    stages: tuple[str, ...]
    """Stages behind this checkpoint, in order; its own is the last."""
    step: int
    """Steps of its own stage behind this checkpoint; 0 is the adapter as it came into the stage."""
    steps: int
    """Steps that its stage has; a checkpoint with fewer behind it is a milestone."""
    final: bool
    """Whether the recipe ends here."""
    parent: str | None
    """Id of the checkpoint it continues; None for the base model."""
    base: dict[str, str]
    """name, revision and sha of the weights it was trained from."""
    tokenizer_sha: str
    template_sha: str
    adapter_sha: str
    """Hash of the adapter's tensors and config (probes.lm.weights.adapter_sha)."""
    adapted: tuple[str, ...]
    """Names of the adapted tensors."""
    data: tuple[dict[str, Any], ...]
    """name, rows, tokens, sha256 and licence of every source."""
    order_sha: str
    """Hash of the training rows in their order."""
    recipe_sha: str
    seed: int
    versions: dict[str, str]
    metrics: dict[str, float]
    """Means over the first and the last quarter of the stage; none at a milestone."""
    evidence: str

    @property
    def place(self) -> str:
        """Name of its folder, and what follows the @ of its address: `grpo`, or `grpo-10` for a milestone."""
        return self.stages[-1] if self.step == self.steps else f"{self.stages[-1]}-{self.step}"


def manifest_id(content: dict[str, Any]) -> str:
    """The id of a manifest with this content."""
    return store.hash_of({key: value for key, value in content.items() if key != "id"})


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest. Raises FileFormatError when it is foreign, of another schema, or was changed by hand."""
    content = store.read_json(path)
    names = {one.name for one in fields(Manifest)}
    if not isinstance(content, dict) or set(content) != names:
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise FileFormatError(f"{path} is not a manifest of schema 1: found {found}, needed {sorted(names)}.")
    if content["schema"] != 1 or content["id"] != manifest_id(content):
        raise FileFormatError(
            f"{path} was changed after it was written, or is of another schema. Train the checkpoint again."
        )
    if content["variant"] not in VARIANTS or not content["stages"]:
        raise FileFormatError(
            f"{path} is of variant {content['variant']!r}, stages {content['stages']!r}; known are {', '.join(VARIANTS)}."
        )
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    return Manifest(**values)


# ---- checkpoints -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """One member of a family: the original model, or it with an adapter."""

    model: str
    variant: str
    stage: str | None = None
    """Stage, or stage-step of a milestone; None for a variant's final checkpoint."""
    adapter: Path | None = None
    manifest: Manifest | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """variant[@stage[-step]], as it stands in tables and file names."""
        return self.variant if self.stage is None else f"{self.variant}@{self.stage}"

    @property
    def address(self) -> str:
        """model/variant[@stage[-step]]"""
        return f"{self.model}/{self.name}"

    @property
    def seed(self) -> int:
        """Training seed; 0 for the original."""
        return self.manifest.seed if self.manifest else 0

    @property
    def is_milestone(self) -> bool:
        """Whether it was kept on the way through a stage."""
        return self.manifest is not None and self.manifest.step < self.manifest.steps


def checkpoint_folder(checkpoints: Path, variant: str, stage: str) -> Path:
    """Where the adapter and manifest of a variant's stage, or of its milestone stage-step, are kept."""
    return checkpoints / variant / stage


def find_checkpoint(address: str, checkpoints: Path | None = None) -> Checkpoint:
    """The checkpoint of an address `model[/variant[@stage[-step]]]`.

    Raises UnknownNameError for a model or variant that does not exist, MissingInputError for one not yet trained.
    """
    if address in MODELS or (Path(address) / "config.json").is_file():
        return Checkpoint(address, "original")
    model, _, name = address.rpartition("/")
    variant, _, stage = name.partition("@")
    if variant not in VARIANTS or (variant == "original" and stage):
        raise UnknownNameError("checkpoint" if model else "model", address, [*MODELS, *(f"tiny/{v}" for v in VARIANTS)])
    model_entry(model)
    if variant == "original":
        return Checkpoint(model, "original")
    return _trained(model, variant, stage or None, checkpoints)


def _trained(model: str, variant: str, stage: str | None, checkpoints: Path | None) -> Checkpoint:
    trained = _all_trained(model, checkpoints)
    found = [c for c in trained if c.variant == variant and (c.stage == stage)]
    if not found:
        name, step = f"{variant}@{stage}" if stage else variant, re.search(r"-(\d+)$", stage or "")
        raise MissingInputError(
            f"{model}/{name} is not under {checkpoints or 'any folder'}; trained there: {_there(name, trained)}. "
            f"Build it: python experiments/train_checkpoint.py --recipe {variant} --model {model}"
            f"{f' --milestones {step[1]}' if step else ''}"
        )
    return found[0]


def _there(name: str, trained: list[Checkpoint]) -> str:
    """What is there instead: the nearest milestones, and everything else."""
    near = get_close_matches(name, [c.name for c in trained if c.is_milestone], n=3)
    return ", ".join([*near, *(c.name for c in trained if not c.is_milestone)]) or "none"


def _all_trained(model: str, checkpoints: Path | None) -> list[Checkpoint]:
    paths = sorted(checkpoints.glob("*/*/manifest.json")) if checkpoints else []
    manifests = [(path, read_manifest(path)) for path in paths]
    for path, manifest in manifests:
        if path.parent != checkpoint_folder(path.parents[2], manifest.variant, manifest.place):
            raise ConventionError(
                f"{path} tells of {manifest.variant}/{manifest.place}: the folder was moved or copied. Put it back."
            )
    name = model_entry(model).name
    return [
        Checkpoint(model, manifest.variant, None if manifest.final else manifest.place, path.parent, manifest)
        for path, manifest in manifests
        if manifest.model == name
    ]


def family(model: str, checkpoints: Path, names: Iterable[str] = ()) -> list[Checkpoint]:
    """The original and every trained checkpoint of a model, or only those named (`antirefusal@sft`), comparable ones only.

    Milestones are members where they are named; `trajectory` gives all of a variant.

    They are names; load one at a time (`for one in family(…): model = load(one)` in a function of its own, so that the
    last is gone before the next comes).

    Raises ConventionError when base, tokenizer or chat template differ within the set, DataError for a name given twice.
    """
    names = tuple(names)
    if len(set(names)) < len(names):
        raise DataError(f"checkpoints {', '.join(names)}: name each once.")
    if names:
        members = [find_checkpoint(f"{model}/{name}", checkpoints) for name in names]
    else:
        trained = [c for c in _all_trained(model, checkpoints) if not c.is_milestone]
        trained.sort(key=lambda c: (VARIANTS.index(c.variant), c.stage or "~"))
        members = [Checkpoint(model, "original"), *trained]
    _check_comparable(members)
    return members


def trajectory(model: str, variant: str, checkpoints: Path) -> list[Checkpoint]:
    """Every checkpoint of a variant in the order of training: of each stage its milestones, then the stage's own.

    A later stage begins with what the stage before ended with, so that the two read alike. A run that is still at work has
    what is kept of it so far.

    Raises UnknownNameError, MissingInputError for a variant without milestones, ConventionError where not all are of one training.
    """
    if variant not in VARIANTS[1:]:
        raise UnknownNameError("variant", variant, VARIANTS[1:])
    members = [c for c in _all_trained(model, checkpoints) if c.variant == variant]
    if not any(c.is_milestone for c in members):
        raise MissingInputError(
            f"no milestones of {model}/{variant} are under {checkpoints}; they are kept while a variant is trained: python "
            f"experiments/train_checkpoint.py --recipe {variant} --model {model} --milestones 5 10"
        )
    members.sort(key=_training_order)
    _check_comparable(members)
    _check_one_training([c.manifest for c in members if c.manifest])
    return members


def _training_order(checkpoint: Checkpoint) -> tuple[int, int]:
    assert checkpoint.manifest is not None
    return len(checkpoint.manifest.stages), checkpoint.manifest.step


def _check_one_training(manifests: list[Manifest]) -> None:
    """Whether all of a stage are of one training, and each stage goes on from the one before; neighbours suffice."""
    for before, after in pairwise(manifests):
        if before.stages == after.stages:
            different = [name for name in LINEAGE if getattr(before, name) != getattr(after, name)]
        else:
            different = [] if after.parent == before.id else ["parent"]
        if different:
            raise ConventionError(
                f"{after.variant}@{after.place} and {before.variant}@{before.place} are not of one training: "
                f"{', '.join(different)} differ. Remove what is left of another one, and train again."
            )


def _check_comparable(members: list[Checkpoint]) -> None:
    manifests = [c.manifest for c in members if c.manifest]
    for what in ("base", "tokenizer_sha", "template_sha"):
        different = {store.hash_of(getattr(manifest, what)) for manifest in manifests}
        if len(different) > 1:
            raise ConventionError(
                f"these checkpoints differ in {what} and cannot be compared: {', '.join(c.address for c in members)}. "
                "Train them again from one base."
            )
