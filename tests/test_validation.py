"""Validation by definition: planted probes hit, shuffled ones are at chance, random directions get half of all signs."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from conftest import ABOUT
from probes.activations import capture, label
from probes.directions import EmotionProbes
from probes.emotions import DOZEN
from probes.errors import ConventionError, DataError, FileFormatError, LayerError, UnknownNameError
from probes.intensity import (
    HIT_COLUMNS,
    INTENSITY_COLUMNS,
    _rhos,
    intensity_hits,
    intensity_points,
    intensity_table,
    random_rhos,
)
from probes.lm.chat import render
from probes.lm.model import random_twin
from probes.prompts import user_turn
from probes.stimuli import (
    Stimulus,
    Template,
    capture_intensity,
    capture_stimuli,
    filled,
    load_intensity,
    load_questions,
    load_scenarios,
)
from probes.stories import Stories, Story, names_emotion
from probes.validation import BASELINES, MATRIX_COLUMNS, SCORE_COLUMNS, fit_twin, scenario_matrix, scenario_scores
from small_model import LAYERS, WIDTH, small_model

FEATURES = 40
STORIES = Stories([Story(f"{e}/x/{i}", e, "x", f"word{e} thing{i}") for e in DOZEN for i in range(4)], "synthetic")
TEMPLATES = (
    Template("up", "ours", "It is {n} now.", (1, 2, 3, 4, 5, 6, 7), {"happy": 1, "sad": -1}),
    Template("down", "ours", "There were {n}.", (1, 2, 3, 4, 5, 6, 7), {"calm": 1}),
)


def axes():
    return np.eye(FEATURES)[: len(DOZEN)]


@pytest.fixture
def planted(synthetic_activations):
    """Probes of twelve emotions, each along an axis of its own, at two layers."""
    rng = np.random.default_rng(0)
    mean = np.repeat(axes(), 6, axis=0)[:, None] + 0.01 * rng.standard_normal((72, 2, FEATURES))
    return EmotionProbes("difference_of_means").fit(synthetic_activations(mean, emotion=np.repeat(DOZEN, 6)))


def stimuli(mean, emotions=None, texts=None):
    emotions = np.repeat(DOZEN, 4) if emotions is None else emotions
    labels = pd.DataFrame({"emotion": emotions, "text": texts if texts is not None else [f"word{e}" for e in emotions]})
    labels = labels.assign(sample=[f"s{i}" for i in range(len(labels))])
    return label(
        {"mean": np.asarray(mean, np.float32)}, labels, [0, 1], {**ABOUT, "span": "answer", "stimuli": "questions"}
    )


def shown(constant=0.0, noise=0.1, seed=1):
    """Stimuli that show their emotion, all with the same offset along the first axis."""
    rng = np.random.default_rng(seed)
    mean = np.repeat(axes(), 4, axis=0)[:, None] + noise * rng.standard_normal((48, 2, FEATURES))
    mean[..., 0] += constant
    return stimuli(mean)


def doses(curve_of, templates=TEMPLATES):
    """Activations (value, layer, feature) of each template from `curve_of(template)`: (value, feature)."""
    rows = [(t.template, n, text) for t in templates for n, text in zip(t.values, filled(t), strict=True)]
    labels = pd.DataFrame(rows, columns=["template", "number", "text"]).assign(
        sample=[str(i) for i in range(len(rows))]
    )
    mean = np.concatenate([curve_of(template) for template in templates])[:, None].repeat(2, axis=1)
    about = {**ABOUT, "span": "last_prompt", "stimuli": "intensity"}
    return label({"mean": mean.astype(np.float32)}, labels, [0, 1], about)


def as_foretold(sign=1):
    def curve(template):
        steps = np.arange(len(template.values))[:, None]
        return sum(sign * up * steps * axes()[DOZEN.index(emotion)] for emotion, up in template.expected.items())

    return curve


def rows_of(table, baseline="stimuli"):
    return table[table["baseline"] == baseline]


# ---- the shipped texts -----------------------------------------------------------------------------------------------


def test_scenarios_and_questions_cover_the_dozen_evenly():
    assert Counter(s.emotion for s in load_scenarios()) == dict.fromkeys(DOZEN, 4)
    questions = load_questions()
    assert Counter(s.emotion for s in questions) == dict.fromkeys(DOZEN, 3)
    for prompt in {s.prompt for s in questions}:
        assert sorted(s.emotion for s in questions if s.prompt == prompt) == sorted(DOZEN)


def test_no_shipped_text_names_any_of_the_dozen():
    texts = [f"{s.prompt} {s.answer}" for s in (*load_scenarios(), *load_questions())]
    texts += [template.text for template in load_intensity()]
    assert [(text, emotion) for text in texts for emotion in DOZEN if names_emotion(text, emotion)] == []
    assert len(set(texts)) == len(texts)


def test_templates_hold_the_eleven_registered_signs():
    templates = load_intensity()
    signs = {t.template: dict(t.expected) for t in templates if t.source.startswith("Sofroniew")}
    assert signs == {
        "medicine": {"afraid": 1, "calm": -1}, "fasting": {"afraid": 1}, "sister": {"sad": -1, "calm": 1, "happy": 1},
        "dog": {"sad": 1}, "runway": {"afraid": -1, "calm": 1}, "exam": {"happy": 1, "afraid": -1},
    }  # fmt: skip
    assert len({template.template for template in templates}) == len(templates) == 9
    assert filled(templates[0])[0] == templates[0].text.replace("{n}", "250")


@pytest.mark.parametrize(
    ("load", "row", "error", "words"),
    [
        (load_scenarios, {"emotion": "sad", "text": "I feel so sad."}, DataError, "1 name their emotion: 'sad'"),
        (load_scenarios, {"emotion": "sadd", "text": "I wept."}, UnknownNameError, "Did you mean 'sad'"),
        (load_scenarios, {"emotion": "sad"}, FileFormatError, "line 1 lacks text"),
        (load_questions, {"emotion": "sad", "question": "How?", "answer": "Sadly."}, DataError, "name their emotion"),
        (load_intensity, {"text": "No slot."}, DataError, "got 0"),
        (load_intensity, {"values": [3, 2, 1]}, DataError, "rising whole numbers"),
        (load_intensity, {"expected": {"sad": 2}}, DataError, "signs of 1 or −1"),
        (load_intensity, {"expected": {"sda": 1}}, UnknownNameError, "sda"),
        (load_intensity, {"text": "Sad for {n} days."}, DataError, "names sad"),
    ],
)
def test_texts_that_cannot_be_used(tmp_path, load, row, error, words):
    whole = {"template": "t", "source": "ours", "text": "It is {n}.", "values": [1, 2, 3], "expected": {"sad": 1}}
    (tmp_path / "f.jsonl").write_text(json.dumps(whole | row if load is load_intensity else row) + "\n")
    with pytest.raises(error, match=words):
        load(tmp_path / "f.jsonl")


# ---- scenarios and questions -----------------------------------------------------------------------------------------


def test_planted_probes_give_a_perfect_diagonal(planted):
    matrix, scores = scenario_matrix(planted, shown()), scenario_scores(planted, shown(), STORIES, (planted, shown()))
    assert tuple(matrix) == MATRIX_COLUMNS
    assert tuple(scores) == SCORE_COLUMNS
    assert len(matrix) == 2 * 2 * 12 * 12
    largest = matrix.loc[matrix.groupby(["baseline", "layer", "stimulus_emotion"])["value"].idxmax()]
    assert (largest["stimulus_emotion"] == largest["probe_emotion"]).all()
    assert (scores[["top1", "top3", "diagonal", "twin_top1", "text_top1"]] == 1).all().all()
    assert set(scores["n"]) == {48}
    assert set(scores["candidates"]) == {12}
    assert set(scores["chance_top1"]) == {1 / 12}
    assert set(scores["chance_top3"]) == {0.25}


def test_matrix_values_are_the_projections_by_definition(planted):
    matrix, activations = scenario_matrix(planted, shown(2.0)), shown(2.0)
    h = activations["mean"].sel(layer=1).values.astype(float)
    of = {e: h[activations["emotion"].values == e].mean(axis=0) for e in DOZEN}
    origins = {"stimuli": np.mean(list(of.values()), axis=0), "stories": planted.origin_.sel(layer=1).values}
    for row in matrix[matrix["layer"] == 1].itertuples():
        direction = planted.directions_.sel(layer=1, emotion=row.probe_emotion).values
        assert row.value == pytest.approx((of[row.stimulus_emotion] - origins[row.baseline]) @ direction, abs=1e-5)


def test_a_constant_of_one_probe_spoils_the_stories_baseline_and_not_the_stimuli_one(planted):
    scores = scenario_scores(planted, shown(30.0), STORIES, (planted, shown()))
    np.testing.assert_allclose(rows_of(scores, "stories")["diagonal"], 1 / 12)
    assert (rows_of(scores)["top1"] == 1).all()
    assert set(scores["baseline"]) == set(BASELINES)


def test_shuffled_labels_are_at_chance(planted):
    hits = []
    for seed in range(40):
        emotions = np.random.default_rng(seed).permutation(np.repeat(DOZEN, 4))
        activations = shown(seed=seed).assign_coords(emotion=("sample", emotions))
        hits.append(scenario_scores(planted, activations, STORIES, (planted, activations)))
    scores = pd.concat(hits)
    assert rows_of(scores)["top1"].mean() == pytest.approx(1 / 12, abs=0.02)
    assert rows_of(scores)["top3"].mean() == pytest.approx(3 / 12, abs=0.03)


def test_equal_prompts_are_exactly_at_chance_and_have_no_diagonal(planted):
    """What the questions are at their last prompt token: the same for every emotion."""
    mean = np.tile(np.random.default_rng(0).standard_normal((4, 2, FEATURES)), (12, 1, 1))
    activations = stimuli(mean)
    scores = rows_of(scenario_scores(planted, activations, STORIES, (planted, activations)))
    np.testing.assert_allclose(scores["top1"], 1 / 12)
    np.testing.assert_allclose(scores["top3"], 3 / 12)
    assert (scores["diagonal"] == 0).all()
    assert (rows_of(scenario_matrix(planted, activations))["value"] == 0).all()


def test_only_emotions_that_both_have_compete(planted):
    emotions = np.array(["happy"] * 4 + ["bored"] * 4 + ["sad"] * 4)
    mean = np.zeros((12, 2, FEATURES))
    mean[:4, :, DOZEN.index("happy")] = mean[8:, :, DOZEN.index("sad")] = 1
    mean[:, :, DOZEN.index("calm")] = 50
    scores = scenario_scores(planted, stimuli(mean, emotions), STORIES, (planted, stimuli(mean, emotions)))
    assert set(scores["candidates"]) == {2}
    assert set(scores["n"]) == {8}
    assert (scores["top1"] == 1).all()
    with pytest.raises(DataError, match="share 1 emotions"):
        scenario_matrix(planted, stimuli(mean, np.array(["bored"] * 8 + ["sad"] * 4)))


def test_words_and_twin_are_asked_the_same(planted):
    silent = stimuli(shown()["mean"].values, texts=["nothing of it"] * 48)
    scores = scenario_scores(planted, silent, STORIES, (planted, stimuli(np.zeros((48, 2, FEATURES)))))
    assert (scores["top1"] == 1).all()
    assert (scores["text_top1"] <= 1 / 12 + 1e-9).all()
    assert (rows_of(scores)["twin_top1"] == 0).all()
    few = Stories([story for story in STORIES if story.emotion != "sad"], "x")
    with pytest.raises(DataError, match="no story of sad"):
        scenario_scores(planted, silent, few, (planted, silent))


def test_other_conventions_are_refused(planted):
    with pytest.raises(ConventionError, match="tokenizer_sha"):
        scenario_matrix(planted, shown().assign_attrs(tokenizer_sha="another"))
    with pytest.raises(LayerError, match="no probes at layers"):
        scenario_matrix(planted, shown().assign_coords(layer=[0, 5]))


# ---- intensity -------------------------------------------------------------------------------------------------------


def test_rho_is_spearmans():
    from scipy.stats import spearmanr

    curves = np.random.default_rng(0).standard_normal((7, 20))
    curves[3] = curves[4]  # ties
    expected = [spearmanr(np.arange(7), curve).statistic for curve in curves.T]
    np.testing.assert_allclose(_rhos(curves), expected)
    assert np.isnan(_rhos(np.ones((7, 1)))).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_curves_as_foretold_hit_all_signs_and_reversed_ones_none(planted, sign):
    activations = doses(as_foretold(sign))
    null = random_rhos(activations, n_random=200)
    table = intensity_table(planted, activations, TEMPLATES, null, STORIES, (planted, activations))
    assert tuple(table) == INTENSITY_COLUMNS
    foretold = table[table["expected"] != 0]
    assert len(foretold) == 3 * 2
    np.testing.assert_allclose(foretold["rho"], sign * foretold["expected"])
    np.testing.assert_allclose(foretold["twin_rho"], foretold["rho"])
    assert (foretold["hit"] == (sign > 0)).all()
    assert table.loc[table["expected"] == 0, ["hit", "p", "null_hits"]].isna().all().all()
    hits = intensity_hits(table, null)
    assert tuple(hits) == HIT_COLUMNS
    assert (hits["hit_rate"] == (sign > 0)).all()
    assert hits["text_hit_rate"].isna().all(), "words that do not move give no answer, and no failure"


def test_random_directions_get_half_of_the_signs_and_perfect_curves_by_chance(planted):
    """Along one line every direction is monotone: |ρ| = 1 means nothing there, and the null says so."""
    activations = doses(as_foretold())
    null = random_rhos(activations, n_random=1000)
    table = intensity_table(planted, activations, TEMPLATES, null, STORIES, (planted, activations))
    foretold = table[table["expected"] != 0]
    assert (foretold["null_hits"].between(0.45, 0.55)).all()
    np.testing.assert_allclose(foretold["null_mean_abs_rho"], 1.0)
    assert (foretold["p"] > 0.4).all()
    hits = intensity_hits(table, null)
    assert hits["null_hit_rate"].between(0.45, 0.55).all()
    assert hits["p"].between(0.08, 0.30).all(), "three signs come true together in about 1 of 8 draws"


def test_the_best_of_many_layers_is_judged_as_the_best(planted):
    activations = doses(as_foretold())
    null = random_rhos(activations)
    table = intensity_table(planted, activations, TEMPLATES, null, STORIES, (planted, activations))
    both = intensity_hits(table, null)
    alone = intensity_hits(table[table["layer"] == 0], null)
    assert (both["p_any_layer"] > both["p"]).all()
    np.testing.assert_allclose(alone["p_any_layer"], alone["p"])


def test_p_is_uniform_for_probes_that_are_random_themselves(planted):
    rng, ps = np.random.default_rng(3), []
    for _ in range(60):
        activations = doses(lambda template: rng.standard_normal((len(template.values), FEATURES)))
        null = random_rhos(activations, n_random=100, seed=int(rng.integers(1 << 30)))
        table = intensity_table(planted, activations, TEMPLATES, null, STORIES, (planted, activations))
        ps += table.loc[(table["expected"] != 0) & (table["layer"] == 0), "p"].tolist()
    assert np.mean(ps) == pytest.approx(0.5, abs=0.08)
    assert np.mean(np.array(ps) <= 0.2) == pytest.approx(0.2, abs=0.09)


def test_a_curve_that_does_not_move_is_no_hit(planted):
    still = doses(lambda template: np.zeros((len(template.values), FEATURES)))
    null = random_rhos(still, n_random=20)
    foretold = intensity_table(planted, still, TEMPLATES, null, STORIES, (planted, still)).query("expected != 0")
    assert foretold[["rho", "p", "null_mean_abs_rho"]].isna().all().all()
    assert (foretold["hit"] == 0).all()


def test_points_of_other_templates_are_refused(planted):
    activations = doses(as_foretold())
    with pytest.raises(DataError, match="other templates"):
        intensity_points(planted, activations, TEMPLATES[:1])
    longer = replace(TEMPLATES[0], values=(1, 2, 3))
    with pytest.raises(DataError, match="other values"):
        intensity_points(planted, activations, (longer, TEMPLATES[1]))
    points = intensity_points(planted, activations, TEMPLATES)
    assert set(points["baseline"]) == {"template"}
    np.testing.assert_allclose(points.groupby(["template", "layer", "emotion"])["value"].mean(), 0, atol=1e-6)


# ---- through a model -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return small_model()


def hidden(model, ids):
    import torch

    with torch.inference_mode():
        return model.network(torch.tensor([ids]), output_hidden_states=True).hidden_states


def test_spans_are_the_last_prompt_token_and_the_whole_answer(model):
    texts = [
        Stimulus("happy", "How was it?", "We sang all night."),
        Stimulus("sad", "And on Monday, then?", "Nobody came."),
    ]
    last, answer = (capture_stimuli(model, texts, span) for span in ("last_prompt", "answer"))
    for i, text in enumerate(texts):
        prompt = model.tokenizer(render(model.tokenizer, user_turn(text.prompt)), add_special_tokens=False)["input_ids"]
        both = [*prompt, *model.tokenizer(text.answer, add_special_tokens=False)["input_ids"]]
        states = hidden(model, both)
        for layer in range(LAYERS - 1):
            block = states[layer + 1][0].numpy()
            np.testing.assert_allclose(last["mean"].values[i, layer], block[len(prompt) - 1], atol=2e-4)
            np.testing.assert_allclose(answer["mean"].values[i, layer], block[len(prompt) :].mean(axis=0), atol=2e-4)
    assert (last["n_tokens"] == 1).all()
    assert (last.attrs["stimuli"], answer.attrs["span"]) == ("questions", "answer")
    assert list(answer["text"].values) == [text.answer for text in texts]


def test_what_cannot_be_captured(model):
    with pytest.raises(DataError, match="48 of 48 stimuli have no answer"):
        capture_stimuli(model, load_scenarios(), "answer")
    with pytest.raises(UnknownNameError, match="span 'answers'"):
        capture_stimuli(model, load_questions(), "answers")  # pyright: ignore
    with pytest.raises(LayerError, match=r"\[9\]"):
        capture_stimuli(model, load_scenarios(), layers=[9])


def test_the_whole_battery_through_a_random_model(model):
    """A random model has a random twin: everything runs, and equal prompts stay at chance."""
    texts = [
        Story(f"{e}/x/{i}", e, "x", f"{e} " * 3 + f"went to the door number {i} again") for e in DOZEN for i in range(3)
    ]
    stories, neutral = (
        Stories(texts, "x"),
        Stories([Story(f"n/{i}", "neutral", "x", f"Human: {i}?") for i in range(4)], "x"),
    )
    probes = EmotionProbes().fit(capture(model, stories, "all", 1), capture(model, neutral, "all", 1))
    twin = random_twin(model, seed=0)
    theirs = fit_twin(twin, stories, neutral, probes.layers, start_token=1)
    assert twin.name == "small-random"
    ours, random = (capture_stimuli(each, load_questions(), "last_prompt") for each in (model, twin))
    scores = rows_of(scenario_scores(probes, ours, stories, (theirs, random)))
    np.testing.assert_allclose(scores[["top1", "twin_top1"]], 1 / 12)
    assert (scores["diagonal"] == 0).all()
    templates = load_intensity()
    ours, random = (capture_intensity(each, templates) for each in (model, twin))
    null = random_rhos(ours, n_random=50)
    hits = intensity_hits(intensity_table(probes, ours, templates, null, stories, (theirs, random)), null)
    assert sorted(set(hits["n_signs"])) == [5, 11]
    assert ours.sizes == {"sample": 63, "layer": LAYERS, "feature": WIDTH}
