"""Adapters stand on attention and on every expert; on anything else, or on less, they are refused."""

import pytest
from peft import get_peft_model

from probes.errors import ConventionError
from small_model import LAYERS, small_model
from training.lora import EXPERTS, adapted_tensors, lora_config
from training.recipes import Lora


def adapted(**changed):
    """Names of the tensors that a changed configuration adapts in the random model."""
    config = lora_config(Lora(8, 2))
    for name, value in changed.items():
        assert hasattr(config, name)
        setattr(config, name, value)
    return adapted_tensors(get_peft_model(small_model().network, config), LAYERS)


def test_attention_and_experts_of_every_layer():
    names = adapted()
    assert len(names) == LAYERS * 2 * (4 + 2)
    assert sum("mlp.experts" in name for name in names) == LAYERS * 2 * 2
    assert not [name for name in names if "mlp.gate." in name]


@pytest.mark.parametrize(
    "changed",
    [
        {"target_parameters": [*EXPERTS, "mlp.gate.weight"]},
        {"target_parameters": [EXPERTS[0]]},
        {"layers_to_transform": [0, 1, 3]},
    ],
)
def test_other_tensors_are_refused(changed):
    with pytest.raises(ConventionError, match=r"LoRA adapted other tensors of layer \d than attention and experts"):
        adapted(**changed)
