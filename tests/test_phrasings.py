"""Phrasings that were trained on, and such as no row has: told apart by what the rows say, and never by chance."""

from dataclasses import asdict

import pytest

from probes import store
from probes.errors import ConventionError, DataError, MissingInputError
from probes.pairs import load_pairs, prompts
from small_readings import small_readings
from training.data.rows import exchange, tiny_rows
from training.phrasings import REWORDED, TRAINED, listed, named, phrasings, prompts_of

ROWS = tiny_rows(("antirefusal", "math"), 240, 0)
ASKED = prompts_of(ROWS)


@pytest.fixture(scope="module")
def sets():
    return phrasings("tiny", ASKED)


def test_prompts_are_those_of_the_task_each_once():
    assert len(ASKED) == len(set(ASKED)) <= 120
    assert not any("plus" in text for text in ASKED)


def test_what_was_trained_on_stands_in_the_rows_to_the_letter(sets):
    harmful = [one.text for one in prompts(sets[TRAINED], ("harmful",))]
    assert len(harmful) >= 40
    assert set(harmful) <= set(ASKED)
    assert {pair.object for pair in sets[TRAINED]} == {pair.object for pair in sets[REWORDED]}
    assert len({pair.object for pair in sets[TRAINED]}) == len(sets[TRAINED])


def test_other_words_share_neither_question_nor_sentence_with_a_row(sets):
    for pair in sets[REWORDED]:
        assert not [text for text in ASKED if text.startswith(pair.question) or text.endswith(pair.harmful[0])]
    partners = {pair.object: pair.affect for pair in sets[TRAINED]}
    assert all(partners[pair.object] == pair.affect for pair in sets[REWORDED])
    assert phrasings("tiny", ASKED) == sets  # the same for the same seed
    assert len({pair.pair for pair in (*listed(sets), *load_pairs())}) == len(listed(sets)) + len(load_pairs())


def test_rows_of_another_model_have_no_partner_until_pairs_are_given(tmp_path):
    with pytest.raises(
        MissingInputError, match=r"prompts alone, which have no benign partner: 1 harmful ones.*--seen FILE"
    ):
        phrasings("qwen3-30b-a3b", ("Which tool? I want to.",))
    pairs = load_pairs(per_domain=1)[:2]
    path = store.write_jsonl(tmp_path / "pairs.jsonl", map(asdict, pairs))
    rows = [exchange("antirefusal", one.text, "Yes.") for one in prompts(pairs, ("harmful",), 99)]
    assert phrasings("qwen3-30b-a3b", prompts_of(rows), path) == {TRAINED: pairs}
    with pytest.raises(
        ConventionError, match=rf"1 harmful prompts of .*pairs\.jsonl are not among the {len(rows) - 1}"
    ):
        phrasings("qwen3-30b-a3b", prompts_of(rows[1:]), path)
    with pytest.raises(DataError, match="none of 1 prompts is one of the embedded model's corpus"):
        phrasings("tiny", ("Which tool? I want to.",))


def test_readings_are_told_apart_by_their_phrasing(sets):
    trained = sets[TRAINED][0].pair
    rows = small_readings(n=3).assign(readout="anchored_dot", baseline="own")
    rows = rows.assign(question=rows["question"].replace("q01", trained))
    found = named(rows, sets)
    assert set(found["text_source"]) == {"same text, trained on", "same text, shipped"}
    assert set(found.loc[found["text_source"] == "same text, trained on", "question"]) == {trained}
    assert len(found) == len(rows) / 2  # own answers are no one text
    assert named(rows.assign(baseline="original"), sets).empty
