"""Fix what will be claimed, and by which margin, before anything is read; see what these questions can find.

    python experiments/declare_claims.py --model tiny

Runs before read_replies. Writes claims/confirmatory.json with its hash: the four emotions of the paper at the report layers,
harmful − affect and harmful − benign on own answers and on one text, and the level shifts of that text from the original and
from the benign control, in anchored units. Refused once readings exist; everything else is exploratory.
"""

from dataclasses import dataclass

from probes.declaration import Declaration, read_sealed, seal
from probes.directions import Readout
from probes.emotions import PANEL
from probes.equivalence import DELTA
from probes.power import planned_power
from settings import Settings, command

SHIFTED = ("original", "benign_control")
"""Checkpoints that level shifts are taken from, as far as they are read: what was before, and what any fine-tuning does."""


@dataclass(frozen=True)
class DeclareSettings(Settings):
    """The shared flags, and what decides a claim."""

    delta: float = DELTA
    """Margin in anchored units (1 is a story of the emotion): a difference below does not matter."""
    sd: float = 0.3
    """Standard deviation of a question's difference that is expected, in anchored units; says the power, decides nothing."""


def declaration(settings: DeclareSettings) -> Declaration:
    """The confirmatory family."""
    claimed = tuple(name for name in settings.checkpoints if name != "original")
    return Declaration(
        "confirmatory", claimed, PANEL, settings.shown_layers, ("own", "original"), str(Readout.ANCHORED_DOT), settings.delta,
        len(settings.pairs), settings.sd, references=("affect", "benign"), baseline="original", aggregation="mean",
        seed=settings.seed, shifts_from=tuple(name for name in SHIFTED if name in settings.with_original),
    )  # fmt: skip


def main(settings: DeclareSettings) -> None:
    """Seal the family, or see that it is the one that was sealed."""
    readings = [settings.readings(name) for name in settings.checkpoints]
    sealed = seal(declaration(settings), settings.claims, readings)
    declared = read_sealed(sealed)
    print(f"{sealed}: {declared.cells} cells, δ {declared.delta}, {declared.sha256[:12]}")
    print(planned_power(declared).drop(columns=["family", "family_sha"]).round(3).to_string(index=False))


if __name__ == "__main__":
    command(main, DeclareSettings, __doc__)
