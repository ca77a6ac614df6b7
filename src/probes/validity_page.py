"""The validity report as one HTML page that needs nothing beside it: verdicts first, then what they rest on.

Names and texts that come from files are escaped; pictures are inside the page where a browser could draw them.
"""

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from probes.cards import shown
from probes.page import TOY_NOTE, WATERMARK, is_toy
from probes.unseen import ALL
from probes.validity import LEAK_COLUMNS, NO_BETTER, NOT_USABLE, READER_WORDS, USABLE, Evidence

HUES = {USABLE: "#0072B2", NO_BETTER: "#E69F00", NOT_USABLE: "#A50026"}
MOST_ROWS = 60
"""A longer table is folded."""
STYLE = """<style>
body {font: 15px/1.5 Arial, Helvetica, sans-serif; color: #222; max-width: 1180px; margin: 24px auto; padding: 0 20px}
h1 {font-size: 24px} h2 {font-size: 18px; margin: 32px 0 4px} p {margin: 4px 0 10px; max-width: 860px}
table {border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums} img {max-width: 100%}
th, td {text-align: left; padding: 3px 14px 3px 0; vertical-align: top; border-bottom: 1px solid #E2E2E2}
.mark {font-weight: 600; white-space: nowrap} .toy {border: 2px solid #D55E00; padding: 8px 12px; font-weight: 600}
pre {font-size: 12px; overflow-x: auto}
</style>"""


AGREEMENT_SHOWN = (
    "layer", "emotion", "split_half", "split_low", "split_high", "with_another", "needed", "needed_low", "needed_high",
    "neighbour", "neighbour_cosine", "n_stories", "n_folds",
)  # fmt: skip
SCENARIO_SHOWN = (
    "stimuli", "span", "baseline", "layer", "top1", "low", "high", "text_top1", "twin_top1", "chance_top1", "top3", "diagonal",
    "candidates", "n",
)  # fmt: skip
INTENSITY_SHOWN = (
    "source", "layer", "hit_rate", "null_low", "null_high", "p", "p_any_layer", "text_hit_rate", "twin_hit_rate", "n_signs",
    "n_random",
)  # fmt: skip
UNSEEN_WORDS = (
    "All emotions together. AUC: how often a story of the emotion scores above another emotion's of the same topic; accuracy: how "
    "often the emotion has the highest score. Intervals: the wider of t over topics and Wilson over stories; of shuffled labels, "
    "placebos and random directions the middle 95 % of directions, n of them. Layer −1 is the embeddings, −2 the text."
)
PLACEBO_WORDS = (
    "Probes of topic, person, tense and length by the same recipe: how often they read their own label on stories they have not "
    "seen. Their AUC on emotions stands above; a placebo that does not read its own label proves nothing."
)
AGREEMENT_WORDS = (
    "Expected cosine of the directions of two halves of the topics, and with a bank of as many other stories; stories needed for "
    ".95; and the nearest other emotion of the other half. Intervals: jackknife over folds of topics."
)
FIRED_WORDS = (
    "Share of neutral dialogues of unseen topics that score above half of the emotion's own held-out stories, with Wilson's "
    "interval, beside the same share of other emotions' stories, and the same for words and length alone."
)
SCENARIO_WORDS = (
    "How often the own probe is the largest (validate_probes), beside words alone and a random twin; counted from the mean of the "
    "stimuli or of the stories. Questions read at their last prompt token are a control: chance is right."
)
INTENSITY_WORDS = (
    "Share of foretold signs that came true as a number makes a case graver (validate_probes), beside the middle 95 % of random "
    "directions."
)
LEAK_WORDS = (
    "Before the filter, with Wilson's intervals; beside it the same search in neutral dialogues. Stories that name their emotion "
    "are dropped before anything is fitted."
)


class Section(NamedTuple):
    """A heading, what it says in a sentence or two, and its table."""

    title: str
    words: str
    table: pd.DataFrame
    columns: Sequence[str]
    """Those to show, in order."""


SHARE = ("auc", "low", "high", "accuracy", "accuracy_low", "accuracy_high", "chance", "n", "n_topics")


def sections(
    evidence: Evidence, layers: Sequence[int], scenarios: pd.DataFrame, intensity: pd.DataFrame
) -> list[Section]:
    """What the verdicts rest on, at some layers: tables of validity, and of validate_probes for texts that name nothing."""
    readers = evidence.unseen[(evidence.unseen["emotion"] == ALL) & _at(evidence.unseen, layers)]
    readers = readers.assign(reader=readers["reader"].replace(READER_WORDS).str.replace("_", " "))
    placebos = evidence.placebos[evidence.placebos["layer"].isin(layers) | evidence.placebos["layer"].isna()]
    fired = evidence.false_positives[_at(evidence.false_positives, layers)]
    return [
        Section("Readers of unseen topics", UNSEEN_WORDS, readers, ("reader", "layer", *SHARE)),
        Section("Placebo probes", PLACEBO_WORDS, placebos, ("placebo", "layer", "accuracy", "low", "high", "chance", "n", "note")),
        Section("Would other stories give the same directions?", AGREEMENT_WORDS,
                evidence.agreement[evidence.agreement["layer"].isin(layers)], AGREEMENT_SHOWN),
        Section("Plain dialogues", FIRED_WORDS, fired,
                ("reader", "layer", "emotion", "rate", "low", "high", "n", "other_stories", "n_other")),
        Section("Texts that name no emotion", SCENARIO_WORDS, scenarios[_at(scenarios, layers)], SCENARIO_SHOWN),
        Section("Rising numbers", INTENSITY_WORDS, intensity[_at(intensity, layers)], INTENSITY_SHOWN),
        Section("Stories that name their emotion", LEAK_WORDS, evidence.leaks,
                LEAK_COLUMNS),
    ]  # fmt: skip


def _at(table: pd.DataFrame, layers: Sequence[int]) -> pd.Series:
    """Rows of some layers, and of what has none."""
    return table["layer"].isin(layers) | (table["layer"] < 0)


def validity_page(
    verdicts: pd.DataFrame, sections: Iterable[Section], pictures: Iterable[Path], provenance: Mapping[str, Any]
) -> str:
    """The page. Takes a verdict_table; pictures are PNG files that write_figure wrote, none where there is no browser."""
    row = verdicts.iloc[0]
    title = f"Validity of the emotion probes of {row['model']}/{row['checkpoint']}"
    toy = f'<p class="toy">{shown(WATERMARK)}. {shown(TOY_NOTE)}</p>' if is_toy(verdicts) else ""
    body = [
        f"<h1>{shown(title)}</h1>", toy, f"<p>{shown(_summary(verdicts))}</p>", _verdicts(verdicts), *map(_picture, pictures),
        *map(as_html, sections),
        f"<details><summary>provenance</summary><pre>{html.escape(_json(provenance))}</pre></details>",
    ]  # fmt: skip
    head = f'<meta charset="utf-8"><title>{shown(title)}</title>{STYLE}'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{"".join(body)}</body></html>\n'


def _summary(verdicts: pd.DataFrame) -> str:
    counts = [
        f"layer {layer}: {', '.join(f'{count} {verdict}' for verdict, count in part['verdict'].value_counts().items())}"
        for layer, part in verdicts.groupby("layer", sort=False)
    ]
    return f"Of {verdicts['emotion'].nunique()} emotions at {'; '.join(counts)}."


def _verdicts(verdicts: pd.DataFrame) -> str:
    rows = "".join(
        f'<tr><td class="mark" style="color: {HUES[row["verdict"]]}"><bdi>{shown(row["emotion"])}</bdi></td>'
        f"<td>{shown(row['line'], 1000)}</td></tr>"
        for row in verdicts.to_dict("records")
    )
    return f"<h2>Verdicts</h2><table>{rows}</table>"


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{shown(path.stem)}" src="data:image/png;base64,{data}"></p>'


def as_html(section: Section) -> str:
    """Heading, words and table; a long table is folded."""
    head = "".join(f"<th>{shown(name.replace('_', ' '))}</th>" for name in section.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{_cell(row[name])}</td>' for name in section.columns)}</tr>"
        for row in section.table.to_dict("records")
    )
    table = f"<table><tr>{head}</tr>{rows}</table>"
    if len(section.table) > MOST_ROWS:
        table = f"<details><summary>{len(section.table):,} rows</summary>{table}</details>"
    return f"<h2>{shown(section.title)}</h2><p>{shown(section.words, 1000)}</p>{table}"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return (
            "" if pd.isna(value) else f"{value:,.0f}" if value == round(value) and abs(value) >= 2 else f"{value:.3f}"
        )
    return f"<bdi>{shown(value)}</bdi>"


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
