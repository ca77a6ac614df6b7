"""Claims of a declared family: different, equivalent, both or inconclusive, one row a cell.

    declared = read_declaration("confirmatory.toml")
    print(planned_power(declared))                             before the run
    seal(declared, folder / "confirmatory.json", readings)     before there are readings
    claims = confirm(load_readings(…), read_sealed(folder / "confirmatory.json"))

A cell that the gates call not measurable is not in the family and says so; there is nothing to test in it.
A cell is `different` where its step-down max-T p is at most the declared level; `equivalent` where two one-sided t tests
against ±δ are, after Holm's correction for the family. The declared margin and the hash of the declaration stand in every row.
"""

import numpy as np
import pandas as pd

from probes.comparison import COMPARISON_COLUMNS, Differences, as_family, beside, paired_differences
from probes.declaration import Declaration
from probes.equivalence import equivalent_p, not_lower_p, outcomes
from probes.errors import ConventionError, DataError, UnknownNameError
from probes.estimands import shift_differences
from probes.flips import holm_p
from probes.gates import NOT_MEASURABLE
from probes.intervals import LEAST_QUESTIONS
from probes.readings import check_readings

CLAIM_COLUMNS = (*COMPARISON_COLUMNS, "delta", "p_not_lower", "p_equivalent", "outcome")


def confirm(readings: pd.DataFrame, declared: Declaration, gates: pd.DataFrame | None = None) -> pd.DataFrame:
    """The declared cells on readings, in CLAIM_COLUMNS.

    Args:
        gates: gate tables of the declared checkpoints and of those that shifts are taken from (probes.gates). Cells that are
            not measurable there have no readings in anchored units; each of a declared checkpoint gets one row with that
            outcome and the reason as its note.

    `p_not_lower` (arm not below reference by δ or more) and `p_equivalent` are corrected by Holm's method within the family;
    a cell with fewer than LEAST_QUESTIONS questions has none and is inconclusive. All references and training runs are of
    one family.

    Raises UnknownNameError for a declared name that was not read, ConventionError where models, evidence or probes are
    mixed, DataError where a declared cell is lacking, and what compare raises.
    """
    differences = beside(_declared_differences(declared_rows(readings, declared, gates), declared))
    lost = not_measurable(gates, declared)
    _check_whole(differences.table, declared, gates)
    table = as_family(differences, declared.flips, declared.seed, declared.name, declared.sha256, declared.level)
    few = (table["n_questions"] < LEAST_QUESTIONS).to_numpy()
    not_lower, equivalent = (
        holm_p(pd.Series(claim(differences.values, declared.delta)).mask(few).to_numpy())
        for claim in (not_lower_p, equivalent_p)
    )
    outcome = outcomes(table["p_adjusted"].to_numpy(), equivalent, declared.level)
    claims = table.assign(delta=declared.delta, p_not_lower=not_lower, p_equivalent=equivalent, outcome=outcome)
    rows = [claims] if lost.empty else [claims, _outcome_of(lost)]
    return pd.concat(rows, ignore_index=True).reindex(columns=list(CLAIM_COLUMNS))


def not_measurable(gates: pd.DataFrame | None, declared: Declaration) -> pd.DataFrame:
    """Rows of the gates that keep a declared cell out."""
    lost = _kept_out(gates, declared)
    return lost[lost["checkpoint"].isin(declared.checkpoints)]


def _kept_out(gates: pd.DataFrame | None, declared: Declaration) -> pd.DataFrame:
    """The same, and cells of checkpoints that level shifts are taken from."""
    if gates is None:
        return pd.DataFrame(columns=["checkpoint", "layer", "emotion", "why"])
    asked = gates["layer"].isin(declared.layers) & gates["emotion"].isin(declared.emotions)
    return gates[asked & (gates["outcome"] == NOT_MEASURABLE)]


def _wholly_lost(gates: pd.DataFrame | None, declared: Declaration) -> dict[str, set[object]]:
    """Checkpoints, layers and emotions of which the gates keep out every declared cell."""
    names = {
        "checkpoint": {*declared.checkpoints, *declared.shifts_from}, "layer": set(declared.layers),
        "emotion": set(declared.emotions),
    }  # fmt: skip
    lost, cells = _kept_out(gates, declared), np.prod([len(some) for some in names.values()])
    return {
        column: {name for name, count in lost[column].value_counts().items() if count == cells / len(some)}
        for column, some in names.items()
    }


def _expected(declared: Declaration, gates: pd.DataFrame | None) -> int:
    """Paired differences of a training run that can be taken: a shift needs both its checkpoints measurable."""
    lost = {(row["checkpoint"], row["layer"], row["emotion"]) for row in _kept_out(gates, declared).to_dict("records")}
    cells = [
        (name, layer, emotion)
        for name in declared.checkpoints
        for layer in declared.layers
        for emotion in declared.emotions
    ]
    kept = [cell for cell in cells if cell not in lost]
    shifts = [(reference, *cell[1:]) for cell in kept for reference in declared.shifts_from if reference != cell[0]]
    return len(kept) * len(declared.text_sources) * len(declared.references) + len(
        [one for one in shifts if one not in lost]
    )


def _outcome_of(lost: pd.DataFrame) -> pd.DataFrame:
    columns = [name for name in ("model", "checkpoint", "evidence", "layer", "emotion", "probes") if name in lost]
    return lost[columns].assign(outcome=NOT_MEASURABLE, note=lost["why"])


def _declared_differences(rows: pd.DataFrame, declared: Declaration) -> list[Differences]:
    """Gaps of every contrast, then level shifts from every reference."""
    own = rows[rows["checkpoint"].isin(declared.checkpoints)]
    gaps = [paired_differences(own, declared.arm, reference) for reference in declared.references]
    shifts = [
        shift_differences(rows[rows["checkpoint"].isin((*declared.checkpoints, reference))], reference, declared.shift_arm)
        for reference in declared.shifts_from
    ]  # fmt: skip
    return gaps + shifts


def declared_rows(readings: pd.DataFrame, declared: Declaration, gates: pd.DataFrame | None = None) -> pd.DataFrame:
    """The readings of the declared cells. Raises UnknownNameError, ConventionError and DataError as confirm does.

    What the gates keep out in all its cells, a checkpoint or an emotion, need not have been read.
    """
    rows, lost = check_readings(readings), _wholly_lost(gates, declared)
    wanted = {
        "readout": (declared.readout,), "aggregation": (declared.aggregation,), "span": (declared.span,),
        "checkpoint": (*declared.checkpoints, *declared.shifts_from), "emotion": declared.emotions,
        "layer": declared.layers, "text_source": declared.text_sources, "baseline": (declared.baseline,),
        "arm": (declared.arm, *declared.references, *([declared.shift_arm] if declared.shifts_from else [])),
    }  # fmt: skip
    for column, names in wanted.items():
        known = set(rows[column].unique())  # a million Arrow texts take seconds one by one
        for name in names:
            if name not in known | lost.get(column, set()):
                raise UnknownNameError(f"{column} of family {declared.name!r}", name, map(str, sorted(known)))
    for column, names in wanted.items():
        rows = rows[rows[column].isin(names)]
    if rows.empty:
        raise DataError(f"no reading is of family {declared.name!r}: each of its names was read, but not together.")
    for column in ("model", "evidence", "probes"):
        kinds = sorted(map(str, rows[column].unique()))
        if len(kinds) > 1:
            raise ConventionError(
                f"family {declared.name!r} would mix readings of different {column}: {', '.join(kinds)}. Give one."
            )
    return rows


def _check_whole(table: pd.DataFrame, declared: Declaration, gates: pd.DataFrame | None) -> None:
    cells = table.groupby("seed", dropna=False).size()
    if (cells != _expected(declared, gates)).any():
        raise DataError(
            f"family {declared.name!r} has {declared.cells} cells, and the readings hold {', '.join(map(str, cells))} of "
            "them in a training run. Read all of them, or declare another family."
        )
