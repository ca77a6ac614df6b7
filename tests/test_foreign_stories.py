"""Stories that others published: mapped, filtered, counted, with licence and source; and a published corpus end to end."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from probes.activations import capture
from probes.directions import EmotionProbes, load_probes
from probes.emotions import NEUTRAL
from probes.errors import DataError, FileFormatError, MissingInputError, UnknownNameError
from probes.foreign_stories import ForeignStories, load_foreign
from probes.stories import Stories, load_stories
from probes.text_baseline import text_accuracy
from small_model import small_model

ORACLE = Path(os.environ.get("EMOTION_PROBES_ORACLES", Path(__file__).parents[2] / "shared/oracles")) / "story_corpus"
SAME = {"emotion": "emotion", "topic": "topic", "text": "text"}
SOURCE = "mufxio/emotion-vector-bench @ 6dde90c"


def plain(number):
    return f"Number {number} took the {number}th bus home, put {number} pears on the table and counted them {number} times."


def write(path, *rows):
    if path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(emotion="sad", topic="a bus", text=None, number=1):
    return {"emotion": emotion, "topic": topic, "text": plain(number) if text is None else text}


def load(path, columns=None, **settings):
    return load_foreign(path, columns or SAME, "MIT", "them @ 1", **{"min_words": 5, **settings})


@pytest.mark.parametrize("kind", [".jsonl", ".csv", ".parquet"])
def test_columns_are_mapped_once(tmp_path, kind):
    rows = [
        {"feeling": e, "subject": "a bus", "story": plain(i), "more": i} for i, e in enumerate(("sad", "calm", "sad"))
    ]
    stories = load(write(tmp_path / f"f{kind}", *rows), {"emotion": "feeling", "topic": "subject", "text": "story"})
    assert [(s.sample, s.emotion, s.topic, s.text) for s in stories] == [
        ("sad/a bus/0", "sad", "a bus", plain(0)), ("calm/a bus/0", "calm", "a bus", plain(1)),
        ("sad/a bus/1", "sad", "a bus", plain(2)),
    ]  # fmt: skip


def test_a_folder_is_read_in_the_order_of_names_and_a_topic_is_not_needed(tmp_path):
    write(tmp_path / "b.jsonl", {"emotion": "sad", "text": plain(1)})
    write(tmp_path / "a.csv", {"emotion": "calm", "text": plain(2)})
    (tmp_path / "README.md").write_text("theirs")
    stories = load(tmp_path, {"emotion": "emotion", "text": "text"})
    assert [(s.emotion, s.topic) for s in stories] == [("calm", ""), ("sad", "")]


def test_licence_and_source_are_kept_and_travel(tmp_path):
    stories = load(write(tmp_path / "f.jsonl", row(), row("calm", number=2)))
    assert isinstance(stories, ForeignStories)
    assert stories.origin == {"story_source": "them @ 1", "story_licence": "MIT"}
    assert "them @ 1" in repr(stories)
    saved = stories.save(tmp_path / "ours.jsonl")
    lines = [json.loads(line) for line in saved.read_text().splitlines()]
    assert {(line["licence"], line["source"], line["model"]) for line in lines} == {("MIT", "them @ 1", "them @ 1")}
    assert load_stories(saved).written == stories.written


@pytest.mark.parametrize("theirs", ["Grief_Stricken", "grief stricken", " grief-stricken "])
def test_spelling_of_a_known_emotion(tmp_path, theirs):
    assert [s.emotion for s in load(write(tmp_path / "f.jsonl", row(theirs)))] == ["grief-stricken"]


def test_unknown_emotions(tmp_path):
    leak = "She sat there hopelessly and counted all of the pears on the table again."
    rows = (row("hopeless"), row("sad", number=2), row("hopeless", text=leak), row("hopeless", number=1))
    path = write(tmp_path / "f.jsonl", *rows)
    with pytest.raises(UnknownNameError, match=r"unknown emotion 'hopeless'. Did you mean 'hopeful'"):
        load(path)
    dropped = load(path, unknown="drop")
    assert [s.dropped for s in dropped.written] == ["unknown_emotion", "", "unknown_emotion", "unknown_emotion"]
    assert "unknown_emotion 3" in repr(dropped)
    assert dropped.report().set_index("emotion").loc["hopeless", "unknown_emotion"] == 3
    kept = load(path, unknown="keep")
    assert [s.dropped for s in kept.written] == ["", "", "names_emotion", "near_duplicate"]
    assert [s.emotion for s in kept.written] == ["hopeless", "sad", "hopeless", "hopeless"]


def test_neutral_texts_are_known(tmp_path):
    assert [s.emotion for s in load(write(tmp_path / "f.jsonl", row("Neutral")))] == [NEUTRAL]


def test_the_same_filters(tmp_path):
    texts = (
        "",
        "I cannot write that story, since it would not be right.",
        "He wept sadly over all of the pears.",
        "Too short.",
    )
    stories = load(write(tmp_path / "f.jsonl", *[row(text=text) for text in texts], row(), row()))
    assert [s.dropped for s in stories.written] == [
        "empty",
        "refusal",
        "names_emotion",
        "too_short",
        "",
        "near_duplicate",
    ]


@pytest.mark.parametrize(
    ("rows", "settings", "error", "words"),
    [
        (
            [row()],
            {"columns": {"emotion": "feeling", "text": "text"}},
            UnknownNameError,
            "unknown column of f.jsonl 'feeling'",
        ),
        ([row()], {"columns": {"text": "text"}}, DataError, "needed are emotion and text"),
        ([row()], {"columns": {**SAME, "author": "x"}}, DataError, "maps author, emotion"),
        ([row()], {"unknown": "ignore"}, UnknownNameError, "unknown treatment of unknown emotions 'ignore'"),
        ([row(), {**row(), "text": 7}], {}, FileFormatError, "story 2: text is 7, not text"),
        ([row(), {"emotion": "sad", "topic": "x"}], {}, FileFormatError, "story 2: text is nan"),
        ([], {}, UnknownNameError, "unknown column"),
    ],
)
def test_what_cannot_be_read(tmp_path, rows, settings, error, words):
    with pytest.raises(error, match=words):
        load(write(tmp_path / "f.jsonl", *rows), **settings)


def test_licence_source_and_place_are_needed(tmp_path):
    path = write(tmp_path / "f.jsonl", row())
    for licence, source in (("", "them"), ("MIT", " ")):
        with pytest.raises(DataError, match="both are needed"):
            load_foreign(path, SAME, licence, source)
    for place in (tmp_path / "none.jsonl", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(MissingInputError, match="no stories at"):
            load(place)
    (tmp_path / "f.json").write_text("[]")
    with pytest.raises(FileFormatError, match=r"none of .jsonl"):
        load(tmp_path / "f.json")
    (tmp_path / "f.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(FileFormatError, match="not a whole parquet"):
        load(tmp_path / "f.parquet")
    (tmp_path / "bad.jsonl").write_text(json.dumps(row()) + "\n{broken\n")
    with pytest.raises(FileFormatError, match="line 2 is not JSON"):
        load(tmp_path / "bad.jsonl")


# ---- a published corpus ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus():
    if not ORACLE.is_dir():
        pytest.skip(f"no oracle at {ORACLE}; set EMOTION_PROBES_ORACLES")
    return load_foreign(ORACLE / "stories", SAME, "MIT", SOURCE, unknown="keep")


def test_almost_all_of_it_passes_the_filters(corpus):
    assert len(corpus.written) == 3000
    assert len({s.emotion for s in corpus}) == 20
    assert len({s.topic for s in corpus}) == 30
    assert len(corpus) >= 2990
    assert len({s.sample for s in corpus.written}) == 3000


def test_its_one_emotion_outside_the_171_is_an_error_or_counted(corpus):
    with pytest.raises(UnknownNameError, match="hopeless"):
        load_foreign(ORACLE / "stories", SAME, "MIT", SOURCE)
    dropped = load_foreign(ORACLE / "stories", SAME, "MIT", SOURCE, unknown="drop")
    assert sum(s.dropped == "unknown_emotion" for s in dropped.written) == 150


@pytest.mark.parametrize("part", ["written", "kept"])
@pytest.mark.parametrize(("how", "published"), [("stratified", 0.756), ("grouped by topic", 0.766)])
def test_the_published_text_baseline(corpus, part, how, published):
    from sklearn.model_selection import GroupKFold, StratifiedKFold

    rows = getattr(corpus, part)
    texts, emotions, topics = (
        np.array([getattr(s, name) for s in rows], object) for name in ("text", "emotion", "topic")
    )
    splitter = StratifiedKFold(5, shuffle=True, random_state=0) if how == "stratified" else GroupKFold(5)
    folds = splitter.split(texts, emotions, topics if how == "grouped by topic" else None)
    accuracies = [text_accuracy(texts[a], emotions[a], texts[b], emotions[b]) for a, b in folds]
    assert np.mean(accuracies) == pytest.approx(published, abs=0.015)


def test_a_slice_goes_through_a_model_and_its_licence_into_the_card(corpus, tmp_path):
    model = small_model()
    model.network.config.max_position_embeddings = (
        2048  # its tokenizer, made for other words, needs several tokens a word
    )
    part = Stories([replace(s) for s in corpus[::50]], corpus.model)
    assert len(part) == 60
    activations = capture(model, part, "all", 50).assign_attrs(corpus.origin)
    assert activations.sizes["sample"] == 60
    assert np.isfinite(activations["mean"]).all()
    path = EmotionProbes("difference_of_means").fit(activations).save(tmp_path / "probes.safetensors")
    assert load_probes(path).about_["story_licence"] == "MIT"
    assert load_probes(path).about_["story_source"] == SOURCE
