"""The refusal direction on prompts moved along a known one, and probes with it taken out."""

import numpy as np
import pytest

from probes.direction_free_figures import read_cosines, refusal_figure
from probes.directions import DOT, EmotionProbes
from probes.errors import ConventionError, DataError
from probes.page import WATERMARK, nine_digits
from probes.refusal_direction import cosine_table, refusal_direction, without

EMOTIONS, FEATURES = ("calm", "guilty", "happy"), 12
ALONG = np.eye(FEATURES)[1]
"""The axis of the second emotion."""


@pytest.fixture
def probes(synthetic_activations):
    emotions = np.repeat(EMOTIONS, 6)
    mean = np.repeat(5 * np.eye(3, FEATURES), 6, axis=0)[:, None]
    return EmotionProbes("difference_of_means").fit(synthetic_activations(mean, emotion=emotions))


@pytest.fixture
def prompts(synthetic_activations):
    """Sixteen benign prompts that are answered, sixteen harmful ones, moved by 4, of which `refused` are refused."""

    def make(refused=14, about=None):
        rng, arms = np.random.default_rng(0), np.repeat(["benign", "harmful"], 16)
        mean = rng.standard_normal((32, 1, FEATURES)) * 0.1 + 4 * (arms == "harmful")[:, None, None] * ALONG
        missing = np.array([""] * 16 + ["refused"] * refused + [""] * (16 - refused))
        made = synthetic_activations(mean, about=about)
        return made.assign_coords(arm=("sample", arms), missing=("sample", missing))

    return make


def test_the_direction_is_the_one_that_was_planted(prompts):
    direction = refusal_direction(prompts())
    assert float((direction.sel(layer=0) * ALONG).sum()) > 0.999
    assert (direction.attrs["n_refused"], direction.attrs["n_answered"]) == (14, 16)


def test_a_checkpoint_that_refuses_nothing_has_none(prompts):
    with pytest.raises(DataError, match="3 harmful prompts are refused and 16 benign ones answered; 10 of each"):
        refusal_direction(prompts(refused=3))


def test_cosines_are_those_of_the_vectors_and_stand_beside_random_ones(probes, prompts):
    direction, plain = refusal_direction(prompts()), np.random.default_rng(1).standard_normal((200, 1, FEATURES))
    table = cosine_table(probes, direction, plain).set_index("emotion")
    for emotion in EMOTIONS:
        expected = probes.directions_.sel(emotion=emotion, layer=0).values @ direction.values[0]
        assert table["cosine"][emotion] == pytest.approx(expected)
    assert table["cosine"]["guilty"] > 0.7
    assert table["null"].iloc[0] == pytest.approx(1.96 / np.sqrt(FEATURES), abs=0.06)  # isotropic here


def test_probes_without_it_are_orthogonal_to_it_and_read_nothing_along_it(probes, prompts, synthetic_activations):
    direction = refusal_direction(prompts())
    again = without(probes, direction)
    values = again.directions_.sel(layer=0).values
    np.testing.assert_allclose(values @ direction.values[0], 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, rtol=1e-6)
    moved = np.stack([np.zeros((1, FEATURES)), 3 * direction.values])
    read = again.transform(synthetic_activations(moved), DOT).values
    np.testing.assert_allclose(read[1], read[0], atol=1e-5)
    assert abs(float(probes.directions_.sel(emotion="guilty", layer=0) @ direction.sel(layer=0))) > 0.7  # as they were


def test_a_direction_of_another_model_or_one_that_is_the_probe(probes, prompts):
    with pytest.raises(ConventionError, match="of different base models"):
        without(probes, refusal_direction(prompts(about={"base_sha": "other"})))
    itself = refusal_direction(prompts())
    itself.values[0] = probes.directions_.sel(emotion="guilty", layer=0).values
    with pytest.raises(DataError, match="nothing of it is left"):
        without(probes, itself)


def test_the_figure_is_stamped_and_comes_back_from_its_csv(probes, prompts, tmp_path):
    plain = np.random.default_rng(1).standard_normal((60, 1, FEATURES))
    table = nine_digits(cosine_table(probes, refusal_direction(prompts(about={"evidence": "toy"})), plain))
    table.to_csv(tmp_path / "refusal.csv", index=False)
    figure, again = refusal_figure(table), refusal_figure(read_cosines(tmp_path / "refusal.csv"))
    assert figure.to_json() == again.to_json()
    assert any(WATERMARK in str(annotation.text) for annotation in figure.layout.annotations)
