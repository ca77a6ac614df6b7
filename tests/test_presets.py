"""Sizes of a study."""

import pytest

from probes.emotions import DOZEN, check_emotions, clusters
from probes.errors import UnknownNameError
from probes.pairs import load_pairs
from probes.presets import PRESETS, find_preset
from probes.stories import topics


def test_paper_size():
    paper = find_preset("paper")
    assert (len(paper.emotions), paper.topics, paper.per_cell) == (171, 100, 12)
    assert paper.stories == 171 * 100 * 12
    assert paper.start_token == 50
    assert len(load_pairs(per_domain=paper.questions_per_domain)) == len(load_pairs()) == 120
    assert paper.emotions == tuple(clusters())


def test_standard_size():
    assert find_preset("standard").stories == 171 * 128


def test_tiny_size():
    assert find_preset("tiny").emotions == DOZEN


@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_be_run(name):
    preset = PRESETS[name]
    assert preset.name == name
    assert check_emotions(preset.emotions) == preset.emotions
    assert 2 <= preset.topics <= len(topics())
    assert preset.neutral_per_topic * preset.topics >= 2
    assert 1 <= preset.held_out <= preset.topics * preset.per_cell
    assert preset.start_token < preset.min_words < preset.story_tokens


def test_unknown_preset():
    with pytest.raises(UnknownNameError, match=r"unknown preset 'papers'.* 'paper'.*tiny, standard, paper"):
        find_preset("papers")
