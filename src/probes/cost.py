"""What a study will take, from its size alone, and what is missing for it on this machine."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from probes import store
from probes.activations import UNIT, VECTORS
from probes.errors import FileFormatError
from probes.follow_ups import ASKED_ABOUT
from probes.lm.checkpoints import ModelEntry
from probes.lm.engines import EngineName
from probes.lm.writers import UNITS, Kind
from probes.moments import FOLDS, HALVES, moments_bytes
from probes.pairs import ARMS, load_pairs, prompts
from probes.presets import Preset
from probes.shards import Shard

STORY_TOKENS, ANSWER_TOKENS, FOLLOW_UP_TOKENS = 200, 400, 100
"""Lengths for planning: of a story of a large model, as replications report it, of an answer, and of what is said about one."""
LETTERS = 5
"""Bytes of a token of text, for planning."""
FLOAT32, FLOAT64, BFLOAT16 = 4, 8, 2
BESIDE = ("capture_replies", "own_stories")
"""Steps that are none of the job."""


@dataclass(frozen=True)
class Rates:
    """Tokens a second of one process, on whatever GPUs it has, and where they are from."""

    written: float
    read: float
    source: str

    def hours(self, written: float, read: float) -> float:
        """Hours of one process for so many tokens."""
        return (written / self.written + read / self.read) / 3600


ASSUMED = Rates(1000, 1000, "assumed from a published run of a 31B model, not measured here")


def read_rates(path: Path, engine: EngineName = "transformers_hooks", writer: Kind = "transformers") -> Rates:
    """The rates that a rehearsal measured with this engine and this kind of writer; of another one the assumed rate stands.

    ASSUMED where nothing was measured with either. Raises FileFormatError for another kind of file.
    """
    if not path.is_file():
        return ASSUMED
    found = store.read_json(path)
    if isinstance(found, dict) and found.get("kind") == "rehearsal" and found.get("rates") is None:
        return ASSUMED  # it ended before anything was measured
    try:
        written, read = (float(found["rates"][name]) for name in ("written", "read"))
        if not (written > 0 and read > 0):
            raise ValueError(f"{written} and {read} tokens a second")
        return _of(
            Rates(written, read, "measured by the rehearsal"), (found["writer"], writer), (found["engine"], engine)
        )
    except (LookupError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} is of no rehearsal: {error}. Run experiments/rehearsal.py again.") from error


def _of(measured: Rates, writers: tuple[str, str], engines: tuple[str, str]) -> Rates:
    """What was measured, as far as the first, which it was measured with, is the second, which is asked for."""
    pairs = (("writing", measured.written, ASSUMED.written, writers), ("reading", measured.read, ASSUMED.read, engines))
    if all(had != wanted for *_, (had, wanted) in pairs):
        return ASSUMED
    written, read = (ours if had == wanted else assumed for _, ours, assumed, (had, wanted) in pairs)
    said = [f"{what} {_said(measured, had, wanted)}" for what, *_, (had, wanted) in pairs]
    return Rates(written, read, ", ".join(said))


def _said(measured: Rates, had: str, wanted: str) -> str:
    return f"{measured.source} with {had}" if had == wanted else f"assumed: the rehearsal was with {had}"


@dataclass(frozen=True)
class Load:
    """What a step does with a model."""

    files: tuple[int, ...]
    """Units of each file."""
    written: int
    """Tokens."""
    read: int
    """Tokens."""
    disk: int
    """Bytes, units included while they are made."""

    def units(self, shard: Shard) -> int:
        """How many a shard makes."""
        return sum(len(shard.take(range(units))) for units in self.files)

    def part(self, shard: Shard) -> float:
        """What a shard does of it, by the units of the largest file: those of others may be smaller."""
        return len(shard.take(range(max(self.files)))) / max(self.files)


def loads(entry: ModelEntry, size: Preset, checkpoints: int, writer: Kind = "transformers") -> Mapping[str, Load]:
    """What each step does that many processes can share, of so many checkpoints, the original among them."""
    story, answer = min(STORY_TOKENS, size.story_tokens), min(ANSWER_TOKENS, size.answer_tokens)
    dialogues, held_out = size.topics * size.neutral_per_topic, len(size.emotions) * size.held_out
    anchors = (len(size.emotions) * size.anchor_topics, size.anchor_topics * size.neutral_per_topic)
    told = (size.stories, dialogues, *anchors)
    own, forced = _replies(size, size.own_controls) * size.draws, 2 * _replies(size, size.controls)
    asked = 2 * len(ASKED_ABOUT) * len(load_pairs(per_domain=size.questions_per_domain))
    written = own * answer + asked * min(FOLLOW_UP_TOKENS, size.answer_tokens)
    answers = (own + forced) * answer + asked * FOLLOW_UP_TOKENS
    captured = (size.stories + held_out + 2 * dialogues) * story
    refits, disk, shown = (
        checkpoints - 1,
        activation_bytes(entry, size),
        len(entry.report_layers) * entry.width * FLOAT32,
    )
    moments, vectors = _units(UNIT, size.stories), _units(VECTORS, dialogues, held_out)
    anew = (refits * (size.stories + dialogues) + checkpoints * sum(anchors)) * story
    texts = LETTERS * sum(told) * story, 2 * LETTERS * checkpoints * answers
    own_texts = refits * (size.stories + dialogues) * story
    return {
        "write_stories": Load(_units(UNITS[writer], *told), sum(told) * story, 0, texts[0]),
        "capture_stories": Load(moments + vectors, 0, captured, disk),
        "capture_controls": Load(moments + vectors, 0, captured, 2 * disk),
        "check_gates": Load(moments * refits, 0, anew, disk),
        "write_replies": Load(_units(UNITS[writer], own, asked) * checkpoints, checkpoints * written, 0, texts[1]),
        "read_replies": Load((checkpoints,), 0, checkpoints * answers, 0),
        "own_stories": Load((checkpoints,), own_texts, refits * captured, refits * disk + LETTERS * own_texts),
        "capture_replies": Load((checkpoints,), 0, checkpoints * answers, checkpoints * (own + forced) * shown),
    }


def _units(size: int, *texts: int) -> tuple[int, ...]:
    """Units of files of so many texts."""
    return tuple(-(-count // size) for count in texts)


def announcement(
    entry: ModelEntry, size: Preset, step: str, checkpoints: int, shard: Shard, rates: Rates, files: Path,
    writer: Kind = "transformers",
) -> str:  # fmt: skip
    """What a step takes here, said before it begins: units, tokens, hours, disk and memory.

    Args:
        files: where it writes.
    """
    load = loads(entry, size, checkpoints, writer)[step]
    units, of = load.units(shard), load.units(Shard())
    written, read = (tokens * load.part(shard) for tokens in (load.written, load.read))
    hours = "" if entry.evidence == "toy" and rates is ASSUMED else (
        f", about {rates.hours(written, read):,.1f} hours of one process ({rates.written:,.0f} tokens/s written, "
        f"{rates.read:,.0f} read: {rates.source})"
    )  # fmt: skip
    return "; ".join((
        f"{step}: {units:,} of {of:,} units{'' if shard.is_whole else f' (shard {shard})'}",
        f"{written / 1e6:,.2f} million tokens to write and {read / 1e6:,.2f} to read{hours}",
        f"up to {load.disk / 1e9:,.1f} GB on disk in all, {free_disk(files) / 1e9:,.0f} GB free", memory_words(entry),
    ))  # fmt: skip


def vector_bytes(entry: ModelEntry, texts: int) -> int:
    """Size of one vector a text and layer."""
    return texts * entry.layers * entry.width * FLOAT32


def activation_bytes(entry: ModelEntry, size: Preset) -> int:
    """What is kept of the stories' and dialogues' residual streams while it is made, units included."""
    whole, units = moments_bytes(len(size.emotions), FOLDS, entry.layers, entry.width), -(-size.stories // UNIT)
    vectors = size.topics * size.neutral_per_topic + len(size.emotions) * size.held_out
    return (1 + units) * whole + 2 * vector_bytes(entry, vectors)


def merging_bytes(entry: ModelEntry, size: Preset) -> int:
    """Memory of the process that merges moments: the sum so far, a unit, and the new sum (probes.moments.merge)."""
    return 3 * moments_bytes(len(size.emotions), FOLDS, entry.layers, entry.width)


def summing_bytes(entry: ModelEntry) -> int:
    """What second moments of a unit take on the device while they are made (probes.lm.reducers.MomentSums)."""
    return len(HALVES) * entry.layers * entry.width**2 * FLOAT64


def activation_lines(entry: ModelEntry, size: Preset) -> list[str]:
    """What is kept of the stories' and dialogues' residual streams, on disk."""
    whole = moments_bytes(len(size.emotions), FOLDS, entry.layers, entry.width)
    neutral, held_out = size.topics * size.neutral_per_topic, len(size.emotions) * size.held_out
    units = -(-size.stories // UNIT)
    return [
        f"moments of {size.stories:,} stories at {entry.layers} layers of {entry.width}: {whole / 1e9:,.2f} GB, and up to "
        f"{units * whole / 1e9:,.1f} GB for {units} units while they are made",
        f"vectors: {neutral:,} neutral dialogues {vector_bytes(entry, neutral) / 1e9:,.2f} GB, up to {held_out:,} held-out "
        f"stories {vector_bytes(entry, held_out) / 1e9:,.2f} GB",
    ]


def story_tokens(size: Preset) -> int:
    """Tokens of all stories and neutral dialogues."""
    return (size.stories + size.topics * size.neutral_per_topic) * min(STORY_TOKENS, size.story_tokens)


def estimate(entry: ModelEntry, size: Preset, checkpoints: int = 5, rates: Rates = ASSUMED) -> list[str]:
    """Lines that say what will be written, run and kept, of so many checkpoints."""
    tokens = story_tokens(size)
    lines = [
        f"stories: {len(size.emotions)} emotions × {size.topics} topics × {size.per_cell} = {size.stories:,}; "
        f"neutral dialogues: {size.topics * size.neutral_per_topic:,}; about "
        f"{tokens / 1e6:,.1f} million tokens, written and read again",
        f"weights: {BFLOAT16 * entry.billions:,.1f} GB in bfloat16 on a GPU, "
        f"{FLOAT32 * entry.billions:,.1f} GB in float32 on a CPU",
        *activation_lines(entry, size),
        f"gates: {len(size.emotions) * size.anchor_topics:,} stories more of other topics; all stories are read again in every "
        "checkpoint",
        f"replies of every checkpoint: {_replies(size, size.own_controls) * size.draws:,} written and "
        f"{2 * _replies(size, size.controls):,} texts forced",
    ]
    if entry.evidence == "model" or rates is not ASSUMED:
        each = {step: rates.hours(load.written, load.read) for step, load in loads(entry, size, checkpoints).items()}
        shown = ", ".join(f"{step} {hours:,.1f}" for step, hours in each.items() if step not in BESIDE)
        lines.append(
            f"hours of one process at {rates.written:,.0f} tokens/s written and {rates.read:,.0f} read ({rates.source}): {shown}"
        )
    return lines


def _replies(size: Preset, controls: int) -> int:
    """Prompts of a checkpoint."""
    return len(prompts(load_pairs(per_domain=size.questions_per_domain), ARMS, controls))


def missing(entry: ModelEntry, files: dict[str, Path]) -> list[str]:
    """What a run would lack here: weights, memory, a GPU, the researcher's rows."""
    if entry.evidence == "toy":
        return []
    return [*missing_machine(entry), *_lacking_rows(files)]


def missing_machine(entry: ModelEntry) -> list[str]:
    """What a model would lack here: its weights, memory, a GPU."""
    return [*_lacking_weights(entry), *_lacking_memory(entry)] if entry.evidence != "toy" else []


def _lacking_weights(entry: ModelEntry) -> list[str]:
    from probes.errors import MissingInputError
    from probes.lm.weights import weight_files

    try:
        weight_files(entry)
    except MissingInputError:
        return [f"weights of {entry.source} (download: hf download {entry.source})"]
    return []


def _lacking_memory(entry: ModelEntry) -> list[str]:
    import torch

    from probes.lm.memory import total_bytes

    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    there, needed = sum(map(total_bytes, gpus or ["cpu"])), (BFLOAT16 if gpus else FLOAT32) * entry.billions * 1e9
    lacking = [] if gpus else ["a GPU: this machine would run the model on its CPU"]
    where = f"{'GPU ' if gpus else ''}memory: {needed / 1e9:,.0f} GB of weights, {there / 1e9:,.0f} GB here"
    return lacking + ([where] if needed > there else [])


def memory_words(entry: ModelEntry) -> str:
    """What the model takes and what is free where it would be loaded. Raises what lm.weights.parameters raises."""
    from probes.lm.memory import free_bytes
    from probes.lm.model import devices_for, placement
    from probes.lm.weights import parameters

    needed = parameters(entry) * placement()[0].itemsize
    devices = devices_for(needed)
    return (
        f"weights {needed / 1e9:,.2f} GB and second moments {summing_bytes(entry) / 1e9:,.2f} GB, "
        f"{sum(map(free_bytes, devices)) / 1e9:,.1f} GB free on {' and '.join(devices)}"
    )


def free_disk(folder: Path) -> int:
    """Bytes that are free where a folder is, or would be made."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def _lacking_rows(files: dict[str, Path]) -> list[str]:
    return [f"rows for {task}: --{task} FILE" for task in ("antirefusal", "benign", "math") if task not in files]
