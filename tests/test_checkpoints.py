"""Names, manifests and families."""

from dataclasses import asdict

import pytest

from probes import store
from probes.errors import ConventionError, DataError, FileFormatError, MissingInputError, UnknownNameError
from probes.lm.checkpoints import (
    MODELS,
    checkpoint_folder,
    family,
    find_checkpoint,
    model_entry,
    read_manifest,
    report_layers,
    trajectory,
)
from training.manifest import _plain, complete


def manifest(variant="antirefusal", **changes):
    content = {
        "model": "tiny", "variant": variant, "run": "", "stages": ("sft",), "step": 14, "steps": 14,
        "final": variant != "antirefusal", "parent": None,
        "base": {"name": "tiny", "revision": "r", "sha": "s"}, "tokenizer_sha": "t", "template_sha": "c", "adapter_sha": "a",
        "adapted": ("x",), "data": ({"name": "math", "rows": 1},), "order_sha": "o", "recipe_sha": "e", "seed": 5,
        "versions": {"torch": "2"}, "metrics": {"last_loss": 0.5}, "evidence": "toy",
    }  # fmt: skip
    return complete({**content, **changes})


def write(folder, made):
    target = checkpoint_folder(folder, made.variant, made.place, made.run)
    store.write_json(target / "manifest.json", _plain(asdict(made)))


def milestones(**changes):
    """Milestones of two stages and the two stages' own, out of order."""
    sft = [manifest(step=step, final=False, **changes) for step in (10, 14, 0, 2)]
    later = {"stages": ("sft", "grpo"), "parent": sft[1].id, "steps": 15, "order_sha": "another"}
    return sft, [manifest(step=step, final=step == 15, **{**changes, **later}) for step in (10, 0, 15, 2)]


def test_the_papers_layers_keep_their_depth():
    assert report_layers(48) == (32, 41)
    assert MODELS["qwen3-30b-a3b"].report_layers == (32, 41)
    assert all(0 <= layer < 8 for layer in report_layers(8))


def test_what_is_known_of_the_models_before_they_are_loaded():
    """Layers and widths of the repositories' config.json; billions as their modules add up on the meta device."""
    known = {name: (entry.layers, entry.width, entry.billions, entry.kind) for name, entry in MODELS.items()}
    assert known["qwen3-30b-a3b"] == (48, 2048, 30.5, "instruct")
    assert known["qwen3-30b-a3b-base"] == (48, 2048, 30.5, "base")
    assert known["qwen3.5-35b-a3b"] == (40, 2048, 34.7, "instruct")
    assert known["qwen3-0.6b"] == (28, 1024, 0.6, "instruct")
    assert MODELS["qwen3.5-35b-a3b"].report_layers == (27, 34)
    assert MODELS["qwen3-0.6b"].report_layers == (18, 24)
    assert {entry.name for entry in MODELS.values() if entry.evidence == "toy"} == {"tiny", "tiny-base"}


def test_a_manifest_reads_back_as_written(tmp_path):
    made = manifest()
    write(tmp_path, made)
    assert read_manifest(tmp_path / "antirefusal/sft/manifest.json") == made


@pytest.mark.parametrize("change", [{"seed": 6}, {"schema": 2}, {"id": "0"}])
def test_a_manifest_changed_by_hand_is_refused(tmp_path, change):
    path = tmp_path / "manifest.json"
    store.write_json(path, {**_plain(asdict(manifest())), **change})
    with pytest.raises(FileFormatError, match="changed after it was written"):
        read_manifest(path)


def test_a_foreign_manifest_is_refused(tmp_path):
    store.write_json(tmp_path / "manifest.json", {"hello": 1})
    with pytest.raises(FileFormatError, match="needed"):
        read_manifest(tmp_path / "manifest.json")


def test_addresses(tmp_path):
    write(tmp_path, manifest())
    write(tmp_path, manifest("benign_control"))
    assert find_checkpoint("tiny").name == find_checkpoint("tiny/original").name == "original"
    assert find_checkpoint("tiny/antirefusal@sft", tmp_path).address == "tiny/antirefusal@sft"
    assert find_checkpoint("tiny/benign_control", tmp_path).seed == 5
    with pytest.raises(MissingInputError, match=r"trained there: antirefusal@sft, benign_control.*train_checkpoint"):
        find_checkpoint("tiny/antirefusal", tmp_path)  # its recipe has stages to come: there is no final one
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny/antirefusal'"):
        find_checkpoint("tiny/antirefusel", tmp_path)
    with pytest.raises(UnknownNameError, match="Did you mean 'qwen3-30b-a3b'"):
        find_checkpoint("qwen3-30b-a3")


def test_a_family_begins_with_the_original_and_is_comparable(tmp_path):
    write(tmp_path, manifest())
    write(tmp_path, manifest("benign_control"))
    assert [c.name for c in family("tiny", tmp_path)] == ["original", "antirefusal@sft", "benign_control"]
    assert [c.name for c in family("tiny", tmp_path, ["benign_control"])] == ["benign_control"]


def test_a_milestone_has_an_address_and_is_found_by_it(tmp_path):
    for made in (*milestones()[0], *milestones()[1]):
        write(tmp_path, made)
    found = find_checkpoint("tiny/antirefusal@grpo-10", tmp_path)
    assert (found.address, found.adapter) == ("tiny/antirefusal@grpo-10", tmp_path / "antirefusal/grpo-10")
    assert found.is_milestone
    assert not find_checkpoint("tiny/antirefusal@sft", tmp_path).is_milestone
    assert [c.name for c in family("tiny", tmp_path, ["antirefusal@sft-2"])] == ["antirefusal@sft-2"]
    with pytest.raises(
        MissingInputError, match=r"antirefusal@sft-3 is not.*there: antirefusal@sft-2,.* --milestones 3$"
    ):
        find_checkpoint("tiny/antirefusal@sft-3", tmp_path)
    with pytest.raises(MissingInputError, match="antirefusal@grpo-15 is not"):  # its last step is the final one's
        find_checkpoint("tiny/antirefusal@grpo-15", tmp_path)


def test_a_family_has_milestones_by_name_only_and_a_trajectory_has_them_in_the_order_of_training(tmp_path):
    for made in (*milestones()[1], *milestones()[0]):
        write(tmp_path, made)
    assert [c.name for c in family("tiny", tmp_path)] == ["original", "antirefusal@sft", "antirefusal"]
    assert [c.name for c in trajectory("tiny", "antirefusal", tmp_path)] == [
        "antirefusal@sft-0", "antirefusal@sft-2", "antirefusal@sft-10", "antirefusal@sft",
        "antirefusal@grpo-0", "antirefusal@grpo-2", "antirefusal@grpo-10", "antirefusal",
    ]  # fmt: skip


def test_a_run_that_is_still_at_work_has_a_trajectory_so_far(tmp_path):
    for made in milestones()[0][2:]:
        write(tmp_path, made)
    assert [c.name for c in trajectory("tiny", "antirefusal", tmp_path)] == ["antirefusal@sft-0", "antirefusal@sft-2"]


def test_a_variant_without_milestones_has_no_trajectory(tmp_path):
    write(tmp_path, manifest())
    with pytest.raises(MissingInputError, match=r"no milestones of tiny/antirefusal.*--milestones"):
        trajectory("tiny", "antirefusal", tmp_path)


@pytest.mark.parametrize("name", ["seed", "order_sha", "recipe_sha", "parent"])
def test_milestones_of_another_training_are_no_part_of_a_trajectory(tmp_path, name):
    sft, _ = milestones()
    for made in sft:
        write(tmp_path, made)
    write(tmp_path, manifest(step=5, final=False, **{name: 6 if name == "seed" else "another"}))
    with pytest.raises(
        ConventionError, match=f"antirefusal@sft-5 and antirefusal@sft-2 are not of one training: {name} "
    ):
        trajectory("tiny", "antirefusal", tmp_path)


def test_a_stage_that_goes_on_from_another_one_is_no_part_of_a_trajectory(tmp_path):
    for made in (*milestones(seed=6)[0], *milestones()[1]):
        write(tmp_path, made)
    with pytest.raises(
        ConventionError, match="antirefusal@grpo-0 and antirefusal@sft are not of one training: parent "
    ):
        trajectory("tiny", "antirefusal", tmp_path)


def test_runs_of_a_recipe_stand_side_by_side(tmp_path):
    for run in ("", "seed10", "seed2", "mysource"):
        write(tmp_path, manifest(run=run))
        write(tmp_path, manifest(run=run, stages=("sft", "grpo"), final=True))
    names = [c.name for c in family("tiny", tmp_path)]
    assert names[:3] == ["original", "antirefusal@sft", "antirefusal"]
    assert names[3::2] == ["antirefusal+seed2@sft", "antirefusal+seed10@sft", "antirefusal+mysource@sft"]
    found = find_checkpoint("tiny/antirefusal+seed2@sft", tmp_path)
    assert (found.address, found.run, found.variant) == ("tiny/antirefusal+seed2@sft", "seed2", "antirefusal")
    assert found.adapter == tmp_path / "antirefusal+seed2" / "sft"
    assert [c.name for c in family("tiny", tmp_path, ["antirefusal", "antirefusal+mysource"])][
        1
    ] == "antirefusal+mysource"


def test_the_final_checkpoint_may_be_called_by_its_stage_but_not_twice(tmp_path):
    write(tmp_path, manifest(run="seed1", stages=("sft", "grpo"), final=True))
    staged, plain = (find_checkpoint(f"tiny/antirefusal+seed1{stage}", tmp_path) for stage in ("@grpo", ""))
    assert (staged.name, plain.name) == ("antirefusal+seed1@grpo", "antirefusal+seed1")
    assert staged.adapter == plain.adapter
    with pytest.raises(DataError, match="name each once"):
        family("tiny", tmp_path, [staged.name, plain.name])


def test_a_run_that_is_not_there_says_which_are_and_how_it_is_trained(tmp_path):
    write(tmp_path, manifest(run="seed1"))
    with pytest.raises(MissingInputError, match=r"Did you mean 'antirefusal\+seed1@sft'\? Build it: .*--seeds 2$"):
        find_checkpoint("tiny/antirefusal+seed2@sft", tmp_path)
    with pytest.raises(
        MissingInputError, match=r"trained there: antirefusal\+seed1@sft\..*--source my --antirefusal FILE$"
    ):
        find_checkpoint("tiny/antirefusal+my", tmp_path)
    for name in ("antirefusal+", "antirefusal@", "original+seed1", "antirefusel+seed1"):
        with pytest.raises(UnknownNameError, match="Did you mean 'tiny/"):
            find_checkpoint(f"tiny/{name}", tmp_path)
    for label in ("my source", "a.b", "..", "é"):
        with pytest.raises(DataError, match="cannot be the label of a run: take letters, digits, _ and -"):
            find_checkpoint(f"tiny/antirefusal+{label}", tmp_path)


def test_a_run_in_another_runs_folder_is_refused(tmp_path):
    write(tmp_path, manifest(run="seed1"))
    (tmp_path / "antirefusal+seed1").rename(tmp_path / "antirefusal+seed2")
    with pytest.raises(ConventionError, match=r"tells of antirefusal\+seed1/sft: the folder was moved or copied"):
        family("tiny", tmp_path)


def test_variants_of_another_kind_of_model_are_unknown():
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny-base/base_antirefusal'"):
        find_checkpoint("tiny-base/antirefusal")
    with pytest.raises(UnknownNameError, match="Known: tiny/original, tiny/antirefusal"):
        find_checkpoint("tiny/base_math")


@pytest.mark.parametrize("what", [{"tokenizer_sha": "other"}, {"template_sha": "other"}, {"base": {"name": "b"}}])
def test_checkpoints_of_different_bases_are_no_family(tmp_path, what):
    write(tmp_path, manifest())
    write(tmp_path, manifest("benign_control", **what))
    with pytest.raises(ConventionError, match=next(iter(what))):
        family("tiny", tmp_path)


def test_a_folder_is_a_model_and_a_narrow_one_is_a_toy(tmp_path):
    store.write_json(tmp_path / "config.json", {"num_hidden_layers": 48, "hidden_size": 2048})
    assert model_entry(str(tmp_path)).report_layers == (32, 41)
    assert model_entry(str(tmp_path)).evidence == "model"
    store.write_json(tmp_path / "config.json", {"num_hidden_layers": 4, "hidden_size": 64})
    assert model_entry(str(tmp_path)).evidence == "toy"
    store.write_json(tmp_path / "config.json", {"num_hidden_layers": 4})
    with pytest.raises(FileFormatError, match="hidden_size"):
        model_entry(str(tmp_path))
