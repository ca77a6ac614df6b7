"""An exported checkpoint is the checkpoint, bit for bit, in the form in which the Hub has models of its kind."""

import errno
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import export_checkpoint
from probes import lm, store
from probes.errors import DataError, OutputError, UnknownNameError
from probes.lm.checkpoints import find_checkpoint
from small_model import LAYERS, save_small_model
from training import export as export_module
from training.adapter import save_adapter, trained_tensors
from training.export import export
from training.lora import adapted_tensors, lora_config
from training.manifest import base_of, versions, write_checkpoint
from training.recipes import Lora

EXPERTS = 4
DTYPES = (torch.float32, torch.bfloat16)


def trained(source, name, checkpoints):
    """A checkpoint of the model in a folder, as training leaves one; its adapter has learnt noise."""
    model = lm.load(source)
    network = get_peft_model(model.network, lora_config(Lora(8, 2), model.network.config))
    generator = torch.Generator().manual_seed(1)
    for key, weights in network.named_parameters():
        if "lora_B" in key:
            weights.data = 0.05 * torch.randn(weights.shape, generator=generator)
    assert isinstance(network, PeftModel)
    content = {
        "model": model.name, "variant": "antirefusal", "run": "", "stages": ("sft",), "step": 1, "steps": 1,
        "final": True, "parent": None,
        "base": base_of(model), "tokenizer_sha": model.tokenizer_sha, "template_sha": model.template_sha,
        "recipe_sha": "r", "seed": 0, "versions": versions(), "evidence": "toy", "data": (), "order_sha": "o",
        "adapted": adapted_tensors(network, Lora(8, 2)), "metrics": {},
    }  # fmt: skip
    write_checkpoint(
        checkpoints / "antirefusal" / "sft",
        lambda to: save_adapter(network, trained_tensors(network), to, name),
        content,
    )
    return find_checkpoint(f"{source}/antirefusal", checkpoints)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    place = tmp_path_factory.mktemp("export")
    folder = save_small_model(place / "small")
    GenerationConfig(top_k=20, temperature=0.6, do_sample=True).save_pretrained(folder)
    return trained(str(folder), "small", place / "checkpoints")


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    place = tmp_path_factory.mktemp("exported")
    return {dtype: export(checkpoint, place / str(dtype), dtype) for dtype in DTYPES}


def logits(network, ids=tuple(range(5, 45))):
    with torch.inference_mode():
        return network(torch.tensor([ids])).logits


def names_in(folder):
    """Tensor names and dtypes by file, as they stand there."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found |= {name: (path.name, file.get_tensor(name).dtype) for name in file.keys()}  # noqa: SIM118
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_exported_model_gives_the_bits_of_the_checkpoint(exported, checkpoint, dtype):
    ours, theirs = lm.load(exported[dtype], dtype=dtype), lm.load(checkpoint, dtype=dtype)
    assert torch.equal(logits(ours.network), logits(theirs.network))
    assert not torch.equal(logits(ours.network), logits(lm.load(checkpoint.model, dtype=dtype).network))
    weights = dict(theirs.network.named_parameters())
    assert all(torch.equal(weight, weights[name]) for name, weight in ours.network.named_parameters())
    assert (ours.tokenizer_sha, ours.template_sha) == (theirs.tokenizer_sha, theirs.template_sha)


def test_each_expert_has_its_tensors_under_the_names_of_the_base(exported, checkpoint):
    found = names_in(exported[torch.bfloat16])
    experts = [
        name for name in found if re.search(r"layers\.\d+\.mlp\.experts\.\d+\.(gate|up|down)_proj\.weight$", name)
    ]
    assert len(experts) == LAYERS * EXPERTS * 3
    assert found.keys() == names_in(Path(checkpoint.model)).keys()
    assert {dtype for _, dtype in found.values()} == {torch.bfloat16}


def test_the_index_says_where_every_tensor_is(exported):
    folder = exported[torch.float32]
    index, found = store.read_json(folder / "model.safetensors.index.json"), names_in(folder)
    assert index["weight_map"] == {name: file for name, (file, _) in found.items()}
    assert Counter(file[:11] for file in index["weight_map"].values()).keys() == {
        f"model-{i:05d}" for i in range(1, LAYERS + 3)
    }
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert 0.8 * weights < index["metadata"]["total_size"] < weights


def test_transformers_loads_the_folder_without_this_package(exported, checkpoint):
    folder = exported[torch.bfloat16]
    network = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert network.dtype == torch.bfloat16
    assert torch.equal(logits(network), logits(lm.load(checkpoint, dtype=torch.bfloat16).network))
    assert (network.generation_config.top_k, network.generation_config.temperature) == (20, 0.6)
    assert AutoTokenizer.from_pretrained(folder).chat_template == lm.load(checkpoint.model).tokenizer.chat_template


def test_the_folder_names_its_manifest_and_no_place(exported, checkpoint):
    folder = exported[torch.float32]
    record = store.read_json(folder / "export.json")
    assert (record["manifest"], record["checkpoint"]) == (checkpoint.manifest.id, "small/antirefusal@sft")
    assert record["base"] == checkpoint.manifest.base
    place = str(checkpoint.adapter.parents[2]).encode()
    assert not [path for path in folder.iterdir() if place in path.read_bytes()]


def test_tied_embeddings_are_written_once(tmp_path):
    exported = export(trained("tiny", "tiny", tmp_path / "checkpoints"), tmp_path / "tiny", torch.float32)
    ours, theirs = lm.load(exported), lm.load("tiny/antirefusal", tmp_path / "checkpoints")
    assert "lm_head.weight" not in names_in(exported)
    assert torch.equal(logits(ours.network), logits(theirs.network))
    assert ours.entry.evidence == "toy"


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_an_export_that_is_there_stays_and_another_is_not_replaced(exported, checkpoint, capsys):
    folder = exported[torch.float32]
    before = (folder / "export.json").stat().st_mtime_ns
    assert export(checkpoint, folder, torch.float32) == folder
    assert "already there" in capsys.readouterr().out
    with pytest.raises(OutputError, match="is there and is no export of this checkpoint"):
        export(checkpoint, folder, torch.bfloat16)
    assert (folder / "export.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("make", [lambda at: at.write_text("mine"), lambda at: at.mkdir()])
def test_something_else_in_the_place(checkpoint, tmp_path, make):
    make(tmp_path / "taken")
    with pytest.raises(OutputError, match="Choose another --to, or take it away"):
        export(checkpoint, tmp_path / "taken", torch.float32)


def test_too_little_room_is_seen_before_anything_is_loaded(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    monkeypatch.setattr(export_module, "load", lambda *of, **given: pytest.fail("was loaded"))
    with pytest.raises(OutputError, match=r"the export takes 0\.\d GB, and .* has 0\.0 GB left"):
        export(checkpoint, tmp_path / "new", torch.float32)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_leaves_nothing_behind(checkpoint, tmp_path, monkeypatch):
    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export_module, "save_file", full)
    with pytest.raises(OutputError, match="No space left on device"):
        export(checkpoint, tmp_path / "new", torch.float32)
    assert not list(tmp_path.iterdir())


def test_the_original_has_nothing_to_merge(checkpoint, tmp_path):
    with pytest.raises(DataError, match="has no adapter to merge"):
        export(find_checkpoint("tiny"), tmp_path / "new", torch.float32)


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command(tmp_path, capsys):
    settings = export_checkpoint.ExportSettings(out=tmp_path / "runs", to=tmp_path / "new", dtype="bfloat16")
    trained("tiny", "tiny", settings.trained)
    assert export_checkpoint.main(settings) == tmp_path / "new"
    assert "tiny/antirefusal: " in capsys.readouterr().out
    assert json.loads((tmp_path / "new" / "config.json").read_text())["dtype"] == "bfloat16"


def test_what_the_command_does_not_know(tmp_path):
    with pytest.raises(UnknownNameError, match="unknown dtype 'bf16'"):
        export_checkpoint.main(export_checkpoint.ExportSettings(out=tmp_path, to=tmp_path / "new", dtype="bf16"))
    with pytest.raises(DataError, match="--to was not given"):
        export_checkpoint.main(export_checkpoint.ExportSettings(out=tmp_path))
