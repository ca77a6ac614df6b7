"""A rehearsal as one HTML page that needs nothing beside it: what to fix first, then how long all will take and what was seen.

What the model wrote is escaped. Answers of the harmful arm are counted and not shown.
"""

import html
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from probes.cards import shown
from probes.cost import estimate
from probes.page import TOY_NOTE, WATERMARK
from probes.rehearsal import CHECKPOINTS, EMOTIONS, Line, Rehearsal
from probes.validity_page import STYLE, Section, as_html

HUES = {"red": "#A50026", "amber": "#B45F06", "green": "#00704F"}
SCORE = ("layer", "accuracy", "low", "high", "chance", "text_baseline", "n")
SCORE_WORDS = (
    "Accuracy on topics that the probes have not seen, with Wilson's interval, beside chance and the words alone."
)
STORY_WORDS = "What became of the texts that were asked for."
ANSWER_WORDS = "What became of the answers, greedy; none is shown."
SAMPLE_WORDS = "The first story of each emotion as the model wrote it, and why it was dropped if it was."


def rehearsal_page(found: Rehearsal, provenance: Mapping[str, Any]) -> str:
    """The page."""
    title = f"Rehearsal of {found.entry.name} before the preset {found.size.name}"
    toy = f'<p class="toy">{shown(WATERMARK)}. {shown(TOY_NOTE)}</p>' if found.entry.evidence == "toy" else ""
    lines = sorted(found.lines, key=lambda line: list(HUES).index(line.status))
    bad = [line for line in lines if line.status != "green"]
    body = [
        f"<h1>{shown(title)}</h1>", toy, f"<p>{shown(_summary(found))}</p>",
        _lines("What to fix before the big run", bad) if bad else "",
        _lines("What is as it should be", [line for line in lines if line.status == "green"]),
        _hours(found), *map(as_html, _sections(found)),
        f"<details><summary>provenance</summary><pre>{html.escape(_json(provenance))}</pre></details>",
    ]  # fmt: skip
    head = f'<meta charset="utf-8"><title>{shown(title)}</title>{STYLE}'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{"".join(body)}</body></html>\n'


def _summary(found: Rehearsal) -> str:
    counts = ", ".join(f"{sum(line.status == status for line in found.lines)} {status}" for status in HUES)
    end = "" if found.rates else " It ended before anything was measured."
    return f"{counts}. Red lines must be mended before the big run, amber ones be understood.{end}"


def _lines(title: str, lines: list[Line]) -> str:
    rows = "".join(
        f'<tr><td class="mark" style="color: {HUES[line.status]}">{line.status}</td><td><bdi>{shown(line.about)}</bdi></td>'
        f"<td>{shown(line.found, 1000)}</td><td>{shown(line.fix, 1000)}</td></tr>"
        for line in lines
    )
    return f"<h2>{shown(title)}</h2><table>{rows}</table>"


def _hours(found: Rehearsal) -> str:
    """What the large run will take, at the rates that were measured."""
    if found.rates is None:
        return ""
    said = "".join(
        f"<li>{shown(line, 1000)}</li>" for line in estimate(found.entry, found.size, CHECKPOINTS, found.rates)
    )
    return f"<h2>What the big run will take</h2><ul>{said}</ul>"


def _sections(found: Rehearsal) -> list[Section]:
    """Tables of what was seen, as far as it came."""
    texts = [one for one in (found.stories, found.neutral) if one]
    told = pd.concat([one.report() for one in texts]).fillna(0) if texts else pd.DataFrame()
    seen = [
        Section("Texts", STORY_WORDS, told, list(told.columns)),
        Section("Probes", SCORE_WORDS, _or_none(found.score), SCORE),
        Section("Answers", ANSWER_WORDS, _or_none(found.answers), ("thinking", "arm", "outcome", "answers")),
        Section("Stories to read", SAMPLE_WORDS, _samples(found), ("emotion", "topic", "dropped", "text")),
    ]
    return [section for section in seen if len(section.table)]


def _or_none(table: pd.DataFrame | None) -> pd.DataFrame:
    return pd.DataFrame() if table is None else table


def _samples(found: Rehearsal) -> pd.DataFrame:
    written = found.stories.written if found.stories else ()
    firsts = [next((story for story in written if story.emotion == emotion), None) for emotion in EMOTIONS]
    return pd.DataFrame([vars(story) for story in firsts if story])


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
