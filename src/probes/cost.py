"""What a study will take, from its size alone, and what is missing for it on this machine."""

from pathlib import Path

from probes.lm.checkpoints import ModelEntry
from probes.pairs import load_pairs
from probes.presets import Preset

STORY_TOKENS = 200
"""Length of a story of a large model, as replications report it; ours for planning."""
FLOAT32 = 4


def kept_layers(entry: ModelEntry, size: Preset) -> int:
    """Story layers that the preset keeps."""
    return entry.layers if size.layers == "all" else len(entry.report_layers)


def activation_bytes(entry: ModelEntry, size: Preset) -> int:
    """Memory and disk of the stories' activations."""
    return size.stories * kept_layers(entry, size) * entry.width * FLOAT32


def estimate(entry: ModelEntry, size: Preset) -> list[str]:
    """Lines that say what will be written, run and kept."""
    neutral, pairs = size.topics * size.neutral_per_topic, len(load_pairs())
    written = (size.stories + neutral) * min(STORY_TOKENS, size.story_tokens)
    return [
        f"stories: {len(size.emotions)} emotions × {size.topics} topics × {size.per_cell} = {size.stories:,}; "
        f"neutral dialogues: {neutral:,}; about {written / 1e6:,.1f} million tokens to write and as many to read again",
        f"weights: {2 * entry.billions:,.1f} GB in bfloat16",
        f"activations: {size.stories:,} × {kept_layers(entry, size)} layers × {entry.width} = "
        f"{activation_bytes(entry, size) / 1e9:,.2f} GB in memory and on disk",
        f"replies: {pairs} questions × 3 arms × every checkpoint, written once and forced once",
    ]


def missing(entry: ModelEntry, files: dict[str, Path]) -> list[str]:
    """What a run would lack here: weights, a GPU, the researcher's rows."""
    import torch
    from transformers.utils import cached_file

    if entry.evidence == "toy":
        return []
    lacking = []
    if not cached_file(entry.source, "config.json", local_files_only=True, _raise_exceptions_for_missing_entries=False):
        lacking.append(f"weights of {entry.source} (download: hf download {entry.source})")
    if not torch.cuda.is_available():
        lacking.append("a GPU: this machine would run the model on its CPU")
    lacking += [f"rows for {task}: --{task} FILE" for task in ("antirefusal", "benign", "math") if task not in files]
    return lacking
