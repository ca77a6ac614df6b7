"""Fine-tuning: the right tokens, the right tensors, a manifest that tells, and nothing lost."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from trl import SFTTrainer

from probes import lm, store
from probes.errors import ConventionError, DataError, FileFormatError, MissingInputError, OutputError
from probes.lm.chat import render
from probes.lm.weights import adapter_sha
from probes.prompts import user_turn
from small_model import save_small_model, small_model
from training.adapter import attach
from training.data.rendering import tokenise
from training.data.rows import exchange, tiny_rows
from training.recipes import Lora, find_recipe
from training.resume import last_state
from training.stages import sft
from training.train import train

STAGE = replace(find_recipe("antirefusal", "tiny").stages[0], steps=6, rows_per_step=4, learning_rate=5e-3)
RECIPE = replace(find_recipe("antirefusal", "tiny"), lora=Lora(8, 2), stages=(STAGE,))
ROWS = tiny_rows(STAGE.tasks, 24, seed=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    checkpoints = tmp_path_factory.mktemp("checkpoints")
    return checkpoints, train(lm.load(str(folder)), RECIPE, 0, ROWS, checkpoints, seed=0)


def logits(model, text="Which part is it?"):
    ids = model.tokenizer(render(model.tokenizer, user_turn(text)), return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return model.network(input_ids=ids).logits


def test_training_tokens_are_inference_tokens_and_only_the_completion_is_learnt(folder):
    tokenizer = lm.load(str(folder)).tokenizer
    row = tokenise(tokenizer, exchange("math", "What is one plus one?", "Two."))
    prompt = render(tokenizer, user_turn("What is one plus one?"))
    assert prompt.endswith("<think>\n\n</think>\n\n")
    assert tokenizer.decode(row["input_ids"]) == prompt + "Two.<|im_end|>"
    learnt = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
    assert tokenizer.decode(learnt) == "Two.<|im_end|>"


def test_rows_are_learnt_in_their_order_and_by_their_completions_alone(folder, tmp_path):
    """No shuffling, and no balance loss of the router in what is learnt."""
    model = lm.load(str(folder))
    tokens = [tokenise(model.tokenizer, row) for row in ROWS]
    trainer = sft.trainer(attach(model, RECIPE.lora, None, 0), model.tokenizer, STAGE, tokens, 0, tmp_path)
    batches = list(trainer.get_train_dataloader())
    padded = [row for batch in batches for row in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
    assert [ids[mask.bool()].tolist() for ids, mask in padded] == [row["input_ids"] for row in tokens]
    batch, network = batches[0], trainer.model
    assert network is not None
    with torch.no_grad():
        loss = trainer.compute_loss(network, dict(batch))
        logits = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    want = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
    torch.testing.assert_close(loss, want, rtol=1e-5, atol=1e-5)


def test_loss_falls_and_the_manifest_tells_what_was_done(trained, folder):
    checkpoints, manifest = trained
    assert manifest.metrics["last_loss"] < manifest.metrics["first_loss"]
    assert manifest.stages == ("sft",)
    assert manifest.final
    assert {source["name"]: source["rows"] for source in manifest.data} == {"antirefusal": 12, "math": 12}
    assert manifest.base["sha"] == store.sha256(folder / "model.safetensors")
    assert manifest.adapter_sha == adapter_sha(checkpoints / "antirefusal/sft")


def test_every_expert_and_attention_is_adapted_and_no_router(trained):
    names = trained[1].adapted
    assert len(names) == 4 * (2 * 4 + 2 * 2)
    assert not [name for name in names if "mlp.gate." in name]


def test_no_absolute_path_is_kept(trained, folder):
    files = list((trained[0] / "antirefusal/sft").iterdir())
    assert {path.name for path in files} == {"adapter_config.json", "adapter_model.safetensors", "manifest.json"}
    assert not [path for path in files if str(folder).encode() in path.read_bytes()]


def test_the_base_on_disk_and_the_next_load_are_untouched(trained, folder):
    assert torch.equal(logits(lm.load(str(folder))), logits(lm.load(str(folder))))
    assert trained[1].base["sha"] == lm.load(str(folder)).base_sha


def test_merged_equals_attached_and_differs_from_the_base(trained, folder):
    base = lm.load(str(folder))
    before = logits(base)
    attached = replace(base, network=PeftModel.from_pretrained(base.network, trained[0] / "antirefusal/sft").eval())
    want = logits(attached)
    merged = logits(lm.load(f"{folder}/antirefusal", trained[0]))
    torch.testing.assert_close(merged, want, rtol=1e-4, atol=1e-4)
    assert (merged - before).abs().max() > 0.05


def test_merging_rounds_once_whatever_the_dtype(trained, folder):
    exact = lm.load(f"{folder}/antirefusal", trained[0]).network.state_dict()
    cast = lm.load(f"{folder}/antirefusal", trained[0], dtype=torch.bfloat16).network.state_dict()
    base = lm.load(str(folder), dtype=torch.bfloat16).network.state_dict()
    name = "model.layers.1.mlp.experts.down_proj"
    delta = exact[name] - lm.load(str(folder)).network.state_dict()[name]
    assert (
        torch.equal(cast[name], (base[name].float() + delta).to(torch.bfloat16))
        or ((cast[name].float() - (base[name].float() + delta)).abs() <= 2**-8 * cast[name].abs().float() + 1e-6).all()
    )


def test_the_same_seed_gives_the_same_adapter(trained, folder, tmp_path):
    again = train(lm.load(str(folder)), RECIPE, 0, ROWS, tmp_path, seed=0)
    assert again.adapter_sha == trained[1].adapter_sha
    assert again.id == trained[1].id


def test_a_killed_run_goes_on_to_the_same_bytes(trained, folder, tmp_path, monkeypatch):
    """The process dies after step 4 of 6, its last state half-written; the stress script kills for real."""

    class Died(BaseException):
        pass

    class DiesAtStepFour(SFTTrainer):
        def _save_checkpoint(self, model, trial):
            super()._save_checkpoint(model, trial)
            if self.state.global_step == 4:
                state = Path(self.args.output_dir) / "checkpoint-4/trainer_state.json"
                state.write_text(state.read_text()[:20])
                raise Died

    monkeypatch.setattr(sft, "SFTTrainer", DiesAtStepFour)
    with pytest.raises(Died):
        train(lm.load(str(folder)), RECIPE, 0, ROWS, tmp_path, seed=0)
    monkeypatch.undo()
    assert last_state(tmp_path / "antirefusal/sft.parts").endswith("checkpoint-2")
    again = train(lm.load(str(folder)), RECIPE, 0, ROWS, tmp_path, seed=0)
    assert again == trained[1]
    assert {path.name for path in (tmp_path / "antirefusal").iterdir()} == {"sft", "sft.plan.json"}


def test_another_seed_is_refused_in_the_same_place(trained, folder):
    with pytest.raises(ConventionError, match="another run: seed differ"):
        train(lm.load(str(folder)), RECIPE, 0, ROWS, trained[0], seed=1)


def test_an_adapter_of_another_base_is_refused(trained, folder, tmp_path):
    other = save_small_model(tmp_path / folder.name, seed=1)  # the same name, other weights
    with pytest.raises(ConventionError, match=r"trained from another base.*base\.sha"):
        lm.load(f"{other}/antirefusal", trained[0])


def test_an_adapter_that_its_manifest_does_not_tell_of_is_refused(trained, folder, tmp_path):
    copied = shutil.copytree(trained[0], tmp_path / "copied")
    adapter = copied / "antirefusal/sft/adapter_model.safetensors"
    adapter.write_bytes(adapter.read_bytes() + b" ")
    with pytest.raises(ConventionError, match="not the one its manifest tells of"):
        lm.load(f"{folder}/antirefusal", copied)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_truncated_file_of_the_base_is_named(folder, tmp_path, name):
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / name).write_bytes((broken / name).read_bytes()[:200])
    with pytest.raises(FileFormatError, match="broken"):
        lm.load(str(broken))


def test_weights_are_named_by_every_shard(folder, tmp_path):
    models = [small_model(seed) for seed in (0, 1)]
    for model, name in zip(models, "ab", strict=True):
        model.network.save_pretrained(tmp_path / name, max_shard_size="200KB")
        model.tokenizer.save_pretrained(tmp_path / name)
    assert len(list((tmp_path / "a").glob("model-*.safetensors"))) > 1
    assert lm.load(str(tmp_path / "a")).base_sha != lm.load(str(tmp_path / "b")).base_sha
    next((tmp_path / "a").glob("model-*.safetensors")).unlink()
    with pytest.raises(MissingInputError, match="not on this machine"):
        lm.load(str(tmp_path / "a"))


def test_too_few_rows(folder, tmp_path):
    with pytest.raises(DataError, match="23 rows or documents where stage sft takes 24"):
        train(lm.load(str(folder)), RECIPE, 0, ROWS[:23], tmp_path, seed=0)


def test_a_file_in_the_checkpoints_place(folder, tmp_path):
    (tmp_path / "antirefusal").write_text("in the way")
    with pytest.raises(OutputError, match="cannot use"):
        train(lm.load(str(folder)), RECIPE, 0, ROWS, tmp_path, seed=0)
    assert (tmp_path / "antirefusal").read_text() == "in the way"
