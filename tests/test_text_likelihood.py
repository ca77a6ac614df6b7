"""Log-probabilities against the network's own scores, token by token; their table against its definition."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from probes import lm
from probes.errors import DataError
from probes.lm.capture import Passage
from probes.lm.likelihood import mean_log_probabilities
from probes.page import WATERMARK
from probes.text_likelihood import SCORED, likelihood_heatmap, likelihood_table, read_likelihoods
from small_model import save_small_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return lm.load(str(save_small_model(tmp_path_factory.mktemp("model") / "m")))


def passages():
    rng = np.random.default_rng(0)
    return [Passage(rng.integers(5, 90, length).tolist(), span) for length, span in
            ((12, range(4, 12)), (30, range(1, 30)), (7, range(6, 7)), (19, range(3, 11)))]  # fmt: skip


def test_each_is_the_mean_over_its_span_of_what_the_network_foretells(model):
    found, expected = mean_log_probabilities(model, passages(), batch_tokens=64, label=""), []
    for one in passages():
        ids = torch.tensor([list(one.token_ids)])
        with torch.inference_mode():
            scores = model.network(ids).logits[0].double().log_softmax(-1)
        expected.append(np.mean([float(scores[at - 1, one.token_ids[at]]) for at in one.span]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_first_token_of_a_text_is_foretold_by_nothing(model):
    with pytest.raises(DataError, match="or one before position 1"):
        mean_log_probabilities(model, [Passage([5, 6, 7], range(3))], label="")


def scored(questions=12):
    rng = np.random.default_rng(1)
    cells = product(("original", "antirefusal"), ("benign", "harmful"), range(questions), range(2))
    rows = [("tiny", name, "toy", "w", 0, f"q{q}/{arm}/{k}/own", f"q{q}", arm, k, "own", "", 9, -rng.random())
            for name, arm, q, k in cells]  # fmt: skip
    return pd.DataFrame(rows, columns=list(SCORED))


def test_sentences_are_averaged_before_questions_are():
    rows = scored()
    table = likelihood_table(rows).set_index(["checkpoint", "arm"])
    part = rows[(rows["checkpoint"] == "antirefusal") & (rows["arm"] == "harmful")]
    means = part.groupby("pair")["log_p"].mean()
    row = table.loc[("antirefusal", "harmful")]
    assert row["mean"] == pytest.approx(means.mean())
    assert row["high"] - row["mean"] == pytest.approx(2.201 * means.std() / np.sqrt(12), rel=1e-3)
    assert (row["n_questions"], row["n_texts"]) == (12, 24)
    assert likelihood_table(scored(questions=4))["low"].isna().all()
    with pytest.raises(DataError, match="lacking log_p"):
        likelihood_table(rows.drop(columns="log_p"))


def test_the_figure_comes_back_from_its_csv_and_is_stamped(tmp_path):
    table = likelihood_table(scored())
    table.to_csv(tmp_path / "likelihood.csv", index=False)
    figure = likelihood_heatmap(read_likelihoods(tmp_path / "likelihood.csv"))
    assert figure.to_json() == likelihood_heatmap(table).to_json()
    assert sum(WATERMARK in str(annotation.text) for annotation in figure.layout.annotations) == 2
