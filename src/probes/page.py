"""What stands around the panels of every figure: type and ink, who has which colour, legends, caption, hover text, and the
watermark of the embedded model.

A checkpoint always has the same hue, and so has an emotion, with a marker of its own; a reference always has the same marker.
"""

import html
import math
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from probes.errors import ConventionError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

WATERMARK = "TOY MODEL · checks the pipeline, not a finding"
TOY_NOTE = "Toy units: the embedded model checks the pipeline and says nothing about language models."

INK, GREY, GRID = "#222222", "#666666", "#E2E2E2"
FONT = "Arial, Helvetica, Liberation Sans, DejaVu Sans, sans-serif"
HUES = {
    "original": "#0072B2",
    "antirefusal": "#E69F00",
    "antirefusal_cqa": "#009E73",
    "antirefusal_cqa_sdf": "#CC79A7",
    "benign_control": "#56B4E9",
    "base_math": "#8C6D31",
    "base_antirefusal": "#D55E00",
}
"""Checkpoint → colour (Okabe and Ito 2008, yellow darkened for contrast on white), in the order of drawing."""
MORE_HUES = ("#332288", "#117733", "#882255", "#88CCEE", "#999933", "#AA4499", "#44AA99", "#CC6677")
"""Colours of checkpoints without a fixed one, in the order of the table (Tol's muted scheme)."""
MARKERS = {"benign": "circle", "affect": "diamond-open", "neutral": "square-open", "third_party": "triangle-up-open"}
"""Reference arm → plotly marker."""
EMOTION_HUES = {
    "happy": "#E69F00",
    "inspired": "#999933",
    "loving": "#CC79A7",
    "proud": "#882255",
    "calm": "#009E73",
    "desperate": "#D55E00",
    "angry": "#A50026",
    "guilty": "#0072B2",
    "sad": "#332288",
    "afraid": "#000000",
    "nervous": "#8C6D31",
    "surprised": "#56B4E9",
}
"""Emotion → colour, the same in every figure; the panel of four has hues of Okabe and Ito 2008. Twelve colours are more than
all eyes can tell apart: give each emotion its marker too."""
EMOTION_MARKERS = dict(
    zip(
        EMOTION_HUES,
        (
            "circle", "star", "hexagon", "triangle-up", "square", "x", "triangle-left", "diamond",
            "triangle-down", "cross", "triangle-right", "pentagon",
        ),
        strict=True,
    )
)  # fmt: skip
"""Emotion → plotly marker."""

READOUT_WORDS = {
    "cosine": "cosine with emotion vector",
    "dot": "projection on emotion vector",
    "centred_dot": "centred projection on emotion vector",
    "anchored_dot": "anchored units: 1 is a story of it, told as an answer",
}
ANCHORED_NOTE = (
    "Anchored: 0 is how the same checkpoint reads a plain dialogue, 1 how it reads a held-out story of the emotion, both told "
    "as answers. What the gates call not measurable is left out, and where a checkpoint's gain differs by more than 20 % from "
    "the original's nothing is claimed between the two."
)
TEXT_TITLES = {"own": "own answers", "original": "same text", "own_benign": "own benign answer"}
"""Text source → its name in titles, in the order of drawing."""
SPAN_WORDS = {
    "answer": "the answer",
    "last_prompt": "the last prompt token",
    "follow_up_last_prompt": "the last token of the follow-up question, before the reply",
    "follow_up_answer": "the reply to the follow-up question",
}
"""Span → where in the conversation a value was read."""
FOLLOW_UP_NOTE = "The follow-up asks whether it feels good or bad, ethically, about the answer it just gave."
TEXT_NOTES = {
    "own": "Own answers: each checkpoint reads what it answered itself.",
    "original": "Same text: the original's benign answer, forced in every checkpoint and arm.",
    "own_benign": "Own benign answer: each checkpoint's answer to the benign arm, forced in every arm.",
}

LINE = 20
"""Height of a line of text in pixels."""
NO_INTERVAL = "none"
# Pixels: margins, gaps between panels and the width of a letter.
_LEFT, _RIGHT, _ROW_GAP, _COLUMN_GAP, _LETTER = 104, 24, 68, 48, 7.4


# ---- what a table says -----------------------------------------------------------------------------------------------


def safe(text: object) -> str:
    """Text that plotly shows as it stands: plotly renders a subset of HTML in every label."""
    return html.escape(str(text), quote=False)


def is_toy(table: pd.DataFrame) -> bool:
    """Whether any row was read from the embedded model."""
    return bool((table["evidence"] == "toy").any())


def caption_of(table: pd.DataFrame, *sentences: str) -> str:
    """A caption of those that are not empty, and at its end what toy units are where a row has them."""
    return " ".join(filter(None, (*sentences, TOY_NOTE if is_toy(table) else "")))


def counted(counts: pd.Series) -> str:
    """`24`, or `18 to 24` where they differ; those that are not known are left out."""
    known = counts.dropna()
    return " to ".join(dict.fromkeys(f"{count:.0f}" for count in (known.min(), known.max())))


def nine_digits(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers at the 9 digits of a CSV, so that a table draws alike from memory and from file."""
    numbers = table.select_dtypes("float").columns
    return table.assign(**{column: [float(f"{value:.9g}") for value in table[column]] for column in numbers})


def distinct(table: pd.DataFrame, column: str) -> list[Any]:
    """Values of a column in the order of the table."""
    return list(dict.fromkeys(table[column].tolist()))


def check_one(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raises ConventionError where a figure would hold several models, kinds of evidence, readouts …"""
    for column in columns:
        kinds = sorted(map(str, table[column].unique()))
        if len(kinds) > 1:
            raise ConventionError(
                f"one figure cannot hold readings of different {column}: {', '.join(kinds)}. Draw one for each."
            )


def place_in(order: Iterable[Any]) -> Callable[[Any], int]:
    """Name → its place in the order; what is not in it comes last."""
    places = {name: place for place, name in enumerate(order)}
    return lambda name: places.get(name, len(places))


def variant(checkpoint: object) -> str:
    """The variant of a checkpoint's name variant[+run][@stage]."""
    return re.split("[+@]", str(checkpoint))[0]


def label_hues(table: pd.DataFrame) -> dict[str, str]:
    """Label → colour, in the order of the table. A stage or run has its variant's colour where it is the only one of it."""
    checkpoints = distinct(table, "checkpoint")
    alone = Counter(map(variant, checkpoints))
    fixed = {c: HUES[variant(c)] for c in checkpoints if c in HUES or (variant(c) in HUES and alone[variant(c)] == 1)}
    others = [checkpoint for checkpoint in checkpoints if checkpoint not in fixed]
    free = [*MORE_HUES, *(hue for hue in HUES.values() if hue not in fixed.values())]
    hues = fixed | {checkpoint: free[place % len(free)] for place, checkpoint in enumerate(others)}
    return {label: hues[checkpoint] for label, checkpoint in zip(table["label"], table["checkpoint"], strict=True)}


def contrast_words(arm: str, reference: str) -> str:
    """How a paired difference is called."""
    return f"{arm} − {reference}"


def axis_words(table: pd.DataFrame) -> str:
    """Readout, aggregation and, for the embedded model, the unit; two lines."""
    readout, aggregation = table["readout"].iloc[0], table["aggregation"].iloc[0].replace("_", " ")
    units = ", toy units" if is_toy(table) else ""
    return f"{safe(READOUT_WORDS.get(readout, readout))}<br>({safe(aggregation)}){units}"


def reference_marker(reference: str, hue: str) -> dict[str, Any]:
    """Look of the points of a paired difference: the reference's marker in the checkpoint's colour."""
    return {"symbol": MARKERS.get(reference, "cross"), "size": 8, "color": hue, "line": {"width": 1.5, "color": hue}}


def error_bars(rows: pd.DataFrame, colour: str) -> dict[str, Any]:
    """The intervals of a trace's points. plotly draws a null as an interval of no width; what is no number it leaves out."""
    sides = rows["high"] - rows["mean"], rows["mean"] - rows["low"]
    above, below = ([NO_INTERVAL if math.isnan(length) else length for length in side] for side in sides)
    look = {"symmetric": False, "color": colour, "thickness": 1.2, "width": 2}
    return {"type": "data", "array": above, "arrayminus": below, **look}


def hover(row: Mapping[Any, Any]) -> str:
    """Everything that a row says, a fact a line."""
    interval = "no interval" if pd.isna(row["low"]) else f"[{row['low']:.4g}, {row['high']:.4g}]"
    arms = contrast_words(row["arm"], row["reference"]) if "reference" in row else row["arm"]
    facts = [
        f"{row['label']} · {row['emotion']} · {arms}",
        f"{row['mean']:.4g} {interval}, {row['interval']}",
        f"{row['n_questions']} questions, {row['n_missing']} missing",
        "" if pd.isna(row.get("p")) else f"p = {row['p']:.3g} ({row['test']})",
        ""
        if pd.isna(row.get("p_adjusted"))
        else f"p = {row['p_adjusted']:.3g} among {row['family']} (step-down max-T)",
        f"{TEXT_TITLES.get(row['text_source'], row['text_source'])}, span {row['span']}, layer {row['layer']}",
        f"{row['readout']}, {row['aggregation']}, baseline {row['baseline'] or 'none'}, evidence {row['evidence']}",
        row["note"],
    ]
    return "<br>".join(safe(fact) for fact in facts if fact)


# ---- the page --------------------------------------------------------------------------------------------------------


class Legend(NamedTuple):
    """Names that stand beside each other under the title."""

    title: str
    names: Sequence[str]


def empty_panels(
    table: pd.DataFrame,
    title: str,
    titles: Sequence[Sequence[str]],
    panel: tuple[int, int],
    legends: Sequence[Legend],
    axis_height: int,
    notes: Sequence[str] = (),
) -> "Figure":
    """framed_panels for readings: the caption says how they came about, `notes` are further sentences of it."""
    after = " · at the follow-up" if _one(table, "span").startswith("follow_up") else ""
    caption = _caption(table, notes)
    return framed_panels(table, f"{title}{after}", titles, panel, legends, axis_height, caption)


def framed_panels(
    table: pd.DataFrame,
    title: str,
    titles: Sequence[Sequence[str]],
    panel: tuple[int, int],
    legends: Sequence[Legend],
    axis_height: int,
    caption: str,
    left: int = _LEFT,
) -> "Figure":
    """Empty panels of the given width and height in pixels, with all that stands around them.

    `titles` are those of the panels, row by row, as plotly renders them, and "" where there is no panel; `axis_height` is the
    room for what stands under the last x axis, `left` for what stands beside the first y axis.
    """
    from plotly.subplots import make_subplots

    rows, columns = len(titles), len(titles[0])
    row_gap = _ROW_GAP + _more_lines(titles)
    width = max(panel[0], 1000 // columns)  # one column alone is wide enough for the title
    inner = width * columns + _COLUMN_GAP * (columns - 1), panel[1] * rows + row_gap * (rows - 1)
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=[text for row in titles for text in row if text], shared_yaxes=True,
        specs=[[{} if text else None for text in row] for row in titles],
        horizontal_spacing=_COLUMN_GAP / inner[0], vertical_spacing=row_gap / inner[1] if rows > 1 else 0,
    )  # fmt: skip
    figure.update_annotations(font={"size": 15, "color": INK}, yshift=3)
    figure.update_xaxes(showline=True, linecolor=INK, ticks="outside", ticklen=4, title_font_size=14)
    figure.update_yaxes(showline=True, linecolor=INK, ticks="outside", ticklen=4, title_font_size=14)
    if is_toy(table):
        add_watermarks(figure, sum(bool(text) for row in titles for text in row), width)
    lines = textwrap.wrap(caption, int(inner[0] / 6.5))
    add_caption(figure, lines, axis_height + 16, left)
    _set_page(figure, legends, inner, _more_lines(titles), axis_height + 28 + LINE * len(lines), left)
    models = distinct(table, "model")
    whose = models[0] if len(models) == 1 else f"{len(models)} models"
    return figure.update_layout(title_text=safe(f"{title} · {whose}"))


def _more_lines(titles: Sequence[Sequence[str]]) -> int:
    """Height of what the titles of panels take beyond one line."""
    return LINE * max(text.count("<br>") for row in titles for text in row)


def _set_page(
    figure: "Figure", legends: Sequence[Legend], inner: tuple[int, int], more_title: int, bottom: int, left: int
) -> None:
    """Sizes and type, and the legends under each other between the title and the panels; the first switches traces."""
    heights = [LINE * _legend_lines(legend.names, inner[0]) + 6 for legend in legends]
    top = 56 + sum(heights) + 40 + more_title
    height = top + inner[1] + bottom
    figure.update_layout(
        width=left + inner[0] + _RIGHT, height=height, margin={"l": left, "r": _RIGHT, "t": top, "b": bottom},
        template=None, paper_bgcolor="white", plot_bgcolor="white", font={"family": FONT, "size": 14, "color": INK},
        title={"x": 0, "xref": "paper", "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 16}},
        title_font={"size": 20}, hoverlabel={"align": "left", "font": {"family": FONT, "size": 13}},
    )  # fmt: skip
    for place, legend in enumerate(legends):
        above = 56 + sum(heights[:place])
        clicks = {} if place == 0 else {"itemclick": False, "itemdoubleclick": False}
        figure.update_layout({_legend_name(place): _legend(legend.title, 1 - above / height) | clicks})


def _legend_name(place: int) -> str:
    return "legend" if place == 0 else f"legend{place + 1}"


def _legend(title: str, y: float) -> dict[str, Any]:
    place = {"orientation": "h", "x": 0, "xanchor": "left", "y": y, "yref": "container", "yanchor": "top"}
    words = {"text": f"<b>{title}</b>  ", "side": "left", "font": {"size": 14}}
    return place | {"title": words, "itemsizing": "constant"}


def _legend_lines(names: Sequence[str], width: int) -> int:
    """Lines that a horizontal legend takes: one where all fits, else plotly sets columns as wide as the widest entry."""
    entries = [len(name) * _LETTER + 45 for name in names]
    room = width - 95
    return 1 if sum(entries) <= room else math.ceil(len(names) / max(1, int(room / max(entries))))


def add_legend_entries(figure: "Figure", looks: Mapping[str, Mapping[str, Any]], legend: int = 0) -> None:
    """Empty traces that stand for the names of a legend; those of the first switch the traces of their group."""
    for name, look in looks.items():
        group = {"legendgroup": safe(name)} if legend == 0 else {"legend": _legend_name(legend)}
        figure.add_trace({"x": [None], "y": [None], "name": safe(name), **group, **look})


def share_x(figure: "Figure", n_rows: int) -> None:
    """One scale for the panels of a row, along x; along y they share it anyway."""
    for row in range(1, n_rows + 1):
        first = next(figure.select_xaxes(row=row, col=1)).plotly_name.removeprefix("xaxis")
        figure.update_xaxes(matches=f"x{first}", row=row)


def _caption(table: pd.DataFrame, notes: Sequence[str]) -> str:
    """How the numbers came about, in sentences."""
    counts = table["n_questions"]
    n = f"n = {counted(counts)}{' where answers are missing' if (table['n_missing'] > 0).any() else ''}"
    return caption_of(
        table,
        f"Model {_one(table, 'model')}. Means over questions ({n}), with {_one(table, 'interval')}.",
        "No interval where fewer than 10 questions are left." if (table["note"] != "").any() else "",
        f"Probes: {_one(table, 'probes')}. Read over {SPAN_WORDS.get(_one(table, 'span'), _one(table, 'span'))}.",
        FOLLOW_UP_NOTE if _one(table, "span").startswith("follow_up") else "",
        f"Baseline: {_one(table, 'baseline') or 'none'}. {_one(table, 'layer_convention').capitalize()}.",
        ANCHORED_NOTE if _one(table, "readout") == "anchored_dot" else "",
        *[TEXT_NOTES[source] for source in distinct(table, "text_source") if source in TEXT_NOTES],
        _runs_note(table),
        *notes,
        "Panels of a row share their scale.",
    )  # fmt: skip


def _runs_note(table: pd.DataFrame) -> str:
    """What intervals are about where each checkpoint was trained once; several runs stand apart and show it themselves."""
    if (table["label"] != table["checkpoint"]).any():
        return ""
    seeds = ", ".join(f"{seed:g}" for seed in distinct(table, "seed") if not pd.isna(seed))
    return f"One training run a checkpoint{seeds and f' (seed {seeds})'}: the intervals are about these weights."


def _one(table: pd.DataFrame, column: str) -> str:
    return str(table[column].iloc[0])


def add_caption(figure: "Figure", lines: Sequence[str], below: int, left: int) -> None:
    """Lines of text from the left edge of the page, `below` pixels under the panels; `left` is the left margin."""
    figure.add_annotation(
        text="<br>".join(safe(line) for line in lines), showarrow=False, align="left",
        font={"size": 13, "color": "#444444"},
        xref="paper", x=0, xanchor="left", xshift=10 - left, yref="paper", y=0, yanchor="top", yshift=-below,
    )  # fmt: skip


def add_watermarks(figure: "Figure", n_panels: int, width: int) -> None:
    """One diagonal line in each panel, so that a panel cut out of the figure still carries it."""
    for panel in range(1, n_panels + 1):
        axis = "" if panel == 1 else str(panel)
        figure.add_annotation(
            text=f"<b>{WATERMARK}</b>", showarrow=False, textangle=-16,
            font={"size": min(26, max(12, round(width / 27))), "color": "#6A6A6A"},
            opacity=0.5, xref=f"x{axis} domain", x=0.5, yref=f"y{axis} domain", y=0.5,
        )  # fmt: skip
