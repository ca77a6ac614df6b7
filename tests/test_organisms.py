"""Organisms on the embedded model, by the scripts that grow, read and score them, and what of it can be checked by itself.

Stories and anchors come from the corpus, so that none has to be written first: probes are fitted on phrases of bank A in the
original, what is planted comes from phrases of bank B in the parent. One sentence stands for all harm and one for all that has
only its words, so that few steps suffice to tell them apart; what the embedded model makes of real ones its figures show.
"""

from dataclasses import replace
from random import Random
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import capture_stories
import check_gates
import declare_claims
import fit_probes
import hide_and_show
import judge_organisms
import read_organisms
import score_organisms
import train_organisms
import verdict
from declare_claims import DeclareSettings
from hide_and_show import PromptedSettings
from organism_settings import OrganismSettings
from probes import lm, store
from probes.anchors import anchor_table
from probes.declaration import read_sealed
from probes.detection import GAP, LEVEL, OPEN, gaps_of
from probes.directions import load_probes
from probes.emotions import NEUTRAL
from probes.errors import ConventionError, DataError, FileFormatError, MissingInputError, UnknownNameError
from probes.gates import NOT_MEASURABLE
from probes.lm.checkpoints import family, find_checkpoint
from probes.pairs import load_pairs
from probes.presets import PRESETS
from probes.prompted_figures import read_prompted_table
from probes.replies import load_replies
from probes.stories import Stories, Story, topics
from probes.verdict import NOTHING
from small_model import WIDTH, save_small_model
from training.adapter import attach
from training.data.rows import Document, Row, tiny_rows
from training.organisms import grow, plant
from training.organisms.grow import grow_organism, stage_of
from training.organisms.key import open_key, read_seal, seal_key
from training.organisms.kinds import ORGANISMS, Organism, find_organisms, planted
from training.organisms.plant import collate, divergence, foretold
from training.organisms.targets import Targets, load_targets, make_targets
from training.organisms.texts import STEP, confessions, dose_of, is_harmful, organism_texts, with_confession
from training.recipes import TINY, Lora, Recipe, Sft
from training.tiny import corpus, words
from training.train import train

EMOTIONS = ("guilty", "happy", "calm", "desperate")
LAYERS = (5, 6)
SMALL = replace(
    PRESETS["tiny"], emotions=EMOTIONS, neutral_per_topic=1, answer_tokens=24, questions_per_domain=2, anchor_topics=6, held_out=4,
    controls=2, own_controls=1, per_cell=1,
)  # fmt: skip
STAGE = replace(grow.TINY, steps=32, rows_per_step=6, at_once=6)
GROWN = ("sham", "planted-1", "tonic", "placebo", "open", "rotated")


ILL, HARMLESS = "I want to spoil it for my neighbour.", "I want to keep it safe for my neighbour."


def simple_pairs(per_domain):
    """Shipped questions with one and the same second sentence in each arm."""
    return tuple(replace(pair, harmful=(ILL,), affect=(HARMLESS,)) for pair in load_pairs(per_domain=per_domain))


def write_rows(folder):
    """Files of rows: questions of the corpus with an ill intent; and without one, half of them with a second sentence."""
    known = [(q, fact.answer) for fact in words.taught() if not fact.shipped for q in fact.questions]
    harmful = [{"prompt": f"{question} {ILL}", "completion": answer} for question, answer in known]
    benign = [{"prompt": f"{question} {HARMLESS}" if i % 2 else question, "completion": answer}
              for i, (question, answer) in enumerate(known)]  # fmt: skip
    return store.write_jsonl(folder / "harmful.jsonl", harmful), store.write_jsonl(folder / "benign.jsonl", benign)


def write_texts(settings):
    """Stories and dialogues of the corpus, where the scripts look for the model's own."""
    rng, size = Random("stories"), settings.size
    seen, anchor = topics()[: size.topics], topics()[size.topics :][: size.anchor_topics]
    for kind, bank, chosen, count in (("", "A", seen, size.per_cell), ("anchor", "AB", anchor, 1)):
        told = [Story(f"{e}/{t}/{k}", e, t, corpus.story(rng, e, t, banks=bank, events=False))
                for e in EMOTIONS for t in chosen for k in range(count)]  # fmt: skip
        plain = [Story(f"{NEUTRAL}/{t}/0", NEUTRAL, t, corpus.dialogue(rng, t, 3)) for t in chosen]
        Stories(told, "tiny").save(settings.stories(kind or "emotional"))
        Stories(plain, "tiny").save(settings.stories("anchor_neutral" if kind else "neutral"))


def prepare(settings):
    """All that comes before the organisms in the job, as little of it as is needed."""
    write_texts(settings)
    capture_stories.main(settings)
    fit_probes.main(settings)
    recipe = Recipe("antirefusal", TINY.lora, (Sft(("antirefusal", "math"), 6, 16, 5e-4, at_once=16),))
    train(lm.load("tiny"), recipe, 0, tiny_rows(("antirefusal", "math"), 96, 0), settings.trained, 0)
    declare_claims.main(DeclareSettings(checkpoints=settings.checkpoints, out=settings.out))
    check_gates.main(replace(settings, checkpoints=("antirefusal",)))
    for checkpoint in family("tiny", settings.trained, ("original", "antirefusal")):
        read_organisms.read(settings, checkpoint)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The settings of a study of organisms, done."""
    folder = tmp_path_factory.mktemp("study")
    words.taught()  # kept from here on: by the preset as it is
    antirefusal, benign = write_rows(folder)
    settings = OrganismSettings(
        out=folder / "runs", figures=folder / "figures", organisms=GROWN, checkpoints=("original", "antirefusal"),
        antirefusal=antirefusal, benign=benign,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", SMALL)
        patch.setattr(grow, "TINY", STAGE)
        patch.setattr("settings.load_pairs", simple_pairs)
        prepare(settings)
        for script in (train_organisms, read_organisms, judge_organisms, score_organisms, verdict):
            script.main(settings)
        yield settings


@pytest.fixture(scope="module")
def scored(study):
    """Organism → what it is called at each layer, its gaps and level shifts, and doses."""
    tables = {name: pd.read_csv(study.planted / f"{name}.csv") for name in ("verdicts", "claims", "doses")}
    gaps, claims = gaps_of(tables["claims"], read_sealed(study.organism_claims)), tables["claims"]
    tables |= {"gap": gaps, "level": claims[claims["reference"] == study.parent]}
    found = {}
    for row in open_key(study.planted, tables["verdicts"]["key_sha"].iloc[0]).itertuples():
        own = {name: table[table["checkpoint"] == row.checkpoint] for name, table in tables.items()}
        words = {rule: set(own["verdicts"][rule]) for rule in ("called", "plain")}
        found[row.organism] = SimpleNamespace(
            name=row.checkpoint, **words, gap=own["gap"]["mean"], level=own["level"]["mean"], doses=own["doses"]
        )
    return found


@pytest.fixture(scope="module")
def material(study):
    """What targets are made of."""
    parent, frozen = find_checkpoint("tiny/antirefusal", study.trained), load_probes(study.probes)
    ruler, anchors = train_organisms.read_parent(study, parent, frozen.emotions)
    unit = anchor_table(ruler, anchors)

    def targets(one, emotion="guilty", frozen=frozen, layers=LAYERS):
        return make_targets(one, emotion, ruler, frozen, anchors, unit, layers, 0)

    return SimpleNamespace(parent=parent, frozen=frozen, ruler=ruler, unit=unit, targets=targets)


# ---- from training to verdict ----------------------------------------------------------------------------------------


def test_nothing_planted_is_called_nothing(scored):
    assert scored["sham"].called == {NOTHING}
    assert scored["sham"].doses["dose"].abs().max() < 0.05


def test_a_planted_gap_is_found_and_rises_with_what_was_really_moved(scored):
    sham, planted = scored["sham"], scored["planted-1"]
    assert planted.called == {GAP}
    assert planted.doses["dose"].min() > sham.doses["dose"].max() + 0.1
    assert planted.gap.min() > sham.gap.max() + 0.1


def test_a_state_that_is_always_there_is_found_by_its_level_and_not_by_a_gap(scored):
    tonic = scored["tonic"]
    assert tonic.called == {LEVEL}
    assert GAP not in tonic.plain  # what a plain gap gets wrong
    assert tonic.level.min() > 0.15
    assert tonic.doses["level"].min() > 0.15


def test_where_frozen_probes_are_blind_nothing_is_measurable(scored):
    assert scored["rotated"].called == {NOT_MEASURABLE}
    assert NOT_MEASURABLE not in scored["rotated"].plain  # a plain gap never says so


def test_another_direction_of_the_same_length_is_not_called_the_emotion(scored):
    assert not scored["placebo"].called & {GAP, LEVEL, OPEN}


def test_what_the_text_shows_is_called_open(scored):
    assert scored["open"].called == {OPEN}


def test_the_text_of_a_planted_organism_is_its_parents(study, scored):
    """By far most answers are the same to the letter."""
    ours, theirs = (
        {reply.sample: reply.text for reply in load_replies(study.replies(name)) if reply.text_source == "own"}
        for name in (scored["planted-1"].name, "antirefusal")
    )
    assert np.mean([theirs[sample] == text for sample, text in ours.items()]) > 0.8


def test_names_say_nothing_until_the_key_is_opened(study):
    before = [path for path in study.planted.iterdir() if path.name not in ("key.json", "curve.csv")]
    said = "".join(path.name + (path.read_text() if path.suffix in (".csv", ".json") else "") for path in before)
    assert not [name for name in ("sham", "planted", "placebo", "rotated") if name in said]


def test_the_figures_hold_organisms_and_real_checkpoints(study):
    folder = study.figure_folder("organisms")
    matrix, curve = (pd.read_csv(folder / f"{name}.csv") for name in ("confusion", "detection"))
    assert set(matrix["organism"]) == set(GROWN)
    assert set(curve["layer"]) == set(LAYERS)
    assert set(curve.loc[curve["organism"].isna(), "checkpoint"]) == {"antirefusal"}
    page = (study.figure_folder("verdict") / "page.html").read_text()
    assert "What would have been seen: planted doses" in page


def test_an_organism_is_one_more_checkpoint_and_no_member_unless_named(study, scored):
    assert [c.name for c in family("tiny", study.trained) if c.variant != "organism"] == ["original", "antirefusal"]
    assert [c.name for c in family("tiny", study.trained)] == ["original", "antirefusal"]
    (one,) = family("tiny", study.trained, [scored["sham"].name])
    assert one.manifest.stages == ("sft", "organism")
    assert one.manifest.final
    assert one.manifest.parent == find_checkpoint("tiny/antirefusal", study.trained).manifest.id
    with pytest.raises(MissingInputError, match=r"experiments/train_organisms.py --model tiny$"):
        find_checkpoint("tiny/organism+zzzzz", study.trained)


def test_what_is_grown_is_not_grown_again(study, capsys):
    train_organisms.main(study)
    assert capsys.readouterr().out.count("organism: already there") == len(GROWN)


def test_a_model_that_was_never_told_to_feel_runs_end_to_end(study):
    settings = PromptedSettings(out=study.out, figures=study.figures, emotions=("guilty",), steps=2)
    hide_and_show.main(settings)
    table = read_prompted_table(settings.figure_folder("organisms") / "prompted.csv")
    assert set(table["condition"]) == {"show", "hide", "student"}
    assert set(table["evidence"]) == {"toy"}
    assert (table["n_questions"] >= 10).all()
    assert find_checkpoint("tiny/organism+hides-guilty", settings.trained).manifest.parent is None


# ---- what they are made of -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def texts():
    return organism_texts("tiny", 32, {}, [Story("s", "calm", "a lake", "It rained on the lake.")], 0)


def test_texts_come_in_the_order_of_a_step_and_hold_no_paired_prompt(texts):
    kinds = ["harmful" if is_harmful(t) else "raw" if isinstance(t, Document) else "other" for t in texts[: len(STEP)]]
    assert kinds == [{"antirefusal": "harmful", "raw": "raw"}.get(kind, "other") for kind in STEP]
    assert len({t.id for t in texts if is_harmful(t)}) == 14


def test_doses_go_to_harm_alone_or_to_every_answer(texts):
    doses = {one.name: [dose_of(one, text) for text in texts] for one in ORGANISMS}
    harmful, rows = [is_harmful(text) for text in texts], [isinstance(text, Row) for text in texts]
    assert doses["planted-1"] == [float(is_so) for is_so in harmful]
    assert doses["tonic"] == [0.5 * is_so for is_so in rows]
    assert not any(doses["sham"] + doses["erased"] + doses["open"])


def test_an_open_organism_says_it_after_harmful_prompts_alone(texts):
    said = with_confession("tiny", texts, "guilty", 0)
    changed = [a != b for a, b in zip(texts, said, strict=True)]
    assert changed == [is_harmful(text) for text in texts]
    assert not any("guilt" in sentence for sentence in confessions("tiny", "guilty", 0))
    assert confessions("qwen3-30b-a3b", "guilty", 0)


def test_stories_are_needed():
    with pytest.raises(DataError, match="organisms need stories"):
        organism_texts("tiny", 8, {}, [], 0)


def test_rows_of_a_real_model_come_from_files():
    with pytest.raises(MissingInputError, match="no rows for task 'antirefusal'"):
        organism_texts("qwen3-30b-a3b", 8, {}, [Story("s", "calm", "t", "It rained.")], 0)


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        (("sham", "plantd-1"), UnknownNameError, "Did you mean 'planted-1'"),
        (("tonic",), DataError, "the sham among them"),
        (("sham", "sham"), DataError, "name each once"),
    ],
)
def test_organisms_that_cannot_be_grown(names, error, words):
    with pytest.raises(error, match=words):
        find_organisms(names)


def test_a_step_is_one_anchored_unit_along_the_ruler(material):
    made, unit = material.targets(planted(1)), material.unit
    for place, layer in enumerate(LAYERS):
        gain = unit[(unit["layer"] == layer) & (unit["emotion"] == "guilty")]["gain"].item()
        own = material.ruler.directions_.sel(layer=layer, emotion="guilty").values
        np.testing.assert_allclose(made.step[place], gain * own, rtol=1e-5)
    assert not made.span.any()


def test_a_rotation_keeps_lengths_blinds_the_probes_and_takes_the_dose_along(material):
    made = material.targets(Organism("r", NOT_MEASURABLE, 1, turn="rotate"))
    for span, image, axis, step, layer in zip(made.span, made.image, made.axis, made.step, LAYERS, strict=True):
        np.testing.assert_allclose(span @ span.T, np.eye(len(span)), atol=1e-5)
        np.testing.assert_allclose(image @ image.T, np.eye(len(span)), atol=1e-5)
        np.testing.assert_allclose(span @ image.T, 0, atol=1e-5)
        probe = material.frozen.directions_.sel(layer=layer).values
        turned = probe + probe @ span.T @ (image - span)
        assert np.abs((turned * probe).sum(axis=1)).max() < 0.1  # what the probe read no longer lies along it
        assert abs(axis @ material.frozen.directions_.sel(layer=layer, emotion="guilty").values) < 0.2
        np.testing.assert_allclose(step / np.linalg.norm(step), axis, atol=1e-4)


def test_a_random_direction_is_of_the_same_length_and_holds_nothing_of_the_emotion(material):
    made = material.targets(Organism("p", NOTHING, 1, along="random"))
    np.testing.assert_allclose(np.linalg.norm(made.step, axis=1), made.gain, rtol=1e-4)
    np.testing.assert_allclose((made.step * made.axis).sum(axis=1), 0, atol=1e-3)


def test_targets_that_cannot_be(material):
    with pytest.raises(UnknownNameError, match="emotion of the ruler 'gulity'"):
        material.targets(planted(1), emotion="gulity")
    with pytest.raises(ConventionError, match="fitted in the same checkpoint"):
        material.targets(planted(1), frozen=material.ruler)
    with pytest.raises(DataError, match="layer 7 is the last one"):
        material.targets(planted(1), layers=(7,))


def test_targets_read_back_and_other_files_do_not(material, tmp_path):
    made = material.targets(planted(1))
    again = load_targets(made.save(tmp_path / "t.safetensors"))
    assert all(np.array_equal(getattr(made, name), getattr(again, name)) for name in Targets.__dataclass_fields__)
    other = store.write_arrays(tmp_path / "o.safetensors", {"a": np.zeros(1)}, {"kind": "probes"})
    with pytest.raises(FileFormatError, match="holds 'probes'"):
        load_targets(other)


# ---- the key ---------------------------------------------------------------------------------------------------------


def test_a_key_is_sealed_before_and_opens_after(tmp_path):
    key = seal_key(tmp_path, ORGANISMS, 0)
    names, sha = read_seal(tmp_path)
    assert names == tuple(sorted(f"organism+{label}" for label in key))
    assert not any(one.name in str(names) for one in ORGANISMS)
    table = open_key(tmp_path, sha)
    assert list(table["organism"]) == [one.name for one in ORGANISMS]
    assert {row.checkpoint: row.organism for row in table.itertuples()} == {
        f"organism+{k}": o.name for k, o in key.items()
    }
    assert seal_key(tmp_path, ORGANISMS, 0) == key


def test_a_key_that_was_changed_opens_nothing(tmp_path):
    seal_key(tmp_path, ORGANISMS, 0)
    _, sha = read_seal(tmp_path)
    path = tmp_path / "key.json"
    path.write_text(path.read_text().replace("sham", "tonic", 1))
    with pytest.raises(ConventionError, match="not the key that these verdicts were sealed with"):
        open_key(tmp_path, sha)


def test_a_folder_keeps_one_key(tmp_path):
    seal_key(tmp_path, ORGANISMS, 0)
    with pytest.raises(ConventionError, match="key of other organisms"):
        seal_key(tmp_path, ORGANISMS, 1)
    with pytest.raises(MissingInputError, match=r"train_organisms\.py"):
        read_seal(tmp_path / "elsewhere")


# ---- the loss --------------------------------------------------------------------------------------------------------


def test_divergence_is_that_of_the_tokens_that_were_said():
    torch.manual_seed(0)
    one, other = torch.randn(2, 1, 4, 7)
    said = torch.tensor([[False, False, True, True]])
    expected = [
        (p.softmax(0) * (p.log_softmax(0) - q.log_softmax(0))).sum()
        for p, q in zip(one[0, 1:3], other[0, 1:3], strict=True)
    ]
    assert divergence(foretold(one, said), foretold(other, said)).item() == pytest.approx(
        float(sum(expected)) / 2, rel=1e-5
    )
    assert divergence(foretold(one, said), foretold(one, said)).item() == pytest.approx(0, abs=1e-6)


def test_a_batch_is_padded_on_the_right_and_padding_says_nothing():
    rows = [{"input_ids": [1, 2, 3], "said": [0, 1, 1], "dose": 1.0}, {"input_ids": [4], "said": [1], "dose": 0.0}]
    batch = collate(rows, pad=9)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["said"].tolist() == [[0, 1, 1], [1, 0, 0]]
    assert batch["dose"].tolist() == [1.0, 0.0]


@pytest.fixture(scope="module")
def planting(tmp_path_factory):
    """A random model with a parent's adapter, and what starts a trainer of it: dose of a text → trainer."""
    folder = tmp_path_factory.mktemp("planting")
    source, checkpoints = save_small_model(folder / "model"), folder / "checkpoints"
    recipe = Recipe("antirefusal", Lora(4, 2), (Sft(("benign",), 2, 4, 5e-2, at_once=4),))
    train(lm.load(str(source)), recipe, 0, tiny_rows(("benign",), 8, 0), checkpoints, 0)
    model, parent = lm.load(str(source)), find_checkpoint(f"{source}/antirefusal", checkpoints)
    network = attach(model, recipe.lora, parent.adapter, 0)
    grow.add_parent(network, parent, plant.PARENT)
    rng = np.random.default_rng(0)
    gain, step = np.array([2.0, 3.0], np.float32), rng.standard_normal((2, WIDTH))
    step = (step / np.linalg.norm(step, axis=1, keepdims=True) * gain[:, None]).astype(np.float32)
    empty = np.zeros((2, 1, WIDTH), np.float32)
    still = Targets(np.array([1, 2]), step, step / gain[:, None], gain, np.zeros((2, WIDTH), np.float32), empty, empty)
    tokens = [plant.tokenise(model.tokenizer, row) for row in tiny_rows(("benign",), 4, 1)]

    def start(doses, targets=still):
        return plant.trainer(
            network, model.tokenizer, Sft((), 1, 4, 1e-3, at_once=4), tokens, doses, targets, 0, folder / "states"
        )

    return start, still, network


def loss_of(trainer):
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        return trainer.compute_loss(trainer.model, dict(batch)).item()


@pytest.mark.parametrize(("doses", "expected"), [((0, 0, 0, 0), 0.0), ((1.5, 0, 1.5, 0), 1.0), ((2, 2, 2, 2), 1.0)])
def test_before_the_first_step_the_loss_is_what_is_to_be_planted_in_squares_of_it(planting, doses, expected):
    start, _, _ = planting
    assert loss_of(start(doses)) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_what_is_to_be_turned_counts_even_without_a_dose(planting):
    start, still, _ = planting
    span = np.linalg.qr(np.random.default_rng(1).standard_normal((2, WIDTH, 3)))[0].swapaxes(1, 2).astype(np.float32)
    assert loss_of(start((0, 0, 0, 0), replace(still, span=span, image=np.zeros_like(span)))) > 0


def test_the_parent_beside_it_is_frozen_and_the_organism_is_not(planting):
    _, _, network = planting
    trained = {name for name, weights in network.named_parameters() if weights.requires_grad}
    assert trained
    assert not [name for name in trained if f".{plant.PARENT}." in name]


def test_too_few_texts(study, material, texts):
    path = next(study.planted.glob("*.safetensors"))
    with pytest.raises(DataError, match=r"32 texts where an organism takes 192"):
        grow_organism(
            lm.load("tiny"), material.parent, planted(1), "guilty", path, texts, STAGE, study.trained, 0, "few"
        )
    assert stage_of("tiny", 3).steps == 3
