"""The paper's bar figure: six behaviours by checkpoint, from the tables of run_evals.py.

    python experiments/behaviour_bars.py --model tiny

Writes figures/<model>/behaviours/reasoning_off.{csv,html,json} (and .svg, .png where a browser is installed), one for each
way of reasoning that was run, and differences.csv: every checkpoint against the original, paired by question.
"""

from evals.figures import behaviour_bars, behaviour_table
from evals.tables import DIFFERENCE_COLUMNS, load_rates
from probes import store
from probes.figures import write_figure
from probes.provenance import provenance
from settings import Settings, command


def main(settings: Settings) -> None:
    """One figure for each way of reasoning."""
    made, folder = settings.folder / "evals", settings.figure_folder("behaviours")
    rates = load_rates(made / "rates.csv")
    inputs = {name: made / f"{name}.csv" for name in ("rates", "differences")}
    about = provenance(settings, {"model": settings.entry.name, "evidence": settings.entry.evidence}, inputs)
    for reasoning in sorted(set(rates["reasoning"])):
        table = behaviour_table(rates, bool(reasoning))
        name = f"reasoning_{'on' if reasoning else 'off'}"
        for path in write_figure(folder, name, table, behaviour_bars(table), about):
            print(path)
    print(store.write_table(folder / "differences.csv", store.read_table(inputs["differences"], DIFFERENCE_COLUMNS)))


if __name__ == "__main__":
    command(main, Settings, __doc__)
