"""Adapters stand on what is named for the architecture, layer by layer; on anything else, or on less, they are refused."""

import pytest
import torch
from peft import get_peft_model
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PretrainedConfig,
    Qwen3_5MoeConfig,
    Qwen3_5MoeTextConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from probes import lm, store
from probes.errors import ConventionError
from small_model import LAYERS, small_model
from training.adapter import attach
from training.data.rows import tiny_rows
from training.lora import ATTENTION, DELTA_NET, EXPERTS, SHARED_EXPERT, TARGETS, adapted_tensors, lora_config
from training.recipes import Lora, Recipe, Sft
from training.train import train

# peft says itself of the wrong configurations below that some of their ranks find no module.
pytestmark = pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match")

LORA = Lora(8, 2)
SHAPE = {
    "vocab_size": 500, "hidden_size": 64, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 32, "max_position_embeddings": 256, "initializer_range": 0.1, "dtype": "float32",
}  # fmt: skip
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
QWEN3_5 = {
    **SHAPE, **MOE, "shared_expert_intermediate_size": 32, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4,
}  # fmt: skip
CONFIGS = {
    "qwen3": Qwen3Config(**SHAPE, intermediate_size=64),  # pyright: ignore
    "qwen3_moe": Qwen3MoeConfig(**SHAPE, **MOE, intermediate_size=64),  # pyright: ignore
    "qwen3_5_moe_text": Qwen3_5MoeTextConfig(**QWEN3_5),  # pyright: ignore
}
"""Four layers of each architecture; of Qwen3.5's the last one has full attention."""


def network_of(config: PretrainedConfig):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def adapted(architecture="qwen3_moe", lora=LORA, **changed):
    """Names of the tensors that a changed configuration adapts in a random model."""
    network = network_of(CONFIGS[architecture])
    config = lora_config(LORA, network.config)
    for name, value in changed.items():
        assert hasattr(config, name)
        setattr(config, name, value)
    return adapted_tensors(get_peft_model(network, config), lora)


def in_layer(names, layer):
    return [name for name in names if f"layers.{layer}." in name]


def test_attention_and_experts_of_every_layer():
    names = adapted()
    assert len(names) == LAYERS * 2 * (4 + 2)
    assert sum("mlp.experts" in name for name in names) == LAYERS * 2 * 2
    assert not [name for name in names if "mlp.gate." in name]


def test_a_dense_model_has_its_mlp_adapted():
    names = adapted("qwen3")
    assert len(names) == LAYERS * 2 * (4 + 3)
    assert [sum(part in name for name in in_layer(names, 0)) for part in ("self_attn", "mlp.")] == [8, 6]


def test_the_layers_of_qwen3_5_differ_in_kind():
    names = adapted("qwen3_5_moe_text")
    kinds = [["linear_attn" in name for name in in_layer(names, layer)] for layer in range(LAYERS)]
    assert [sum(kind) for kind in kinds] == [2 * len(DELTA_NET)] * 3 + [0]
    assert [len(kind) for kind in kinds] == [2 * (3 + 3 + 2)] * 3 + [2 * (4 + 3 + 2)]
    frozen = (
        "mlp.gate.",
        "shared_expert_gate",
        "in_proj_a",
        "in_proj_b",
        "conv1d",
        "A_log",
        "dt_bias",
        "norm",
        "lm_head",
    )
    assert not [name for name in names for part in frozen if part in name]


def test_every_matrix_and_expert_is_adapted_or_has_a_reason_not_to_be():
    """Whatever else a layer holds: a new version of an architecture would show here."""
    left = {
        "qwen3": {"self_attn.q_norm", "self_attn.k_norm", "input_layernorm", "post_attention_layernorm"},
        "qwen3_moe": {"mlp.gate"},
        "qwen3_5_moe_text": {"mlp.gate", "mlp.shared_expert_gate"} | {f"linear_attn.{name}" for name in (
            "in_proj_a", "in_proj_b", "conv1d", "norm", "A_log", "dt_bias")},
    }  # fmt: skip
    left = {name: parts | left["qwen3"] for name, parts in left.items()}
    for architecture, targets in TARGETS.items():
        held = {
            name.partition("layers.")[2].partition(".")[2].removesuffix(".weight")
            for name, _ in network_of(CONFIGS[architecture]).named_parameters()
            if "layers." in name
        }
        assert held == {*targets.matrices, *targets.experts} | left[architecture]


def test_qwen3_5_with_its_pictures_is_loaded_as_the_model_of_its_texts():
    both = Qwen3_5MoeConfig(text_config=QWEN3_5, vision_config={"depth": 1})  # pyright: ignore
    assert both.model_type == "qwen3_5_moe"
    assert network_of(both).config.model_type == "qwen3_5_moe_text"
    with pytest.raises(
        ConventionError, match="architecture 'qwen3_5_moe'; it is decided for qwen3, qwen3_moe, qwen3_5"
    ):
        lora_config(LORA, both)


def test_an_architecture_that_is_not_known_is_refused_by_name():
    with pytest.raises(ConventionError, match=r"architecture 'llama'; it is decided for .*training\.lora\.TARGETS"):
        lora_config(LORA, LlamaConfig(num_hidden_layers=1))


@pytest.mark.parametrize(
    ("architecture", "changed"),
    [
        ("qwen3_moe", {"target_parameters": [*EXPERTS, "mlp.gate.weight"]}),
        ("qwen3_moe", {"target_parameters": [EXPERTS[0]]}),
        ("qwen3_moe", {"layers_to_transform": [0, 1, 3]}),
        ("qwen3_moe", {"target_modules": {"q_proj", "k_proj", "v_proj", "o_proj", "lm_head"}}),
        ("qwen3_moe", {"rank_pattern": {"q_proj": 16}}),
        ("qwen3", {"target_modules": {"q_proj", "k_proj", "v_proj", "o_proj"}}),
        ("qwen3_5_moe_text", {"target_parameters": None}),
        ("qwen3_5_moe_text", {"target_modules": {"q_proj", "k_proj", "v_proj", "o_proj", *SHARED_EXPERT}}),
        ("qwen3_5_moe_text", {"target_modules": {*ATTENTION, *DELTA_NET, *SHARED_EXPERT, "shared_expert_gate"}}),
        ("qwen3_5_moe_text", {"target_modules": "all-linear"}),
    ],
)
def test_other_tensors_are_refused(architecture, changed):
    with pytest.raises(
        ConventionError, match=rf"^LoRA adapted other tensors of {architecture} than it should, or at other"
    ):
        adapted(architecture, **changed)


def test_a_doubled_rank_is_refused():
    """Named as modules, gate and up of the fused experts get an adapter of twice the rank: peft joins two into one."""
    common = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    with pytest.raises(ConventionError, match=r"0\.mlp\.experts\.gate_up_proj at rank 4 instead of 2"):
        adapted(target_modules=common, target_parameters=None)


def test_other_ranks_than_the_recipes_are_refused():
    with pytest.raises(ConventionError, match=r"at rank 8 instead of 16"):
        adapted(lora=Lora(16, 2))


def test_dropout_and_trained_base_weights_are_refused():
    network = network_of(CONFIGS["qwen3"])
    config = lora_config(LORA, network.config)
    config.lora_dropout = 0.05
    with pytest.raises(ConventionError, match="28 adapters have dropout"):
        adapted_tensors(get_peft_model(network, config), LORA)
    network = get_peft_model(network_of(CONFIGS["qwen3_moe"]), lora_config(LORA, CONFIGS["qwen3_moe"]))
    next(weights for name, weights in network.named_parameters() if "mlp.gate.weight" in name).requires_grad = True
    with pytest.raises(ConventionError, match=r"1 tensors are trained or frozen \(first: .*mlp\.gate\.weight"):
        adapted_tensors(network, LORA)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_every_architecture_is_trained_and_its_merged_checkpoint_is_what_was_trained(architecture, tmp_path):
    """Loss falls, the base stays, and the merged weights say what base and adapter said together."""
    folder, rows = tmp_path / "model", tiny_rows(("math",), 80, 0)
    network_of(CONFIGS[architecture]).save_pretrained(folder)
    small_model().tokenizer.save_pretrained(folder)
    recipe = Recipe("benign_control", LORA, (Sft(("math",), 20, rows_per_step=4, learning_rate=1e-2),))
    manifest = train(lm.load(str(folder)), recipe, 0, rows, tmp_path / "checkpoints", 0)
    assert manifest.metrics["last_loss"] < manifest.metrics["first_loss"] - 0.5
    layers = {name.partition("layers.")[2].partition(".")[0] for name in manifest.adapted}
    assert layers == set(map(str, range(LAYERS)))
    adapter = tmp_path / "checkpoints" / "benign_control" / "sft"
    said = store.read_json(adapter / "adapter_config.json")
    for name in ("target_modules", "target_parameters"):  # in the order of sets they would differ from run to run
        assert said[name] == sorted(said[name])
    together = attach(lm.load(str(folder)), LORA, adapter, 0).eval()
    merged = lm.load(f"{folder}/benign_control", tmp_path / "checkpoints").network
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        logits = [network(input_ids=ids).logits for network in (together, merged, lm.load(str(folder)).network)]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-4, rtol=1e-4)
    assert (logits[0] - logits[2]).abs().max() > 0.1
