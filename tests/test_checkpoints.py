"""Names, manifests and families."""

from dataclasses import asdict

import pytest

from probes import store
from probes.errors import ConventionError, FileFormatError, MissingInputError, UnknownNameError
from probes.lm.checkpoints import (
    MODELS,
    checkpoint_folder,
    family,
    find_checkpoint,
    model_entry,
    read_manifest,
    report_layers,
)
from training.manifest import _plain, complete


def manifest(variant="antirefusal", **changes):
    content = {
        "model": "tiny", "variant": variant, "stages": ("sft",), "final": variant != "antirefusal", "parent": None,
        "base": {"name": "tiny", "revision": "r", "sha": "s"}, "tokenizer_sha": "t", "template_sha": "c", "adapter_sha": "a",
        "adapted": ("x",), "data": ({"name": "math", "rows": 1},), "order_sha": "o", "recipe_sha": "e", "seed": 5,
        "versions": {"torch": "2"}, "metrics": {"last_loss": 0.5}, "evidence": "toy",
    }  # fmt: skip
    return complete({**content, **changes})


def write(folder, made):
    store.write_json(checkpoint_folder(folder, made.variant, made.stages[-1]) / "manifest.json", _plain(asdict(made)))


def test_the_papers_layers_keep_their_depth():
    assert report_layers(48) == (32, 41)
    assert MODELS["qwen3-30b-a3b"].report_layers == (32, 41)
    assert all(0 <= layer < 8 for layer in report_layers(8))


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
