"""One text in two arms, token by token: where in it an emotion is read, as words on a coloured ground.

    rows = [token_readings(model, probes, reply, layer, emotion) for reply in (harmful, affect)]
    html = transcript_html(pd.concat(rows))

Every token is a passage of its own, and all of them are read in one pass of the text.
"""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from probes.activations import describe, label
from probes.cards import shown
from probes.directions import DOT, EmotionProbes
from probes.errors import DataError

if TYPE_CHECKING:
    from probes.lm.engines import Engine, EngineName
    from probes.lm.model import Model
    from probes.replies import Reply

TOKEN_COLUMNS = (
    "model", "checkpoint", "evidence", "sample", "arm", "text_source", "layer", "emotion", "place", "token", "span", "value",
)  # fmt: skip
WARM, COLD = (213, 94, 0), (0, 114, 178)
"""Colours above and below the mean of what is shown (Okabe and Ito 2008)."""


def token_readings(
    model: "Model",
    probes: EmotionProbes,
    reply: "Reply",
    layer: int,
    emotion: str,
    engine: "EngineName | Engine" = "transformers_hooks",
) -> pd.DataFrame:
    """Dot product of every token of a prompt and its answer, in TOKEN_COLUMNS: `span` is prompt or answer.

    Raises DataError for a reply without an answer, and what probes.lm.capture and EmotionProbes.transform raise.
    """
    from probes.lm.capture import Passage, capture
    from probes.lm.engines import start
    from probes.lm.reducers import MeanPool

    if reply.answer_start == reply.answer_stop:
        raise DataError(f"{reply.sample} has no answer to show.")
    ids = (reply.prompt_ids + reply.token_ids)[: reply.answer_stop]
    passages = [Passage(ids, range(place, place + 1), f"{reply.sample} token {place}") for place in range(len(ids))]
    runs = start(engine, model)
    arrays = capture(model, passages, [layer], [MeanPool()], label="", engine=runs)
    labels = pd.DataFrame({"sample": [passage.name for passage in passages]})
    values = (
        probes.transform(label(arrays, labels, [layer], describe(model, runs)), DOT).sel(emotion=emotion).values[:, 0]
    )
    spans = ["answer" if reply.answer_start <= place else "prompt" for place in range(len(ids))]
    table = pd.DataFrame({"place": range(len(ids)), "token": _texts(model, ids), "span": spans, "value": values})
    about = {"model": model.name, "checkpoint": model.checkpoint.name, "evidence": model.entry.evidence}
    about |= {
        "sample": reply.sample,
        "arm": reply.arm,
        "text_source": reply.text_source,
        "layer": layer,
        "emotion": emotion,
    }
    return table.assign(**about)[list(TOKEN_COLUMNS)]


def _texts(model: "Model", ids: tuple[int, ...]) -> list[str]:
    """What each token adds to the text: a character of several tokens stands with the last of them."""
    wholes = ["", *(str(model.tokenizer.decode(list(ids[: end + 1]))).rstrip("\ufffd") for end in range(len(ids)))]
    return [after[len(before) :] for before, after in pairwise(wholes)]


def transcript_html(tokens: pd.DataFrame) -> str:
    """The texts of a table of token readings below each other, on one scale, escaped."""
    mean, span = float(tokens["value"].mean()), float(np.abs(tokens["value"] - tokens["value"].mean()).max()) or 1.0
    parts = [
        f"<p><b>{shown(arm)}</b></p><p class='tokens'>{''.join(_mark(row, mean, span) for row in rows.to_dict('records'))}</p>"
        for arm, rows in tokens.groupby("arm", sort=False)
    ]
    return "".join(parts)


def _mark(row: dict, mean: float, span: float) -> str:
    """A token on its ground; those of the prompt without one, pale."""
    if row["span"] == "prompt":
        return f"<span class='prompt'>{shown(row['token'])}</span>"
    share = (row["value"] - mean) / span
    red, green, blue = WARM if share > 0 else COLD
    ground = f"rgba({red},{green},{blue},{abs(share):.2f})"
    return f"<span style='background:{ground}' title='{row['value']:.3g}'>{shown(row['token'])}</span>"
