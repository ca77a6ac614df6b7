"""What stands around the panels of every figure: type and ink, the caption, and the watermark of the embedded model."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

WATERMARK = "TOY MODEL · checks the pipeline, not a finding"
TOY_NOTE = "Toy units: the embedded model checks the pipeline and says nothing about language models."

INK, GREY, GRID = "#222222", "#666666", "#E2E2E2"
FONT = "Arial, Helvetica, Liberation Sans, DejaVu Sans, sans-serif"
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

LINE = 20
"""Height of a line of text in pixels."""


def safe(text: object) -> str:
    """Text that plotly shows as it stands: plotly renders a subset of HTML in every label."""
    return html.escape(str(text), quote=False)


def is_toy(table: pd.DataFrame) -> bool:
    """Whether any row was read from the embedded model."""
    return bool((table["evidence"] == "toy").any())


def nine_digits(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers at the 9 digits of a CSV, so that a table draws alike from memory and from file."""
    numbers = table.select_dtypes("float").columns
    return table.assign(**{column: [float(f"{value:.9g}") for value in table[column]] for column in numbers})


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
            font={"size": min(26, round(width / 27)), "color": "#6A6A6A"},
            opacity=0.5, xref=f"x{axis} domain", x=0.5, yref=f"y{axis} domain", y=0.5,
        )  # fmt: skip
