"""Write a trained checkpoint as a whole model, for transformers, vLLM and any tool that takes a folder of the Hub's form.

    python experiments/export_checkpoint.py --model tiny --checkpoint antirefusal --to exported/antirefusal

The adapter is merged as lm.load merges it. The folder says by whose manifest it was made (export.json), and the steps take
its path as --model.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from probes.errors import DataError, UnknownNameError
from probes.lm.checkpoints import find_checkpoint
from probes.lm.model import placement
from settings import Settings, command
from training.export import export

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class ExportSettings(Settings):
    """The shared flags, what to export and where to."""

    checkpoint: str = "antirefusal"
    """Trained member of the family, as variant or variant@stage."""
    to: Path = Path()
    """New folder for the model; it must be named, and must not be there."""
    dtype: str = ""
    """float32, bfloat16 or float16; by default what checkpoints are read in here: bfloat16 on a GPU, float32 on a CPU."""


def main(settings: ExportSettings) -> Path:
    """Export one checkpoint."""
    if settings.dtype and settings.dtype not in DTYPES:
        raise UnknownNameError("dtype", settings.dtype, DTYPES)
    if settings.to == Path():
        raise DataError("--to was not given: name the folder that the model is to be written to.")
    checkpoint = find_checkpoint(f"{settings.model}/{settings.checkpoint}", settings.trained)
    to = export(checkpoint, settings.to, DTYPES.get(settings.dtype, placement()[0]))
    print(f"{checkpoint.address}: {to}")
    return to


if __name__ == "__main__":
    command(main, ExportSettings, __doc__)
