"""The gate strip: numbers of others put side by side, each with what it is of, and never two that do not belong together."""

from dataclasses import replace

import pandas as pd
import pytest

from probes.errors import ConventionError, DataError, LayerError
from probes.gate_strip import STRIP_COLUMNS, gate_strip, refusal_rates, strip_html
from probes.replies import Replies
from probes.unseen import ALL, TEXT_LAYER
from small_readings import INJECTION
from test_replies import reply


def answers(checkpoint: str, refused: int, n: int = 8) -> Replies:
    """n own answers in two arms, of four questions; some of the harmful ones declined, one of the others cut."""
    return Replies([
        replace(reply(arm), sample=f"q{i}/{arm}", pair=f"q{i % 4}", checkpoint=checkpoint,
                missing="refused" if arm == "harmful" and i < refused else "truncated" if i == 7 else "")
        for arm in ("harmful", "affect") for i in range(n)
    ] + [replace(reply("harmful"), sample="forced", text_source="original", missing="refused", checkpoint=checkpoint)])  # fmt: skip


RATES = pd.concat(refusal_rates(answers(name, n), ("harmful", "affect")) for name, n in (("original", 6), ("tuned", 1)))


def gates() -> pd.DataFrame:
    """Two checkpoints at two layers, three emotions of 4, 5 and 6 texts whose gains fall and whose cosines rise."""
    rows = [
        {"model": "m", "checkpoint": name, "weights": f"w-{name}", "evidence": "toy", "layer_convention": "c", "probes": "p",
         "layer": layer, "emotion": emotion, "n_texts": 4 + k, "chance": 1 / 3, "norm": 20.0, "layer_accuracy": 0.9,
         "refit_accuracy": 0.95, "gain_ratio": 1 - 0.1 * k, "refit_cosine": 0.9 + 0.01 * k, "half_cosine": 0.8}
        for name in ("original", "tuned") for layer in (3, 5) for k, emotion in enumerate(("calm", "guilty", "happy"))
    ]  # fmt: skip
    return pd.DataFrame(rows)


UNSEEN = pd.DataFrame(
    [
        (reader, layer, emotion, "w-original", accuracy, 40)
        for reader, layer, accuracy in (
            ("probes", 3, 0.7),
            ("probes", 5, 0.8),
            ("words", TEXT_LAYER, 0.85),
            ("embeddings", -1, 0.6),
        )
        for emotion in (ALL, "calm")
    ],
    columns=["reader", "layer", "emotion", "weights", "accuracy", "n"],
)
UNSEEN.loc[UNSEEN["emotion"] == "calm", "accuracy"] = 0.1
STRIP = gate_strip(gates(), ("guilty", "happy"), RATES, UNSEEN)


def test_refusals_are_own_answers_that_decline_and_nothing_else():
    rates = refusal_rates(answers("tuned", 3), ("harmful", "affect"))
    assert rates["refused"].tolist() == [3 / 8, 0]
    assert set(rates["n_answers"]) == {8}
    assert set(rates["n_questions"]) == {4}
    with pytest.raises(DataError, match=r"no own answer in the arm 'neutral'"):
        refusal_rates(answers("tuned", 3), ("neutral",))


def test_a_line_holds_what_gates_stories_and_answers_say():
    assert tuple(STRIP.columns) == STRIP_COLUMNS
    assert list(zip(STRIP["checkpoint"], STRIP["layer"], strict=True)) == [
        (n, k) for n in ("original", "tuned") for k in (3, 5)
    ]
    line = STRIP.iloc[3]
    assert (line["gain_ratio_low"], line["gain_ratio_high"]) == pytest.approx((0.8, 0.9))
    assert (line["refit_cosine_low"], line["refit_cosine_high"]) == pytest.approx((0.91, 0.92))
    assert line["n_texts"] == 15  # of every emotion: the accuracy is over all
    assert line[["stories", "words", "embeddings", "n_stories"]].tolist() == [0.8, 0.85, 0.6, 40]
    assert line[["refused", "refused_reference"]].tolist() == [1 / 8, 0]
    assert STRIP.iloc[0]["stories"] == 0.7


def test_what_was_not_measured_is_said_and_no_number():
    strip = gate_strip(gates(), ("calm",), RATES, None)
    assert strip[["stories", "words", "embeddings", "n_stories"]].isna().all(axis=None)
    shown = strip_html(strip)
    assert shown.count("<td>not measured</td>") == 3 * len(strip)
    assert "not measured in this run (experiments/validity_report.py)" in shown
    assert "nan" not in shown


def test_readers_of_other_weights_or_layers_are_refused():
    other = UNSEEN.assign(weights="w-tuned")
    with pytest.raises(ConventionError, match=r"read w-tuned and the gates' original is w-original"):
        gate_strip(gates(), ("calm",), RATES, other)
    with pytest.raises(LayerError, match=r"nothing of layers \[5\]"):
        gate_strip(gates(), ("calm",), RATES, UNSEEN[UNSEEN["layer"] != 5])


def test_the_strip_says_of_what_its_numbers_are_and_escapes():
    strip = gate_strip(gates(), ("calm", "guilty"), RATES, UNSEEN)
    shown = strip_html(strip.assign(checkpoint=INJECTION, arm=INJECTION))
    assert "15 held-out stories told as answers; and in the original of 40 held-out stories of unseen topics" in shown
    assert "<td>0.90 – 1.00</td>" in shown
    assert "8 answers to 4 questions" in shown
    assert "<img" not in shown
