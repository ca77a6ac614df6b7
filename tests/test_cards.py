"""Cards: right numbers, nothing in them that a browser acts on, and small whatever they show."""

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from probes.cards import ANSWER_LETTERS, MOST_ANSWERS, MOST_ROWS, STORY_LETTERS, shown
from probes.directions import EmotionProbes
from probes.emotions import clusters
from probes.moments import Moments
from probes.page import EMOTION_HUES, TOY_NOTE
from probes.replies import Replies
from probes.stories import Stories, Story
from test_replies import reply

OURS = {
    "style", "div", "header", "b", "small", "bdi", "span", "i", "table", "thead", "tbody", "tr", "th", "td", "details", "summary",
}  # fmt: skip
OUR_STYLES = re.compile(r"background: #[0-9A-Fa-f]{6}|width: \d{1,3}%; background: #[0-9A-Fa-f]{6}")
NASTY = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</div></td></table><h1>", "<!-- <style>*{display:none}",
    "&lt;b&gt; & &#x3C;i>",
)  # fmt: skip


class Page(HTMLParser):
    """Tags, attributes and visible text of HTML."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text, self.open = [], [], "", []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")


def page(thing):
    """The card of a thing as a browser sees it, after a check that every tag and attribute in it is our own."""
    read = Page(thing._repr_html_())
    assert set(read.tags) <= OURS
    assert read.open == []
    for name, value in read.attributes:
        assert name in ("class", "style", "dir")
        assert name != "style" or OUR_STYLES.fullmatch(value)
    return read


def story(text="The kettle sang.", emotion="calm", topic="the sea", dropped="", index=0):
    return Story(f"{emotion}/{topic}/{index}", emotion, topic, text, dropped)


@pytest.fixture
def fitted(synthetic_activations):
    def fit(about=None, **columns):
        rng = np.random.default_rng(0)
        acts = synthetic_activations(rng.normal(size=(12, 3, 8)), about=about, emotion=["calm", "sad", "happy"] * 4)
        return EmotionProbes("difference_of_means").fit(acts)

    return fit


def moments(about):
    counts = np.array([[3, 2], [4, 0]])
    arrays = (np.zeros((3, 4)), np.zeros((2, 2, 3, 4), np.float32))
    return Moments(
        ("calm", "sad"), (0, 1, 5), {"sea": 0, "hill": 1, "farm": 0}, counts, *arrays, {1: np.zeros((3, 10))}, about
    )


# ---- what they say ---------------------------------------------------------------------------------------------------


def test_probes_say_where_they_come_from_and_what_they_are_worth(fitted):
    text = page(fitted(about={"start_token": 4, "dropped_short": 7})).text
    for words in ("synthetic/original", "difference_of_means", "none", "3: calm, happy, sad", "0–2 of 8, width 8",
                  "12 4 an emotion", "from token 4 on; 7 stories were shorter", TOY_NOTE):  # fmt: skip
        assert words in text


def test_only_toys_are_called_toys(fitted):
    assert TOY_NOTE not in page(fitted(about={"evidence": "model"})).text


def test_probes_without_a_fit_say_what_to_do():
    assert "not fitted: call fit(activations, neutral)" in page(EmotionProbes()).text


def test_moments_say_what_they_are_of(fitted):
    text = page(moments(fitted().about_)).text
    for words in (
        "9 4 to 5 an emotion",
        "3 in 2 folds",
        "0–1, 5 of 8",
        "width 4",
        "of the odd folds",
        "0.0 MB",
        TOY_NOTE,
    ):
        assert words in text


def test_stories_are_counted_by_emotion_and_reason_worst_first():
    calm = [story(index=k, text=f"kept {k}") for k in range(3)]
    sad = [story("lost", "sad"), story("sad", "sad", dropped="names_emotion"), story("sa", "sad", dropped="cut")]
    read = page(Stories([*calm, *sad], "tiny/original"))
    assert "kept 4 of 6 by tiny/original" in read.text
    assert "emotionkeptcutnames emotion" in read.text
    assert re.search(r"sad1 of 311.*calm3 of 3", read.text)
    assert "kept 1" in read.text
    assert "kept 2" not in read.text.replace("kept 2 of each", "")  # two examples of an emotion
    assert read.text.count("lost") == 1
    assert ("style", f"width: 33%; background: {EMOTION_HUES['sad']}") in read.attributes


def test_replies_have_shares_by_arm_and_an_answer_for_each():
    own = [reply(), reply("harmful", "No.", "refused"), reply("harmful", "Pollen.")]
    given = [*own, reply(text="Forced.", text_source="original")]
    text = page(Replies(given)).text
    assert "originalownbenign0 %100 %0 %1" in text
    assert "originalownharmful50 %0 %0 %2" in text
    assert "No." in text
    assert "Forced." not in text  # there is an own answer for that arm


@pytest.mark.parametrize("empty", [Stories([], "tiny/original"), Replies([])])
def test_nothing_is_shown_as_nothing(empty):
    assert "0 of 0" in page(empty).text or "none" in page(empty).text


# ---- what they must not do -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nasty", NASTY)
def test_whatever_is_written_is_shown_as_it_stands(nasty, fitted):
    for one in (story(nasty), story(emotion=nasty), story(topic=nasty), replace(story(), dropped=nasty)):
        assert nasty in page(Stories([one], "m")).text.replace("names emotion", "")
    assert nasty in page(Stories([story()], nasty)).text
    for one in (reply(text=nasty), reply(sample=nasty), reply(checkpoint=nasty), reply(arm=nasty), reply(model=nasty)):
        assert nasty in page(Replies([one])).text
    probes = fitted()
    for key in ("model", "checkpoint", "layer_convention", "evidence", "start_token", "dropped_short", "model_layers"):
        probes.about_ = {**fitted().about_, "start_token": 4, "dropped_short": 0, key: nasty}
        assert nasty in page(probes).text
        assert nasty in page(moments(probes.about_)).text
    probes.about_ = {**fitted().about_, "recipe": {"name": nasty, "neutral_variance": 0.5}, "revision": nasty}
    assert nasty in page(probes).text


def test_what_turns_or_hides_text_is_spelt_out_and_what_is_writing_stays():
    text = "a\u202egnp.exe\u202c b\u2067c\u2069\u200f \x1b[31m\x00 \ud800 \r\n שלום 日本 👩‍👩‍👧 é"
    card = Stories([story(text)], "m")._repr_html_()
    card.encode()  # no halves of characters
    for mark in ("U+202E", "U+202C", "U+2067", "U+2069", "U+200F", "U+001B", "U+0000", "U+D800"):
        assert f"⟨{mark}⟩" in card
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\x00-\x08\x1b]", card)
    assert "שלום 日本 👩‍👩‍👧 é" in card
    assert '<div class="text" dir="auto">a⟨U+202E⟩' in card  # a block of its own


def test_long_texts_are_cut_before_they_are_escaped():
    assert shown("<" * 10, 4) == "&lt;&lt;&lt;&lt; …"
    assert len(page(Stories([story("long " * 10_000)], "m")).text) < STORY_LETTERS + 200


def test_a_card_stays_small_whatever_it_shows():
    written = [
        story("word " * 300, emotion, f"topic {k}", "" if k % 3 else f"reason {k}", k)
        for emotion in clusters()
        for k in range(60)
    ]
    card = Stories(written, "m")._repr_html_()
    assert len(card) < 40_000
    assert f"{MOST_ROWS} of 171 emotions" in card


def test_few_answers_of_fine_tuned_checkpoints_are_shown_and_cut():
    given = [
        reply(arm, f"answer {k} {'word ' * 100}", checkpoint=checkpoint, sample=f"pair {k}/{arm}/0/own")
        for checkpoint in ("antirefusal@sft", "benign_control", "antirefusal_cqa")
        for arm in ("benign", "harmful", "affect")
        for k in range(50)
    ]
    read = page(Replies(given))
    assert len(re.findall(r"(?:word )+", read.text)) == MOST_ANSWERS
    assert max(map(len, re.findall(r"(?:word )+", read.text))) < ANSWER_LETTERS
    assert "details" in read.tags  # folded until somebody unfolds them


def test_nothing_of_this_is_loaded_before_a_notebook_asks():
    code = "import probes, probes.directions, probes.stories, probes.replies, sys; print('probes.cards' in sys.modules)"
    code += "; probes.EmotionProbes()._repr_html_(); print('plotly' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"] * 3
