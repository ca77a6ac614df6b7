"""Stories: every reason to drop one, and what is kept of them in files. No model: what it would write is given."""

import json
import stat
from collections import Counter

import pytest

from probes import stories as module
from probes.emotions import DOZEN, NEUTRAL, clusters
from probes.errors import DataError, FileFormatError, UnknownNameError
from probes.stories import (
    NearDuplicates,
    Stories,
    Story,
    draw_stories,
    filter_stories,
    load_stories,
    names_emotion,
    topics,
    write_neutral,
    write_stories,
)

PLAIN = "The kettle sang while Nora wiped the long table and looked out at the wet garden path again"


def story(text, emotion="calm", dropped="", index=0):
    return Story(f"{emotion}/the sea/{index}", emotion, "the sea", text, dropped)


def reasons(*given, min_words=5):
    return [one.dropped for one in filter_stories(Stories(given, "m"), min_words).written]


# ---- the emotion's name ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("emotion", clusters())
def test_the_word_is_found_in_any_form_of_print(emotion):
    broken = emotion.replace(" ", "\n").replace("-", "-\n")
    for shown in (
        emotion,
        emotion.upper(),
        emotion.title(),
        f"“{emotion}”",
        f"{emotion}.",
        f"_not_ {emotion},",
        broken,
    ):
        assert names_emotion(f"She felt {shown} all day", emotion), shown
    assert not names_emotion(f"x{emotion}", emotion)
    assert not names_emotion(PLAIN, emotion)


FORMS = dict(
    line.split(": ")
    for line in """\
sad: sadly sadness saddened saddening sadder saddest
guilty: guilt guiltily guiltier guiltless
calm: calmly calmed calming calmness
proud: proudly pride prouder
angry: angrily anger angered angrier
loving: love loved loves lovingly
happy: happily happiness happier happiest
desperate: desperately desperation despair
nervous: nervously nervousness nerves
surprised: surprise surprising surprisingly
inspired: inspire inspiration inspiring
mad: madly madness maddening
anxious: anxiously anxiety
jealous: jealousy jealously
furious: furiously fury
envious: envy envied enviously
hateful: hate hated hating hatred
hopeful: hope hoped hoping hopefully
joyful: joy joyfully
tense: tension tensely tensed
content: contentment contented contentedly
lonely: loneliness lonelier
lazy: lazily laziness
serene: serenity serenely
amazed: amazing amazement amazingly
embarrassed: embarrassment embarrassingly
indifferent: indifference indifferently
patient: patience patiently
defiant: defiance defiantly defied
grateful: gratefully gratitude
suspicious: suspicion suspiciously
skeptical: skepticism sceptical
sensitive: sensitivity
terrified: terror terrifying
worried: worry worries worrying worriedly
weary: weariness wearily
upset: upsetting
panicked: panic panicky
paranoid: paranoia
worn out: worn-out
grief-stricken: grief grieving
self-confident: self-confidence
ashamed: shame shameful
scared: scary scare
enthusiastic: enthusiasm enthusiastically
satisfied: satisfaction
relieved: relief
horrified: horror horrifying""".splitlines()
)


@pytest.mark.parametrize("emotion", FORMS)
def test_forms_of_the_word_are_found(emotion):
    for form in FORMS[emotion].split():
        assert names_emotion(f"It came from {form.capitalize()}, they said", emotion), form


OTHER_WORDS = dict(
    line.split(": ")
    for line in """\
mad: made madam madrigal
sad: sadist saddle
tense: tens tent
scared: scar scars scarf
hope: hop hops hopper
hateful: hat hats
weary: wear wearing wears
calm: clam
tired: tire tires
bored: bore bores board
content: contents continent contest
grateful: grate grated grater
serene: serenade siren
pleased: please
patient: patients
optimistic: optimal optimise
vigilant: vigil vigilante
playful: play playing
thankful: thanks
terrified: terrific terrier territory
sleepy: sleep
guilty: gilt quilt
proud: prow
angry: angle
loving: glove clover
afraid: raid frail
miserable: miser
worn out: worn sworn outer
alarmed: alarm
kind: kinds kindle kindergarten
resigned: design
worried: word
happy: happen mishap perhaps
hurt: hurdle hurl""".splitlines()
)


@pytest.mark.parametrize("emotion", OTHER_WORDS)
def test_words_that_look_alike_are_left(emotion):
    for word in OTHER_WORDS[emotion].split():
        assert not names_emotion(f"It was the {word} in there", emotion), word


def test_plain_topics_name_no_emotion_of_the_dozen():
    assert len(topics()) == len(set(topics())) == 100
    assert [(topic, e) for topic in topics() for e in DOZEN if names_emotion(topic, e)] == []


def test_unknown_emotion():
    with pytest.raises(UnknownNameError, match="'guilty'"):
        names_emotion(PLAIN, "gilty")


# ---- filters ---------------------------------------------------------------------------------------------------------


def test_reasons():
    assert reasons(story(PLAIN)) == [""]
    assert reasons(story(" \n")) == ["empty"]
    assert reasons(story("I'm sorry, but I can't write a story about that topic today.")) == ["refusal"]
    assert reasons(story(PLAIN + ", calmly.")) == ["names_emotion"]
    assert reasons(story(PLAIN, emotion="sad"), story(PLAIN + " sadly", emotion="calm")) == ["", ""]
    assert reasons(story("Nora wiped the table."), min_words=5) == ["too_short"]
    assert reasons(story("Nora wiped the long table."), min_words=5) == [""]
    assert reasons(story(PLAIN, dropped="cut")) == ["cut"]
    assert reasons(story(PLAIN), story(PLAIN)) == ["", "near_duplicate"]


def test_the_first_reason_stands():
    assert reasons(story("", dropped="cut")) == ["cut"]
    assert reasons(story("I can't write this calmly.")) == ["refusal"]
    assert reasons(story("Calm."), story("So short.")) == ["names_emotion", "too_short"]


def test_neutral_dialogues_may_say_neutral():
    assert reasons(story("Human: Is it neutral ground? Assistant: It is.", emotion=NEUTRAL)) == [""]


def test_near_duplicates():
    words = [f"w{i}" for i in range(24)]  # 20 runs of five
    half = " ".join(words[:14] + [f"x{i}" for i in range(10)])  # 10 of 20 runs
    less = " ".join(words[:13] + [f"y{i}" for i in range(11)])  # 9 of 20
    seen = NearDuplicates()
    assert not seen.repeats(" ".join(words))
    assert seen.repeats(" ".join(words).upper().replace(" ", ", ") + "!")
    assert seen.repeats(half)
    assert not seen.repeats(less)
    assert not seen.repeats("x0 x1 x2 x3 x4 x5 x6")  # what repeats is not remembered
    assert seen.repeats("y1 y2 y3 y4 y5 y6 y7")
    assert not seen.repeats("one two")
    assert seen.repeats("One, two.")


def test_shared_runs_of_several_texts_do_not_add_up():
    words = [f"w{i}" for i in range(24)]
    seen = NearDuplicates()
    seen.repeats(" ".join([*words[:12], "a", "b", "c", "d"]))  # 8 of the 20 runs
    seen.repeats(" ".join(["e", "f", "g", "h", *words[12:]]))  # another 8
    assert not seen.repeats(" ".join(words))


def test_the_same_text_may_stand_for_two_emotions():
    assert reasons(story(PLAIN), story(PLAIN, "sad"), story(PLAIN, "sad")) == ["", "", "near_duplicate"]


# ---- writing ---------------------------------------------------------------------------------------------------------


def test_neutral_speakers_are_renamed(monkeypatch):
    text = "Person: Where does the AI: line go?\nAI: Here, Person: by person.\nPersonal: no.\nAI: Yes, at the very end."
    monkeypatch.setattr(module, "_write", lambda *_: Stories([story(text, NEUTRAL)], "m"))
    (written,) = write_neutral(None, ["the sea"], 1, None)  # type: ignore[arg-type]
    assert written.text == (
        "Human: Where does the AI: line go?\nAssistant: Here, Person: by person.\nPersonal: no.\nAssistant: Yes, at the very end."
    )


def test_every_cell_is_asked_for(monkeypatch):
    asked = []

    def write(_model, cells, requests, *_):
        asked.extend(zip(cells, requests, strict=True))
        return Stories([story(f"{PLAIN} {i}", emotion=cell[0]) for i, cell in enumerate(cells)], "m")

    monkeypatch.setattr(module, "_write", write)
    write_stories(None, ["calm", "worn out"], ["the sea", "a kite"], 3, None)  # type: ignore[arg-type]
    assert [cell for cell, _ in asked] == [
        (emotion, topic, k) for emotion in ("calm", "worn out") for topic in ("the sea", "a kite") for k in range(3)
    ]
    assert len({request for _, request in asked}) == 12
    assert all(cell[0] in request and cell[1] in request for cell, request in asked)


@pytest.mark.parametrize("design", [([], ["a"], 1), (["calm"], [], 1), (["calm"], ["a"], 0)])
def test_empty_design(design):
    with pytest.raises(DataError, match="nothing to write"):
        write_stories(None, *design, None)  # type: ignore[arg-type]


def test_unknown_emotion_is_refused_before_anything_is_written():
    with pytest.raises(UnknownNameError, match="'desperate'"):
        write_stories(None, ["calm", "desparate"], ["a"], 1, None)  # type: ignore[arg-type]


# ---- the collection --------------------------------------------------------------------------------------------------


def mixed():
    given = [
        story(PLAIN, "calm"), story(PLAIN, "calm", index=1), story("Short.", "sad"), story("", "sad", "cut", 1),
        story(f"日本 🙂 {PLAIN}", "sad", index=2), story("", "worn out"),
    ]  # fmt: skip
    return filter_stories(Stories(given, "toy/original"), 5)


def test_only_kept_stories_are_seen():
    given = mixed()
    assert (len(given), len(given.written)) == (2, 6)
    assert [one.emotion for one in given] == ["calm", "sad"]
    assert given[-1].text.startswith("日本")
    assert "kept 2 of 6 by toy/original" in repr(given)
    assert "near_duplicate 1" in repr(given)


def test_report_counts_sum():
    report = mixed().report().set_index("emotion")
    assert report["written"].to_dict() == {"calm": 2, "sad": 3, "worn out": 1}
    assert (report.drop(columns="written").sum(axis=1) == report["written"]).all()
    outcomes = Counter(one.dropped or "kept" for one in mixed().written)
    assert report.drop(columns="written").sum().to_dict() == outcomes
    assert report.loc["worn out", "kept"] == 0


def test_save_and_load(tmp_path):
    path = mixed().save(tmp_path / "stories.jsonl")
    back = load_stories(path)
    assert back.written == mixed().written
    assert back.model == "toy/original"
    assert back.save(tmp_path / "again.jsonl").read_bytes() == path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_files_that_are_no_stories(tmp_path):
    path = tmp_path / "stories.jsonl"
    path.write_text("")
    with pytest.raises(DataError, match=r"stories\.jsonl holds no story"):
        load_stories(path)
    path.write_text('{"text": "a"}\n')
    with pytest.raises(FileFormatError, match=r"stories\.jsonl, line 1 lacks dropped, emotion, model"):
        load_stories(path)


def test_a_field_of_the_researchers_own_does_no_harm(tmp_path):
    path = mixed().save(tmp_path / "stories.jsonl")
    rows = [json.loads(line) | {"note": "mine"} for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load_stories(path).written == mixed().written


def test_stories_drawn_for_scoring():
    written = [
        Story(f"{e}/{t}/{k}", e, t, "x", "cut" if k == 9 else "") for e in "ab" for t in "rst" for k in range(10)
    ]
    stories = Stories(written, "m")
    drawn = draw_stories(stories, {"s", "t"}, per_emotion=5, seed=0)
    assert [story.emotion for story in drawn] == ["a"] * 5 + ["b"] * 5
    assert {story.topic for story in drawn} == {"s", "t"}
    assert len({story.sample for story in drawn}) == 10
    assert not {story.sample for story in drawn if story.sample.endswith("/9")}
    assert draw_stories(stories, {"s", "t"}, 5, seed=0).kept == drawn.kept
    assert draw_stories(stories, {"s", "t"}, 5, seed=1).kept != drawn.kept
    assert len(draw_stories(stories, {"s", "t"}, 99, seed=0)) == 2 * 2 * 9
