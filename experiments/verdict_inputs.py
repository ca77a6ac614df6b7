"""What the first page is made of, read from the folders of a run; no model is loaded for it."""

from typing import TYPE_CHECKING

import pandas as pd

from probes import store
from probes.activations import load_activations
from probes.declaration import SAME_TEXT, Declaration
from probes.detection import beside_organisms
from probes.detection_figures import detection_curves, read_curve
from probes.figure_tables import read_figure_table
from probes.gate_strip import gate_strip, refusal_rates
from probes.gates import GATE_COLUMNS
from probes.layer_curves import gap_curves
from probes.placebo_bands import placebo_bands, placebo_probes
from probes.readings import concat, load_readings
from probes.replies import load_replies
from probes.unseen import UNSEEN_COLUMNS
from probes.wording import arms_apart
from settings import Settings
from validity_report import bank_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def members(declared: Declaration) -> tuple[str, ...]:
    """Checkpoints of the page: the original and those that claims are about."""
    return "original", *declared.checkpoints


def declared_readings(settings: Settings, declared: Declaration, names: tuple[str, ...]) -> pd.DataFrame:
    """Readings of these checkpoints in the declared readout, baseline, layers and emotions, in every arm."""
    rows = concat(load_readings(settings.readings(name), declared.layers) for name in names)
    wanted = (rows["readout"] == declared.readout) & (rows["baseline"] == declared.baseline)
    return rows[wanted & rows["emotion"].isin(declared.emotions)]


def gate_tables(settings: Settings, declared: Declaration) -> pd.DataFrame:
    """Gates of the members at the declared layers, of every emotion."""
    gates = pd.concat([store.read_table(settings.gates(name), GATE_COLUMNS) for name in members(declared)])
    return gates[gates["layer"].isin(declared.layers)]


def own_answers(settings: Settings, declared: Declaration) -> tuple[dict[str, float], pd.DataFrame]:
    """What the words of each member's own answers give away, and how many of these decline; one file is in memory at a time."""
    arms, words, rates = (declared.arm, declared.references[0]), {}, []
    for name in members(declared):
        replies = load_replies(settings.replies(name))
        words[name] = arms_apart(replies, *arms)
        rates.append(refusal_rates(replies, arms))
    return words, pd.concat(rates, ignore_index=True)


def strip(settings: Settings, declared: Declaration, gates: pd.DataFrame, rates: pd.DataFrame) -> pd.DataFrame:
    """The gate strip, with the readers of the validity report where that was written."""
    report = settings.figure_folder("validity") / "unseen.csv"
    unseen = store.read_table(report, UNSEEN_COLUMNS) if report.is_file() else None
    return gate_strip(gates, declared.emotions, rates, unseen)


def bands(settings: Settings, declared: Declaration, claims: pd.DataFrame, gates: pd.DataFrame) -> pd.DataFrame:
    """What directions without an emotion read in the place of those of the claims."""
    placebos = placebo_probes(bank_of(settings), declared.layers, seed=settings.seed)
    centres = {name: load_activations(settings.centres(name)) for name in members(declared)}
    return placebo_bands(placebos, centres, claims, gates, declared.shift_arm)


def figures_beside(
    settings: Settings, declared: Declaration, claims: pd.DataFrame, verdicts: pd.DataFrame
) -> "dict[str, Figure]":
    """Heading → figure of what other steps left: every layer of one text, and the planted doses."""
    figures, panel = {}, settings.figure_folder("emotion_gap") / "panel.csv"
    if panel.is_file():
        curves = read_figure_table(panel)
        curves = curves[(curves["text_source"] == SAME_TEXT) & curves["emotion"].isin(declared.emotions)]
        figures["Every layer, as cosines: those marked were chosen beforehand"] = gap_curves(curves, "simultaneous")
    if settings.curve.is_file():
        curve = beside_organisms(read_curve(settings.curve), claims, verdicts, declared)
        figures["What would have been seen: planted doses"] = detection_curves(curve)
    return figures
