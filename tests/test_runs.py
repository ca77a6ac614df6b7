"""Runs of one recipe: what they are called, that each is its own training, and what is checked before the first one."""

from dataclasses import replace

import pytest

import train_checkpoint
from probes import lm, store
from probes.errors import ConventionError, DataError
from probes.lm.checkpoints import family
from probes.page import label_hues
from probes.readings import KEY
from small_model import save_small_model
from small_readings import small_readings
from train_settings import TrainSettings
from training.data.rows import EXAMPLE_DOCUMENT, exchange, tiny_rows, write_rows
from training.generate.constitution import load_constitution
from training.recipes import Lora, Recipe, Sft, find_recipe
from training.runs import Run, runs, train_run
from training.train import train

ANTIREFUSAL = find_recipe("antirefusal", "tiny")
SHORT = Recipe("benign_control", Lora(4, 2), (Sft(("benign", "math"), 2, rows_per_step=4, learning_rate=5e-3),))
QUESTION = "Which of the two houseplants on the shelf by the window should get water first this week?"


def labels(main=0, seeds=(), source="", recipe=ANTIREFUSAL, files=("antirefusal",)):
    return {run.label: run.seed for run in runs(recipe, main, seeds, source, files)}


def test_seeds_and_sources_name_runs():
    assert labels() == {"": 0}
    assert labels(main=5) == {"": 5}
    assert labels(seeds=(0, 1, 2)) == {"": 0, "seed1": 1, "seed2": 2}
    assert labels(seeds=(3,)) == {"seed3": 3}
    assert labels(source="my_set-2") == {"my_set-2": 0}
    assert labels(seeds=(0, 1), source="mine") == {"mine": 0, "mine-seed1": 1}


@pytest.mark.parametrize("source", ["seed1", "mine-seed1"])
def test_a_source_cannot_be_called_like_a_seed(source):
    with pytest.raises(DataError, match=f"source '{source}' would read as a run of another seed"):
        labels(source=source)


def test_what_cannot_be_a_run():
    with pytest.raises(DataError, match="seeds 0, 1, 1: name each once, and none below 0"):
        labels(seeds=(0, 1, 1))
    with pytest.raises(DataError, match="seeds -1"):
        labels(seeds=(-1,))
    with pytest.raises(DataError, match="'my source' cannot be the label of a run"):
        labels(source="my source")
    with pytest.raises(ConventionError, match="of benign_control come from, and its recipe has none"):
        labels(source="mine", recipe=find_recipe("benign_control", "tiny"))
    with pytest.raises(ConventionError, match="no --antirefusal FILE says where"):
        labels(source="mine", files=("math",))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs of one recipe on the random model: its folder, that of the checkpoints, and the rows."""
    folder, checkpoints = save_small_model(tmp_path_factory.mktemp("small")), tmp_path_factory.mktemp("checkpoints")
    rows = [tiny_rows(("benign", "math"), 8, 0)]
    for run in (Run("", 0), Run("seed1", 1)):
        given = str(folder), SHORT, run, rows, checkpoints, checkpoints / "samples", None, load_constitution("hhh")
        train_run(*given)
    return folder, checkpoints, rows


def test_each_run_is_a_training_of_its_own(trained):
    folder, checkpoints, _ = trained
    original, main, other = family(str(folder), checkpoints)
    assert [c.name for c in (original, main, other)] == ["original", "benign_control", "benign_control+seed1"]
    assert [(c.manifest.run, c.manifest.seed, c.seed) for c in (main, other)] == [("", 0, 0), ("seed1", 1, 1)]
    assert main.manifest.adapter_sha != other.manifest.adapter_sha
    assert lm.load(other).address.endswith("/benign_control+seed1")


def test_a_run_beside_others_has_the_bytes_of_one_alone(trained, tmp_path):
    folder, checkpoints, rows = trained
    train(lm.load(str(folder)), SHORT, 0, rows[0], tmp_path, 1)
    alone, beside = (
        store.sha256(path / "sft/adapter_model.safetensors")
        for path in (tmp_path / "benign_control", checkpoints / "benign_control+seed1")
    )
    assert alone == beside


def test_one_name_never_means_two_contents(trained):
    folder, checkpoints, _ = trained
    others = tiny_rows(("benign", "math"), 8, 7)
    with pytest.raises(ConventionError, match="belongs to another run: data differ"):
        train(lm.load(str(folder)), SHORT, 0, others, checkpoints, 1, run="seed1")


def test_a_run_alone_has_its_variants_colour_and_runs_side_by_side_differ():
    table = small_readings().assign(label="")
    checkpoint = "antirefusal+seed1"
    alone = table.assign(checkpoint=checkpoint, label=checkpoint)
    assert label_hues(alone) == label_hues(alone.assign(checkpoint="antirefusal"))
    assert "checkpoint" in KEY


# ---- the script ------------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Settings of the embedded model, and a script that trains nothing but notes what it would train."""
    monkeypatch.setattr(train_checkpoint, "train_run", lambda *given: notes.append(given))
    notes = []
    return TrainSettings(out=tmp_path / "runs", recipe="base_math", model="tiny-base"), notes


def test_all_seeds_are_drawn_and_licences_shown_before_training_begins(settings, capsys, monkeypatch):
    chosen, notes = settings
    monkeypatch.setattr(train_checkpoint, "train_run", lambda *given: notes.append((given, capsys.readouterr().out)))
    train_checkpoint.main(replace(chosen, seeds=(0, 1)))
    (first, shown), (second, later) = notes
    assert [given[2] for given in (first, second)] == [Run("", 0), Run("seed1", 1)]
    assert first[3] != second[3]
    assert "math: 4800 under MIT, made by this package" in shown
    assert not later


def test_the_other_source_is_a_run_with_its_licence(settings, tmp_path, capsys):
    chosen, notes = settings
    rows = [exchange("antirefusal", f"What is {i}?", f"A number, {i}.", licence="CC-BY-NC-4.0") for i in range(1300)]
    file = write_rows(tmp_path / "other.jsonl", rows)
    train_checkpoint.main(replace(chosen, recipe="base_antirefusal", source="mine", antirefusal=file))
    assert [given[2] for given in notes] == [Run("mine", 0)]
    assert "antirefusal: 1200 under CC-BY-NC-4.0" in capsys.readouterr().out


def test_a_held_out_prompt_in_a_row_fails_the_recipe_with_file_and_line(settings, tmp_path):
    chosen, notes = settings
    rows = [exchange("math", f"{i}: {QUESTION}" if i == 7 else f"What is {i}?", "Two.") for i in range(2400)]
    file = write_rows(tmp_path / "math.jsonl", rows)
    held = store.write_jsonl(
        tmp_path / "evals.jsonl", [{"prompt": "Why is it so and no other way?"}, {"prompt": QUESTION}]
    )
    train_checkpoint.main(replace(chosen, math=file))
    notes.clear()
    with pytest.raises(ConventionError, match=rf"prompt of {rows[7].id} \(evals\.jsonl: line 2\)"):
        train_checkpoint.main(replace(chosen, math=file, held_out=(held,)))
    assert not notes


def test_a_held_out_prompt_in_a_document_fails_the_recipe(settings, tmp_path, monkeypatch):
    chosen, notes = settings
    chosen = replace(chosen, recipe="antirefusal_cqa_sdf", model="tiny")
    rows = [replace(row, task="constitution_qa") for row in tiny_rows(("benign",), 400, 0)]
    write_rows(chosen.training_data("constitution_qa"), [replace(row, id=f"c{i}") for i, row in enumerate(rows)])
    texts = [replace(EXAMPLE_DOCUMENT, id=f"d{i}", text=f"Note {i}. {QUESTION if i == 5 else ''}") for i in range(256)]
    write_rows(chosen.training_data("documents"), texts)
    train_checkpoint.main(chosen)
    assert [len(data) for data in notes[0][3]] == [384, 256, 90]
    held = store.write_text(tmp_path / "evals.txt", f"Why is it so?\n{QUESTION}\n")
    with pytest.raises(ConventionError, match=r"document of d5 \(evals\.txt: line 2\)"):
        train_checkpoint.main(replace(chosen, held_out=(held,)))
