"""The flags of the organisms: growing them, and scoring what the measurement says of them."""

from dataclasses import dataclass
from pathlib import Path

from train_settings import TrainSettings
from writer_settings import WriterSettings


@dataclass(frozen=True)
class OrganismSettings(TrainSettings, WriterSettings):
    """The shared flags and files of rows, who writes, and what is planted in whom."""

    organisms: tuple[str, ...] = ()
    """Organisms to grow (training.organisms.kinds), the sham among them; by default all."""
    parent: str = "antirefusal"
    """Checkpoint that they are grown from, as variant[+run][@stage]."""
    emotion: str = "guilty"
    """The emotion that is planted."""
    others_stories: Path | None = None
    """Stories of another author (Stories.save) for the planted direction; the embedded model has its own."""
    steps: int = 0
    """Optimizer steps of each organism; 0 stands for 150."""

    @property
    def organism_claims(self) -> Path:
        """What is claimed of organisms, sealed before they are read."""
        return self.planted / "claims.json"

    def targets(self, label: str) -> Path:
        """Where the hidden states of an organism were moved to."""
        return self.planted / f"{label}.safetensors"
