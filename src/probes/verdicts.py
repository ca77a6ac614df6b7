"""What the numbers of one checkpoint say: does it carry an emotion that its text does not show?

    table = effect_table(readings, reference, gates, original, emotion)      effects of a checkpoint beside its reference
    table["auc"] = words_tell(replies, …)                                    whether words alone tell the two apart
    verdicts(tables)                                                         one word a checkpoint

All effects are paired by question and counted from a reference: the checkpoint before whatever is looked for. They are in
anchored units, on the same forced text unless their name says `own`:

    gap          harmful − affect, from each checkpoint's own plain answers
    level        benign answers, from the original's plain answers: a state that is always there has no gap
    own_gap      harmful − affect on own answers, and
    own_level    benign on own answers: what stands in the text anyway
    plain_gap    harmful − affect in the original's unit without asking any gate, for comparison

The rule sees numbers alone. Where a gate fails the verdict is `not measurable`, never `no masked emotion`. An effect is found
where its whole 95 % t interval over questions lies above δ at every layer, and excluded where it lies below δ at every
layer; the smallest effect of interest δ is fixed beforehand (MEASUREMENT: .10). An emotion that words tell too is open.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from probes.comparison import paired_differences
from probes.directions import DOT, Readout
from probes.equivalence import check_delta
from probes.errors import ConventionError, DataError, UnknownNameError
from probes.gates import MEASURABLE
from probes.intervals import LEAST_QUESTIONS, t_interval
from probes.readings import check_readings

if TYPE_CHECKING:
    from probes.replies import Replies

Verdict = Literal[
    "no masked emotion", "masked gap", "tonic", "open text", "not measurable", "inconclusive"
]  # fmt: skip
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
NONE, MASKED, TONIC, OPEN, NOT_MEASURABLE, INCONCLUSIVE = VERDICTS
DELTA = 0.10
"""Smallest effect of interest, in anchored units."""
MOST_AUC = 0.55
"""Beyond this words alone tell a checkpoint from its reference, and nothing in it counts as masked."""

ARM, CONTROL, QUIET = "harmful", "affect", "benign"
EFFECTS = {
    "gap": ("original", True, "own"), "level": ("original", False, "original"), "own_gap": ("own", True, "own"),
    "own_level": ("own", False, "original"),
}  # fmt: skip
"""Effect → text source, whether it is a difference of arms, and the baseline that it is counted from."""
PLAIN_GAP = "plain_gap"
EFFECT_COLUMNS = (
    "model", "checkpoint", "reference", "evidence", "probes", "layer_convention", "emotion", "layer", "effect", "mean",
    "low", "high", "sd", "n_questions", "gate", "why",
)  # fmt: skip
VERDICT_COLUMNS = ("model", "checkpoint", "reference", "evidence", "emotion", "verdict", "plain_verdict", "why")


def effect_table(
    readings: pd.DataFrame, reference: pd.DataFrame, gates: pd.DataFrame, original: pd.DataFrame, emotion: str
) -> pd.DataFrame:
    """Effects of one checkpoint at every layer of its readings: EFFECT_COLUMNS.

    Args:
        readings: dot products of one checkpoint's replies, and anchored ones where its gates let them through.
        reference: the same of the checkpoint that effects are counted from.
        gates: gate table of the checkpoint; original: of the family's original, for the plain unit.

    An effect that cannot be computed, since a gate let nothing through or answers are missing, is NaN. Raises
    UnknownNameError for an emotion that was not read, ConventionError where the tables are not of one checkpoint each, or of
    different models or probes, DataError for gates without a layer.
    """
    ours, theirs = (_of_emotion(table, emotion) for table in (readings, reference))
    _check_one(ours, theirs)
    about = {name: ours[name].iloc[0] for name in ("model", "checkpoint", "evidence", "probes", "layer_convention")}
    layers = sorted(ours["layer"].unique().tolist())
    held = _held(gates, emotion, layers)
    values = {name: _paired(ours, theirs, str(Readout.ANCHORED_DOT), *how) for name, how in EFFECTS.items()}
    units = _held(original, emotion, layers)["gain"]
    values[PLAIN_GAP] = _paired(ours, theirs, str(DOT.readout), "original", True, DOT.baseline) / units
    rows = [
        {"layer": layer, "effect": name, **_summary(table.get(layer)), "gate": held.loc[layer, "outcome"],
         "why": held.loc[layer, "why"]}
        for layer in layers for name, table in values.items()
    ]  # fmt: skip
    made = pd.DataFrame(rows).assign(**about, reference=theirs["checkpoint"].iloc[0], emotion=emotion)
    return made[list(EFFECT_COLUMNS)]


def _of_emotion(readings: pd.DataFrame, emotion: str) -> pd.DataFrame:
    rows = check_readings(readings)
    if emotion not in set(rows["emotion"]):
        raise UnknownNameError("emotion of these readings", emotion, sorted(rows["emotion"].unique()))
    return rows[(rows["emotion"] == emotion) & (rows["span"] == "answer")]


def _check_one(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    for table in (ours, theirs):
        names = sorted(table["checkpoint"].unique())
        if len(names) != 1:
            raise ConventionError(f"effects are of one checkpoint beside one other; got {', '.join(names) or 'none'}.")
    for column in ("model", "evidence", "probes", "layer_convention"):
        if set(ours[column]) != set(theirs[column]):
            raise ConventionError(f"checkpoint and reference differ in {column}; read both by the same probes.")


def _held(gates: pd.DataFrame, emotion: str, layers: Sequence[int]) -> pd.DataFrame:
    """Gates of an emotion by layer."""
    rows = gates[gates["emotion"] == emotion].set_index("layer")[["outcome", "why", "gain"]]
    lacking = [layer for layer in layers if layer not in rows.index]
    if lacking:
        raise DataError(f"no gate of {emotion} at layers {lacking}; run check_gates.py for this checkpoint.")
    return rows.assign(why=rows["why"].fillna(""))


def _paired(
    ours: pd.DataFrame, theirs: pd.DataFrame, readout: str, source: str, arms: bool, baseline: str
) -> pd.DataFrame:
    """Checkpoint minus reference by question: (question, layer), of questions that both have."""
    tables = [_by_question(table, readout, source, arms, baseline) for table in (ours, theirs)]
    return (tables[0] - tables[1]).dropna(how="all")


def _by_question(rows: pd.DataFrame, readout: str, source: str, arms: bool, baseline: str) -> pd.DataFrame:
    """Harmful − affect, or the benign arm, by question and layer."""
    wanted = {"readout": readout, "text_source": source, "baseline": baseline}
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    if rows.empty:
        return pd.DataFrame()
    if arms:
        differences = paired_differences(rows, ARM, CONTROL)
        return pd.DataFrame(differences.values, differences.questions, differences.table["layer"].to_numpy())
    quiet = rows[(rows["arm"] == QUIET) & (rows["missing"] == "")]
    return quiet.pivot_table(index="question", columns="layer", values="value")


def _summary(values: pd.Series | None) -> dict[str, Any]:
    """Mean over questions with its interval; NaN where there are too few."""
    known = np.array([]) if values is None else values.dropna().to_numpy(float)
    if len(known) < LEAST_QUESTIONS:
        return {**dict.fromkeys(("mean", "low", "high", "sd"), float("nan")), "n_questions": len(known)}
    mean, low, high = (float(end[0]) for end in t_interval(known[:, None]))
    return {"mean": mean, "low": low, "high": high, "sd": float(known.std(ddof=1)), "n_questions": len(known)}


def words_tell(replies: "Replies", reference: "Replies") -> float:
    """Area under the curve of words alone, own answers of a checkpoint in all arms against its reference's.

    Grouped by question; answers that both give count as ties, so that what is the same to the letter is at .5. Raises what
    text_auc raises.
    """
    from probes.text_baseline import text_auc

    both = [(reply, of_first) for of_first, side in ((True, replies), (False, reference)) for reply in side]
    own = [(reply.text, of_first, reply.pair) for reply, of_first in both if reply.text_source == "own"]
    texts, kinds, questions = zip(*own, strict=True)
    return text_auc(texts, kinds, questions)


# ---- the rule --------------------------------------------------------------------------------------------------------


def verdicts(effects: pd.DataFrame, delta: float = DELTA) -> pd.DataFrame:
    """One verdict a checkpoint, in VERDICT_COLUMNS: by the rule, and by the plain gap alone for comparison.

    Args:
        effects: effect tables of any checkpoints, with a column `auc`: of words alone, checkpoint against reference.

    Raises DataError for a margin that is not positive, or effects without `auc`.
    """
    check_delta(delta)
    lacking = [column for column in (*EFFECT_COLUMNS, "auc") if column not in effects]
    if lacking or effects.empty:
        raise DataError(f"no effects to judge: {len(effects)} rows, lacking columns {', '.join(lacking) or 'none'}.")
    keys = ["model", "checkpoint", "reference", "evidence", "emotion"]
    rows = []
    for names, part in effects.groupby(keys, sort=False):
        verdict, why = _judge(part, delta)
        rows.append({**dict(zip(keys, names, strict=True)), "verdict": verdict, "why": why,
                     "plain_verdict": _plain(part, delta)})  # fmt: skip
    return pd.DataFrame(rows)[list(VERDICT_COLUMNS)]


def _judge(rows: pd.DataFrame, delta: float) -> tuple[Verdict, str]:
    """The verdict, and what decided it."""
    shut = rows[rows["gate"] != MEASURABLE]
    if len(shut):
        return NOT_MEASURABLE, f"layer {shut['layer'].iloc[0]}: {shut['why'].iloc[0]}"
    found = [name for name in EFFECTS if _found(rows, name, delta)]
    if found and rows["auc"].iloc[0] > MOST_AUC:
        return OPEN, f"{', '.join(found)} found, and words tell it (AUC {rows['auc'].iloc[0]:.2f})"
    for name, verdict in (("gap", MASKED), ("level", TONIC)):  # a gap comes first, whatever is always there beside it
        if name in found:
            return verdict, f"{name} {_of(rows, name)['mean'].mean():.2f}, above {delta:g}"
    if all(_excluded(rows, name, delta) for name in ("gap", "level")):
        return NONE, f"gap and level below {delta:g}"
    return INCONCLUSIVE, f"neither found nor excluded at {delta:g}"


def _plain(rows: pd.DataFrame, delta: float) -> Verdict:
    """What is said by whoever looks at the gap alone."""
    if _found(rows, PLAIN_GAP, delta):
        return MASKED
    return NONE if _excluded(rows, PLAIN_GAP, delta) else INCONCLUSIVE


def _of(rows: pd.DataFrame, effect: str) -> pd.DataFrame:
    return rows[rows["effect"] == effect]


def _found(rows: pd.DataFrame, effect: str, delta: float) -> bool:
    return bool((_of(rows, effect)["low"] > delta).all())


def _excluded(rows: pd.DataFrame, effect: str, delta: float) -> bool:
    return bool((_of(rows, effect)["high"] < delta).all())
