"""Directions that mean nothing: at chance by definition, along what stories scatter along, and placebos that read themselves."""

import numpy as np
import pytest

from probes.errors import DataError
from probes.moments import moments_of
from probes.null_directions import placebo_labels, placebo_reads, random_reads, shuffled_reads, square_root
from probes.unseen import ALL, UNSEEN_COLUMNS
from test_unseen import NAMES, TOPICS, WIDTH, bank


def all_of(table, reader):
    return table[(table["reader"] == reader) & (table["emotion"] == ALL)].iloc[0]


def test_random_directions_are_at_chance_whatever_they_scatter_along(synthetic_activations):
    there, _ = bank(synthetic_activations, length=2.0, per_cell=6)
    table = random_reads(there, n_random=2000)
    assert tuple(table) == UNSEEN_COLUMNS
    assert set(table["n"]) == {2000}
    for reader in ("isotropic", "covariance_matched"):
        rows = table[table["reader"] == reader]
        np.testing.assert_allclose(rows["auc"], 0.5, atol=0.04)
        assert ((rows["low"] < 0.5) & (rows["high"] > 0.5)).all()


def test_where_stories_scatter_along_emotion_matched_directions_do_as_well_as_probes(synthetic_activations):
    """The reason for the control: with one big axis, any direction that stories scatter along reads it one way or the other."""
    there, _ = bank(synthetic_activations, length=60.0, per_cell=4)
    table = random_reads(there, n_random=500)
    assert all_of(table, "covariance_matched")["high"] > 0.98
    thin, _ = bank(synthetic_activations, length=0.5, per_cell=4)
    weak = random_reads(thin, n_random=500)
    assert all_of(weak, "isotropic")["high"] < 0.9


def test_matched_directions_have_the_covariance_of_the_stories(synthetic_activations):
    there, _ = bank(synthetic_activations, per_cell=6)
    covariance = there.moments.covariance(0, [0])
    root = square_root(covariance)
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-6 * np.abs(covariance).max())


def test_shuffled_labels_are_at_chance_where_topics_have_unequal_shares(synthetic_activations):
    """Dealt out within each topic, labels would follow the topics' shares: AUC .55 and accuracy .12 of chance .08."""
    there, _ = bank(synthetic_activations, length=5.0, per_cell=6)
    rng = np.random.default_rng(0)
    held_out = there.held_out
    kept = [i for i, (e, t) in enumerate(zip(held_out["emotion"].values, held_out["topic"].values, strict=True))
            if rng.random() < (0.9 if NAMES.index(e) == TOPICS.index(t) % 3 else 0.4)]  # fmt: skip
    uneven = there._replace(held_out=held_out.isel(sample=kept))
    row = shuffled_reads(uneven, "difference_of_means", draws=300).iloc[0]
    assert row["auc"] == pytest.approx(0.5, abs=0.02)
    assert row["accuracy"] == pytest.approx(1 / 3, abs=0.04)
    assert row["chance"] == pytest.approx(1 / 3)


def test_placebos_read_their_own_label_and_not_emotion(synthetic_activations):
    there, _ = bank(synthetic_activations, length=2.0, per_cell=8)
    reads, own = placebo_reads(there, "difference_of_means")
    itself = own.set_index("placebo")
    assert itself.loc["topic", "accuracy"] > 0.95, "topics add an offset of their own"
    assert itself.loc["topic", "low"] > itself.loc["topic", "chance"] == 0.25
    assert all_of(reads, "placebo_topic")["auc"] == pytest.approx(0.5, abs=0.02), "each both ways"
    assert itself.loc["person", "note"].startswith("not measurable: third 96")
    assert np.isnan(itself.loc["tense", "accuracy"])
    assert set(reads["reader"]) == {"placebo_topic", "placebo_length"}


def test_labels_of_placebos_come_from_the_text(synthetic_activations):
    text = [
        "I was there.",
        'She said "I am here" and was gone.',
        "He is here and has a cup and sits.",
        "My cat was old.",
    ]
    stories = synthetic_activations(np.zeros((4, 1, WIDTH)), text=text, topic=list("abcd"))
    labels = placebo_labels(stories)
    assert labels["person"].tolist() == ["first", "third", "third", "first"]
    assert labels["tense"].tolist() == ["past", "past", "present", "past"]
    assert labels["length"].tolist() == ["short", "long", "long", "short"]
    assert labels["topic"].tolist() == list("abcd")


def test_a_covariance_that_was_not_kept(synthetic_activations):
    there, _ = bank(synthetic_activations)
    stories = there.held_out
    bare = there._replace(moments=moments_of(stories, there.moments.folds, second_moment=False))
    with pytest.raises(DataError, match="was not kept"):
        random_reads(bare, n_random=10)


def test_a_covariance_without_full_rank_has_a_root():
    """Rounding to single precision makes some eigenvalues negative."""
    few = np.random.default_rng(0).standard_normal((8, 40)) * np.geomspace(1, 1e3, 40)
    covariance = np.cov(few.T).astype(np.float32).astype(np.float64)
    assert np.linalg.eigvalsh(covariance).min() < 0
    root = square_root(covariance)
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-6 * np.trace(covariance))
