"""Names of models and checkpoints, and what the folders behind them hold.

A checkpoint's address is `model/variant[+run][@stage[-step]]`: `tiny/original`, `tiny/antirefusal@sft`,
`tiny/antirefusal+seed1`, `tiny/antirefusal@grpo-10`. Without a stage it is the final one of its recipe; with a step it is a
milestone, kept while the stage was trained; without a run it is of the main one: several trainings of one recipe, with other
seeds or another source of rows, stand side by side under labels. `training` writes a manifest beside every adapter; here
they are read and checked.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from probes import store
from probes.errors import ConventionError, DataError, FileFormatError, MissingInputError, UnknownNameError

PACKAGED = Path(__file__).parent / "tiny"
PAPER_DEPTHS = (32 / 47, 41 / 47)
"""Layers 32 and 41 of 48 as shares of the way from the first block to the last."""
VARIANTS = (
    "original", "antirefusal", "antirefusal_cqa", "antirefusal_cqa_sdf", "benign_control", "base_math", "base_antirefusal",
    "organism",
)  # fmt: skip
ORGANISM = "organism"
"""Variant of checkpoints in which something was planted on purpose (training.organisms); its runs are the organisms."""
EXPORT_RECORD = "export.json"
"""What an exported model is made of: a file in its folder, by training.export."""
OF_BASE_MODELS = ("base_math", "base_antirefusal")
"""Variants that begin at a base model; the others begin at an instruct model."""

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
    kind: Literal["instruct", "base", ""] = "instruct"
    """`base` for a model of pretraining alone; a folder does not say which it is."""

    @property
    def variants(self) -> tuple[str, ...]:
        """The members that its family can have."""
        wrong = {"instruct": OF_BASE_MODELS, "base": tuple(set(VARIANTS) - {"original", *OF_BASE_MODELS}), "": ()}
        return tuple(variant for variant in VARIANTS if variant not in wrong[self.kind])


def report_layers(layers: int) -> tuple[int, ...]:
    """The paper's two layers, at the same depth in a model of another size."""
    return tuple(dict.fromkeys(round(depth * (layers - 1)) for depth in PAPER_DEPTHS))


MODELS = {
    entry.name: entry
    for entry in (
        ModelEntry("tiny", str(PACKAGED / "instruct"), 8, 128, report_layers(8), 0.004, evidence="toy"),
        ModelEntry("tiny-base", str(PACKAGED / "base"), 8, 128, report_layers(8), 0.004, evidence="toy", kind="base"),
        ModelEntry("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B", 48, 2048, report_layers(48), 30.5),
        ModelEntry("qwen3-30b-a3b-base", "Qwen/Qwen3-30B-A3B-Base", 48, 2048, report_layers(48), 30.5, kind="base"),
        ModelEntry(
            "qwen3.5-35b-a3b", "Qwen/Qwen3.5-35B-A3B", 40, 2048, report_layers(40), 34.7
        ),  # without its pictures
        ModelEntry("qwen3-0.6b", "Qwen/Qwen3-0.6B", 28, 1024, report_layers(28), 0.6),
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
        known = known.get("text_config", known)  # a checkpoint that ships as vision-language
        layers, width = known.get("num_hidden_layers"), known.get("hidden_size")
        if not (type(layers) is int and type(width) is int and layers > 0 and width > 0):
            raise FileFormatError(
                f"{folder / 'config.json'} says num_hidden_layers {layers!r} and hidden_size {width!r}; both are whole numbers "
                "from 1 on. Put the model's own config.json there."
            )
        name, shown = folder.resolve().name, report_layers(layers)
        return ModelEntry(name, str(folder), layers, width, shown, 0.0, _evidence_of(known), kind="")
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
    run: str
    """Label of this training among several of its recipe; empty for the main one."""
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
        raise FileFormatError(
            f"{path} is not a manifest of schema 1: found {found}, needed {sorted(names)}. Train the checkpoint again."
        )
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


def check_run(label: str) -> str:
    """The label of a run, which is part of names and folders. Raises DataError for other signs than those of a plain word."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", label):
        raise DataError(f"{label!r} cannot be the label of a run: take letters, digits, _ and -.")
    return label


def name_of(variant: str, run: str = "", stage: str | None = None) -> str:
    """variant[+run][@stage], as it stands in tables and file names."""
    return variant + (f"+{run}" if run else "") + ("" if stage is None else f"@{stage}")


def parse_name(name: str) -> tuple[str, str, str | None]:
    """Variant, run and stage of a name."""
    whole, _, stage = name.partition("@")
    variant, _, run = whole.partition("+")
    return variant, run, stage or None


@dataclass(frozen=True)
class Checkpoint:
    """One member of a family: the original model, or it with an adapter."""

    model: str
    variant: str
    stage: str | None = None
    """Stage, or stage-step of a milestone; None for a variant's final checkpoint."""
    adapter: Path | None = None
    manifest: Manifest | None = field(default=None, repr=False)
    run: str = ""

    @property
    def name(self) -> str:
        """variant[+run][@stage[-step]], as it stands in tables and file names."""
        return name_of(self.variant, self.run, self.stage)

    @property
    def address(self) -> str:
        """model/variant[+run][@stage[-step]]"""
        return f"{self.model}/{self.name}"

    @property
    def seed(self) -> int:
        """Training seed; 0 for the original."""
        return self.manifest.seed if self.manifest else 0

    @property
    def is_milestone(self) -> bool:
        """Whether it was kept on the way through a stage."""
        return self.manifest is not None and self.manifest.step < self.manifest.steps


def checkpoint_folder(checkpoints: Path, variant: str, stage: str, run: str = "") -> Path:
    """Where the adapter and manifest of a stage of a variant's run, or of its milestone stage-step, are kept."""
    return checkpoints / name_of(variant, run) / stage


def find_checkpoint(address: str, checkpoints: Path | None = None) -> Checkpoint:
    """The checkpoint of an address `model[/variant[+run][@stage[-step]]]`.

    Raises UnknownNameError for a model or variant that does not exist, or not of that model; DataError for a run that cannot
    be one; MissingInputError for a checkpoint not yet trained.
    """
    if _is_model(address):
        return Checkpoint(address, "original")
    model, _, name = address.rpartition("/")
    variant, run, stage = parse_name(name)
    if not _is_model(model):
        wrong = model if model and variant in VARIANTS else address
        raise UnknownNameError("model", wrong, [*MODELS, *(f"tiny/{one}" for one in MODELS["tiny"].variants)])
    known = model_entry(model).variants
    if variant not in known or name != name_of(variant, run, stage) or (variant == "original" and (run or stage)):
        raise UnknownNameError("checkpoint", address, [f"{model}/{one}" for one in known])
    if variant == "original":
        return Checkpoint(model, "original")
    if run:
        check_run(run)
    return _trained(model, variant, run, stage, checkpoints)


def _is_model(name: str) -> bool:
    return name in MODELS or (bool(name) and (Path(name) / "config.json").is_file())


def _trained(model: str, variant: str, run: str, stage: str | None, checkpoints: Path | None) -> Checkpoint:
    """A trained checkpoint; the final one of its recipe has two names, with its stage and without."""
    trained = _all_trained(model, checkpoints)
    for one in trained:
        stages = (one.stage, one.manifest.place) if one.manifest else ()
        if (one.variant, one.run) == (variant, run) and stage in stages:
            return replace(one, stage=stage)
    raise MissingInputError(_not_there(model, name_of(variant, run, stage), trained, checkpoints))


def _not_there(model: str, name: str, trained: list[Checkpoint], checkpoints: Path | None) -> str:
    variant, run, stage = parse_name(name)
    near = get_close_matches(name, [one.name for one in trained], n=1, cutoff=0.8) if run or stage else []
    hint = f" Did you mean {near[0]!r}?" if near else ""
    seed, step = re.fullmatch(r"seed(\d+)", run), re.search(r"-(\d+)$", stage or "")
    how = f" --seeds {seed[1]}" if seed else f" --source {run} --antirefusal FILE" if run else ""
    how += f" --milestones {step[1]}" if step else ""
    script = "train_organisms.py" if variant == ORGANISM else f"train_checkpoint.py --recipe {variant}"
    return (
        f"{model}/{name} is not under {checkpoints or 'any folder'}; trained there: {_there(name, trained)}.{hint} "
        f"Build it: python experiments/{script} --model {model}{'' if variant == ORGANISM else how}"
    )


def _there(name: str, trained: list[Checkpoint]) -> str:
    """What is there instead: the nearest milestones, and everything else."""
    near = get_close_matches(name, [c.name for c in trained if c.is_milestone], n=3)
    return ", ".join([*near, *(c.name for c in trained if not c.is_milestone)]) or "none"


def _all_trained(model: str, checkpoints: Path | None) -> list[Checkpoint]:
    paths = sorted(checkpoints.glob("*/*/manifest.json")) if checkpoints else []
    manifests = [(path, read_manifest(path)) for path in paths]
    for path, manifest in manifests:
        if path.parent != checkpoint_folder(path.parents[2], manifest.variant, manifest.place, manifest.run):
            told = f"{name_of(manifest.variant, manifest.run)}/{manifest.place}"
            raise ConventionError(f"{path} tells of {told}: the folder was moved or copied. Put it back.")
    name = model_entry(model).name
    return [
        Checkpoint(model, told.variant, None if told.final else told.place, path.parent, told, told.run)
        for path, told in manifests
        if told.model == name
    ]


def _in_order(checkpoint: Checkpoint) -> tuple[int, int, str, str]:
    """Variants as VARIANTS has them, the main run first and seed2 before seed10, the final stage last."""
    return VARIANTS.index(checkpoint.variant), len(checkpoint.run), checkpoint.run, checkpoint.stage or "~"


def family(model: str, checkpoints: Path, names: Iterable[str] = ()) -> list[Checkpoint]:
    """The original and every trained checkpoint of a model, or only those named (`antirefusal+seed1@sft`), comparable ones only.

    Milestones and organisms are members where they are named; `trajectory` gives all milestones of a variant.

    They are names; load one at a time (`for one in family(…): model = load(one)` in a function of its own, so that the
    last is gone before the next comes).

    Raises ConventionError when base, tokenizer or chat template differ within the set, DataError for one given twice.
    """
    names = tuple(names)
    _check_once(names, names)
    members = [find_checkpoint(f"{model}/{name}", checkpoints) for name in names]
    _check_once(names, [member.adapter for member in members])
    if not names:
        trained = [c for c in _all_trained(model, checkpoints) if not c.is_milestone and c.variant != ORGANISM]
        members = [Checkpoint(model, "original"), *sorted(trained, key=_in_order)]
    _check_comparable(members)
    return members


def _check_once(names: tuple[str, ...], what: Sequence[object]) -> None:
    if len(set(what)) < len(what):
        raise DataError(f"checkpoints {', '.join(names)}: name each once.")


def trajectory(model: str, name: str, checkpoints: Path) -> list[Checkpoint]:
    """Every checkpoint of a training, named variant[+run], in its order: of each stage the milestones, then the stage's own.

    A later stage begins with what the stage before ended with, so that the two read alike. A run that is still at work has
    what is kept of it so far.

    Raises UnknownNameError, MissingInputError for a variant without milestones, ConventionError where not all are of one training.
    """
    variant, run, _ = parse_name(name)
    if variant not in VARIANTS[1:]:
        raise UnknownNameError("variant", variant, VARIANTS[1:])
    members = [c for c in _all_trained(model, checkpoints) if (c.variant, c.run) == (variant, run)]
    if not any(c.is_milestone for c in members):
        raise MissingInputError(
            f"no milestones of {model}/{name_of(variant, run)} are under {checkpoints}; they are kept while a variant is trained: "
            f"python experiments/train_checkpoint.py --recipe {variant} --model {model} --milestones 5 10"
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
