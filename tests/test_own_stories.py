"""Probes of the stories that a checkpoint writes itself: counts by definition, refusals with their numbers, and planted texts.

Where a checkpoint is given the original's stories as its own, probes of them are those that are refitted on the fixed corpus.
"""

import shutil
from dataclasses import replace
from random import Random

import numpy as np
import pandas as pd
import pytest

import capture_stories
import check_gates
import fit_probes
import own_stories
import probe_columns
from probes import lm, store
from probes.activations import save_activations
from probes.conclusions import NOT_MEASURABLE, conclusions, survival_table, with_unmeasurable
from probes.directions import load_probes
from probes.emotions import NEUTRAL
from probes.errors import ConventionError, DataError
from probes.gates import MEASURABLE
from probes.lm.checkpoints import find_checkpoint
from probes.moments import FOLDS, load_moments
from probes.own_stories import (
    NO_UNIT,
    NOT_WRITTEN,
    OWN,
    WORTH_COLUMNS,
    by_layer,
    judged,
    measurable_emotions,
    notes,
    story_counts,
    with_reasons,
)
from probes.presets import PRESETS
from probes.recipe_figures import heatmap_table, read_heatmap, recipe_heatmap
from probes.stimuli import capture_anchors
from probes.stories import Stories, Story, load_stories, topics
from test_conclusions import readings
from test_export import trained
from training.tiny import corpus
from writer_settings import WritingSettings

EMOTIONS = ("calm", "desperate", "guilty", "happy")
SMALL = replace(
    PRESETS["tiny"], emotions=EMOTIONS, topics=FOLDS, per_cell=1, neutral_per_topic=1, held_out=4, anchor_topics=6, story_tokens=8,
)  # fmt: skip


# ---- what was kept ---------------------------------------------------------------------------------------------------


def counts(kept, written=20, leaked=0.1):
    """story_counts of so many kept stories of each emotion, and dialogues."""
    names = (*EMOTIONS, NEUTRAL)
    return pd.DataFrame({"emotion": names, "n_written": written, "n_kept": kept, "leak_rate": leaked})


def test_counts_and_leaks_are_those_of_the_texts():
    dropped = ["", "", "names_emotion", "refusal", "names_emotion"]
    told = [
        Story(f"{e}/t/{i}", e, "t", "x", why)
        for e in ("sad", "calm")
        for i, why in enumerate(dropped[: 4 + (e == "sad")])
    ]
    plain = [Story(f"neutral/t/{i}", NEUTRAL, "t", "x", why) for i, why in enumerate(["", "cut"])]
    table = story_counts(Stories(told, "m"), Stories(plain, "m")).set_index("emotion")
    assert table.loc["sad"].tolist() == [5, 2, 0.4]
    assert table.loc["calm"].tolist() == [4, 2, 0.25]
    assert table.loc[NEUTRAL].tolist() == [2, 1, 0.0]


def test_an_emotion_is_measurable_from_half_of_what_the_original_kept():
    original = counts([18, 19, 18, 18, 10])
    table = judged(counts([9, 9, 9, 8, 8]), original)
    assert tuple(table) == WORTH_COLUMNS
    assert table["n_needed"].tolist() == [9, 10, 9, 9, 8]
    assert judged(original, counts([15, 8, 7, 1, 2]))["n_needed"].tolist() == [8, 8, 7, 1, 2]
    assert measurable_emotions(table) == ("calm", "guilty")
    assert table["outcome"].tolist() == [MEASURABLE, NOT_MEASURABLE, MEASURABLE, NOT_MEASURABLE, MEASURABLE]
    assert table["why"].tolist()[3] == "it kept 8 of 20 stories of its own, and 9 are needed"
    assert measurable_emotions(judged(original, original)) == EMOTIONS


def test_where_most_emotions_or_the_dialogues_are_lacking_nothing_is_measurable():
    original = counts([16, 16, 16, 16, 8])
    few, silent = judged(counts([16, 1, 1, 1, 8]), original), judged(counts([16, 16, 16, 16, 3]), original)
    assert not measurable_emotions(few)
    assert few["why"].iloc[0] == "it kept enough stories of 1 of 4 emotions, and of 2 they are needed"
    assert few["why"].iloc[1] == "it kept 1 of 20 stories of its own, and 8 are needed"
    assert set(silent["why"]) == {"it kept 3 of 20 dialogues of its own, and 8 are needed"}
    assert set(judged(None, original)["why"]) == {NOT_WRITTEN}
    uneven = judged(counts([80, 1, 1, 1, 8], written=90), original)
    for table, words in ((few, "32 needed"), (silent, "dialogues"), (uneven, "most emotions")):
        assert notes(table.assign(checkpoint="c", layer=3, accuracy=np.nan, chance=np.nan))["note"].iloc[0].endswith(
            f"name their emotion · {NOT_MEASURABLE}: {words}"
        )  # fmt: skip


# ---- beside conclusions ----------------------------------------------------------------------------------------------


@pytest.fixture
def beside(synthetic_activations):
    """Four kinds of probes, of which own stories read nothing in one checkpoint; and what those are worth."""
    table = readings()
    fits = [conclusions(table, kind, 0, 384) for kind in ("frozen", "realigned", "refitted")]
    fits[0] = fits[0][(fits[0]["checkpoint"] != "antirefusal") | (fits[0]["emotion"] != "calm")]
    fits.append(conclusions(table[table["checkpoint"] == "original"], OWN, 0, 384))
    original, own = counts([16, 16, 16, 16, 8]), []
    for name, kept in (("original", [16, 16, 16, 16, 8]), ("antirefusal", [2, 0, 1, 0, 9])):
        streams = synthetic_activations(np.zeros((1, 1, 4)), layers=[3], about={"checkpoint": name})
        score = {"layer": [3], "accuracy": 0.75, "low": 0.6, "high": 0.9, "chance": 0.25, "text_baseline": 0.5, "n": 16}
        own.append(
            by_layer(judged(counts(kept), original), pd.DataFrame(score) if name == "original" else None, streams)
        )
    return with_unmeasurable(fits), pd.concat(own, ignore_index=True)


def test_every_cell_that_is_not_measurable_says_why_and_no_other_does(beside):
    table, own = beside
    told = with_reasons(table, own)
    silent = told["verdict"] == NOT_MEASURABLE
    assert ((told["why"] != "") == silent).all()
    assert set(told.loc[silent & (told["recipe"] == "frozen"), "why"]) == {NO_UNIT}
    of_own = told[silent & (told["recipe"] == OWN)]
    assert set(of_own["checkpoint"]) == {"antirefusal"}
    assert set(of_own.loc[of_own["emotion"] == "guilty", "why"]) == {
        "it kept 1 of 20 stories of its own, and 8 are needed"
    }
    three = survival_table(told[told["recipe"] != OWN])
    assert set(three["n_recipes"]) == {3}


def test_the_figure_says_what_the_fourth_column_rests_on_and_is_drawn_again_from_its_csv(beside, tmp_path):
    table, own = beside
    drawn = with_reasons(heatmap_table(table), own).merge(notes(own), on=["checkpoint", "layer"])
    figure = recipe_heatmap(drawn, "kind of probes")
    shown = figure.to_json()
    for words in (
        "own stories: 64 of 80<br>10% name their emotion<br>held-out 0.75, chance 0.25",
        "own stories: 3 of 80<br>10% name their emotion<br>not measurable: 32 needed",
        "not measurable: it kept 1 of 20 stories of its own, and 8 are needed",
    ):
        assert words in shown.replace("\\u003c", "<").replace("\\u003e", ">")
    caption = " ".join(str(one.text) for one in figure.layout.annotations).replace("<br>", " ")
    assert "do not decide whether the other three agree" in caption
    store.write_table(tmp_path / "h.csv", drawn)
    assert recipe_heatmap(read_heatmap(tmp_path / "h.csv"), "kind of probes").to_json() == shown


def test_moments_of_some_emotions_are_those_of_their_stories(synthetic_activations):
    from probes.moments import moments_of

    rng = np.random.default_rng(0)
    stories = synthetic_activations(rng.normal(size=(24, 2, 3)), emotion=[*EMOTIONS] * 6)
    folds = {f"topic {i}": i for i in range(4)}
    moments = moments_of(stories, folds)
    some = moments.only(("happy", "calm"))
    kept = stories.isel(sample=stories["emotion"].isin(["happy", "calm"]).values)
    np.testing.assert_allclose(some.emotion_means()["mean"], moments_of(kept, folds).emotion_means()["mean"], atol=1e-6)
    assert not some.scatter
    assert moments.only(EMOTIONS) is moments
    with pytest.raises(DataError, match=r"no story of sad; there are stories of calm, desperate, guilty, happy"):
        moments.only(("sad", "calm"))


# ---- the scripts -----------------------------------------------------------------------------------------------------


def write_texts(settings, by):
    """Stories and dialogues of the corpus in the original's place."""
    rng, seen, others = Random("stories"), topics()[: SMALL.topics], topics()[SMALL.topics :][: SMALL.anchor_topics]
    for kind, chosen in (("emotional", seen), ("anchor", others)):
        told = [
            Story(f"{e}/{t}/0", e, t, corpus.story(rng, e, t, banks="A", events=False), "", by)
            for e in EMOTIONS
            for t in chosen
        ]
        Stories(told, "tiny/original").save(settings.stories(kind))
    for kind, chosen in (("neutral", seen), ("anchor_neutral", others)):
        plain = [Story(f"{NEUTRAL}/{t}/0", NEUTRAL, t, corpus.dialogue(rng, t, 3), "", by) for t in chosen]
        Stories(plain, "tiny/original").save(settings.stories(kind))


def save_streams(settings, engine):
    """Anchors at the shown layers, and replies that are noise about them."""
    name, layers = engine.model.checkpoint.name, settings.shown_layers
    read = {kind: load_stories(settings.stories(kind)) for kind in ("anchor", "anchor_neutral")}
    anchors = capture_anchors(engine.model, read["anchor"], read["anchor_neutral"], layers, engine)
    save_activations(settings.activations(f"anchors_{name}"), anchors)
    rng, arms, n = np.random.default_rng(1), ("harmful", "affect", "benign"), 12
    mean = anchors["mean"].values[rng.integers(0, anchors.sizes["sample"], 3 * n)]
    questions = [f"q{i:02d}" for i in range(n)] * 3
    return {
        "mean": mean, "unit_mean": mean, "layers": list(layers), "about": anchors.attrs, "arm": np.repeat(arms, n),
        "question": questions, "pair": questions, "checkpoint": name, "text_source": "original",
    }  # fmt: skip


@pytest.fixture(scope="module")
def small():
    """The preset of the embedded model, small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", SMALL)
        yield


@pytest.fixture(scope="module")
def study(small, tmp_path_factory):
    """Settings of a study with one trained checkpoint, as far as own stories and refits need it."""
    folder = tmp_path_factory.mktemp("study")
    settings = WritingSettings(out=folder / "runs", figures=folder / "figures", checkpoints=("original", "antirefusal"))
    write_texts(settings, lm.load("tiny").written_by)
    capture_stories.main(settings)
    fit_probes.main(settings)
    trained("tiny", "tiny", settings.trained)
    return settings


@pytest.fixture
def streams(study, synthetic_activations):
    """The streams that probe_columns reads, of both checkpoints, and the refit of the trained one."""
    read = {kind: load_stories(study.stories(kind)) for kind in check_gates.KINDS}
    for name in ("original", "antirefusal"):
        with study.reading(find_checkpoint(f"tiny/{name}", study.trained)) as engine:
            save_activations(study.activations(f"replies_{name}"), synthetic_activations(**save_streams(study, engine)))
            if name != "original":
                check_gates.refit(study, engine, read)


def columns(settings):
    """Conclusions of probe_columns, by kind."""
    probe_columns.main(settings)
    table = pd.read_csv(
        settings.figure_folder("probe_columns") / "conclusions.csv", keep_default_na=False, na_values=[""]
    )
    return table.set_index(["checkpoint", "layer", "emotion", "reference"]).sort_index()


def test_too_few_own_stories_are_refused_with_both_numbers_and_nothing_is_captured(study, tmp_path, capsys):
    """Eight tokens are no story: all that the checkpoint writes is dropped."""
    shutil.copytree(study.out, tmp_path / "runs")
    settings = replace(study, out=tmp_path / "runs")
    own_stories.main(replace(settings, shard="1/2"))
    shown = capsys.readouterr().out
    assert "own stories are enough for 0 emotions; it kept 0 of 8 stories of its own, and 8 are needed" in shown
    assert sorted(path.name for path in settings.told("antirefusal").iterdir()) == ["stories"]
    written = load_stories(settings.stories("emotional", "antirefusal"))
    assert written.model == "tiny/antirefusal"
    assert [story.sample for story in written.written] == [
        story.sample for story in load_stories(settings.stories("emotional"))
    ]
    before = store.sha256(settings.stories("emotional", "antirefusal"))
    own_stories.main(settings)
    assert capsys.readouterr().out.count("already there") == 2
    assert store.sha256(settings.stories("emotional", "antirefusal")) == before
    assert {path.stat().st_mode & 0o777 for path in settings.told("antirefusal").rglob("*.jsonl")} == {0o600}


def test_stories_of_another_writer_are_not_put_beside_the_originals(study, tmp_path):
    shutil.copytree(study.out, tmp_path / "runs")
    settings = replace(study, out=tmp_path / "runs")
    write_texts(settings, "vllm 0.31.0, torch.bfloat16")
    with pytest.raises(
        ConventionError, match=r"stories are by vllm .* tiny/antirefusal would write by transformers .* --writer"
    ):
        own_stories.main(settings)
    assert not settings.told("antirefusal").exists()


def test_own_stories_that_are_the_originals_are_read_as_frozen_and_as_refitted_probes(study, streams, monkeypatch):
    for kind in ("emotional", "neutral"):
        Stories(load_stories(study.stories(kind)), "tiny/antirefusal").save(study.stories(kind, "antirefusal"))
    own_stories.fit_own(study, find_checkpoint("tiny/antirefusal", study.trained))
    monkeypatch.setattr("probes.figures._write_images", lambda *given: [])
    table = columns(study)
    original = [table[table["recipe"] == kind].loc["original"].drop(columns="recipe") for kind in (OWN, "frozen")]
    pd.testing.assert_frame_equal(*original)
    own, refitted, frozen = (table[table["recipe"] == kind].loc["antirefusal"] for kind in (OWN, "refitted", "frozen"))
    assert (own["verdict"] == refitted["verdict"]).all()
    np.testing.assert_allclose(own["mean"].astype(float), refitted["mean"].astype(float), rtol=1e-3, atol=1e-4)
    assert np.abs(own["mean"].astype(float) - frozen["mean"].astype(float)).max() > 0.01
    assert load_probes(study.probes_of("antirefusal")).about_["checkpoint"] == "antirefusal"
    assert load_moments(study.activations("moments", "antirefusal")).stories == own["n_stories"].iloc[0] == 32
    worth = pd.read_csv(study.figure_folder("probe_columns") / "own_stories.csv")
    assert worth["accuracy"].between(0, 1).all()
    agreement = pd.read_csv(study.figure_folder("probe_columns") / "agreement.csv")
    assert set(agreement["n_recipes"]) == {3}
