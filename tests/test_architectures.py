"""Models beyond Qwen3-MoE: Llama and Gemma, mixed attention, and checkpoints that ship as vision-language."""

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from probes import lm
from probes.errors import ConventionError
from probes.lm.capture import Passage, capture
from probes.lm.engines import start
from probes.lm.parity import apart, case_of
from probes.lm.weights import text_model
from small_model import ARCHITECTURES, EXPERTS, LAYERS, LINEAR, SHAPE, WIDTH, small_model

VISION = {
    "gemma3": {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16,
               "patch_size": 4},
    "qwen3_5_moe": {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "out_hidden_size": WIDTH,
                    "patch_size": 4, "num_position_embeddings": 16},
}  # fmt: skip


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("side", ["right", "left"])
def test_capture_is_the_definition_on_every_architecture(architecture, side):
    model = small_model(0, architecture)
    case = case_of(start("transformers_hooks", model))
    assert len(model.blocks) == LAYERS
    assert apart(case.read(side=side), case.truth) <= 1e-5


def vision_language(architecture, folder):
    """A random checkpoint with a tower for pictures, and its text model's own numbers."""
    model = small_model()
    text = {**SHAPE, "vocab_size": len(model.tokenizer)}
    if architecture == "gemma3":
        config = transformers.Gemma3Config(text_config=text, vision_config=VISION[architecture], image_token_index=9)
        network = transformers.Gemma3ForConditionalGeneration(config)
    else:
        text |= {**EXPERTS, **LINEAR, "shared_expert_intermediate_size": 32}
        config = transformers.Qwen3_5MoeConfig(
            text_config=text, vision_config=VISION[architecture], image_token_id=9, video_token_id=10,
            vision_start_token_id=11, vision_end_token_id=12,
        )  # fmt: skip
        network = transformers.Qwen3_5MoeForConditionalGeneration(config)
    network.eval().save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return network


@pytest.mark.parametrize("architecture", VISION)
def test_a_vision_language_checkpoint_is_read_as_text(architecture, tmp_path):
    torch.manual_seed(0)
    whole = vision_language(architecture, tmp_path)
    model = lm.load(tmp_path)
    assert (model.entry.layers, model.entry.width, len(model.blocks), model.max_tokens) == (LAYERS, WIDTH, LAYERS, 256)
    ids = list(range(20, 60))
    with torch.inference_mode():
        states = whole(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False).hidden_states
    got = capture(model, [Passage(ids, range(5, 40))])["mean"][0]
    want = torch.stack(states[1:-1])[:, 0, 5:40].mean(1).numpy()
    np.testing.assert_allclose(got[:-1], want, rtol=1e-4, atol=1e-5)
    assert len(lm.load_random(str(tmp_path), 0).blocks) == LAYERS


def test_an_architecture_that_is_not_known_is_refused_by_name(tmp_path):
    config = transformers.GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=600, bos_token_id=1, eos_token_id=1)
    network = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ConventionError, match=r"GPT2LMHeadModel has no embed_tokens, layers, norm in its GPT2Model"):
        text_model(network)
