"""The first page: what may be said of every checkpoint, and what it rests on.

    python experiments/verdict.py --model tiny

Writes figures/<model>/verdict/page.html, one file that loads nothing; forest.{csv,html,json} (and .svg, .png where a browser is
installed); and as CSV the verdicts, the claims of the sealed family, the A/A contrast, what placebos read, the gap with refusals
handled otherwise and in each domain, gates of every cell and their strip, and the tokens of one text in two arms. The page has
what other steps left: readings of every layer (emotion_gap), the detection curve of organisms (score_organisms), and what words
and embeddings alone read (validity_report).
"""

import pandas as pd

from probes import store
from probes.declaration import Declaration, read_sealed
from probes.directions import load_probes
from probes.estimands import by_domain, by_refusals
from probes.figures import write_figure
from probes.lm import family
from probes.placebo_bands import within_placebos
from probes.provenance import provenance
from probes.replies import load_replies
from probes.transcripts import token_readings, transcript_html
from probes.verdict import judge
from probes.verdict_page import forest_table, verdict_forest, verdict_page
from settings import Settings, command
from verdict_inputs import bands, declared_readings, figures_beside, gate_tables, members, own_answers, strip


def judged(settings: Settings, declared: Declaration) -> dict[str, pd.DataFrame]:
    """Verdicts on the sealed claims and what they rest on, as tables."""
    rows, gates = declared_readings(settings, declared, members(declared)), gate_tables(settings, declared)
    words, rates = own_answers(settings, declared)
    tables = judge(rows, declared, gates, words)
    placebos = bands(settings, declared, tables["claims"], gates)
    verdicts = within_placebos(tables["verdicts"], tables["claims"], placebos, declared.references[0])
    beside = {"verdicts": verdicts, "refusals": by_refusals(rows), "domains": by_domain(rows), "placebos": placebos}
    shown = gates[gates["emotion"].isin(declared.emotions)]
    return {**tables, **beside, "gates": shown, "strip": strip(settings, declared, gates, rates)}


def tokens(settings: Settings, declared: Declaration) -> pd.DataFrame:
    """One forced text behind the harmful and the affect sentence of a question, in the last checkpoint but the control."""
    claimed = [name for name in declared.checkpoints if not name.startswith("benign_control")]
    (checkpoint,) = family(settings.model, settings.trained, claimed[-1:])
    replies = {reply.sample: reply for reply in load_replies(settings.replies(checkpoint.name))}
    pair, layer, probes = settings.pairs[0].pair, declared.layers[-1], load_probes(settings.probes)
    chosen = [replies[f"{pair}/{arm}/0/original"] for arm in (declared.arm, declared.references[0])]
    with settings.reading(checkpoint) as engine:
        return pd.concat([token_readings(engine.model, probes, reply, layer, "guilty", engine) for reply in chosen])


def main(settings: Settings) -> None:
    """Claims, verdicts, page."""
    declared, folder = read_sealed(settings.claims), settings.figure_folder("verdict")
    tables, read = judged(settings, declared), tokens(settings, declared)
    for name, one in {**tables, "tokens": read}.items():
        print(store.write_table(folder / f"{name}.csv", one))
    verdicts, claims = tables["verdicts"], tables["claims"]
    inputs = {name: settings.readings(name) for name in members(declared)}
    about = provenance(settings, load_probes(settings.probes).about_, {**inputs, "claims": settings.claims})
    forest = verdict_forest(table := forest_table(claims, verdicts, tables["placebos"]))
    figures = {"Gap and level shift": forest, **figures_beside(settings, declared, claims, verdicts)}
    print(*write_figure(folder, "forest", table, forest, about), sep="\n")
    heading = f"One text in two arms: guilty at layer {declared.layers[-1]}, {read['checkpoint'].iloc[0]}"
    page = verdict_page(verdicts, tables["gates"], tables["strip"], figures, {heading: transcript_html(read)}, about)
    print(store.write_text(folder / "page.html", page))
    print(verdicts["verdict"].value_counts().to_string())


if __name__ == "__main__":
    command(main, Settings, __doc__)
