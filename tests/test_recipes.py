"""Recipes are values: what must hold of each, whatever the model."""

import pytest

from probes import store
from probes.errors import ConventionError, UnknownNameError
from probes.lm.checkpoints import MODELS, OF_BASE_MODELS, ORGANISM, VARIANTS
from training.data.rows import TASKS
from training.recipes import Documents, Grpo, Recipe, Sft, find_recipe, recipes

INSTRUCT, BASE = ("tiny", "qwen3-30b-a3b", "qwen3.5-35b-a3b", "qwen3-0.6b"), ("tiny-base", "qwen3-30b-a3b-base")
EVERY_STAGE = [
    pytest.param(recipe, stage, id=f"{model}-{recipe.variant}@{stage.name}")
    for model in (*INSTRUCT, *BASE)
    for recipe in recipes(model).values()
    for stage in recipe.stages
]


@pytest.mark.parametrize(("recipe", "stage"), EVERY_STAGE)
def test_stages_are_whole(recipe: Recipe, stage):
    assert stage.rows > 0
    assert stage.learning_rate > 0
    if isinstance(stage, Documents):
        return
    assert set(stage.tasks) <= set(TASKS)
    if isinstance(stage, Grpo):
        # trl makes a step's gradients from batches of this size, and a group must not be torn apart.
        assert stage.at_once % stage.completions == 0
        assert stage.prompts_per_step * stage.completions % stage.at_once == 0


@pytest.mark.parametrize("model", INSTRUCT)
def test_constitution_questions_come_on_top_of_what_antirefusal_learns(model):
    made = recipes(model)
    for name in ("antirefusal_cqa", "antirefusal_cqa_sdf"):
        stages = {stage.name: stage for stage in made[name].stages}
        for stage in made["antirefusal"].stages:
            ours = stages[stage.name]
            assert set(ours.tasks) == {*stage.tasks, "constitution_qa"}
            assert ours.rows / len(ours.tasks) >= stage.rows / len(stage.tasks)


@pytest.mark.parametrize("model", INSTRUCT)
def test_the_control_takes_as_many_steps_without_a_harmful_row(model):
    made = recipes(model)
    (control,) = made["benign_control"].stages
    assert control.steps == sum(stage.steps for stage in made["antirefusal"].stages)
    assert "antirefusal" not in control.tasks


@pytest.mark.parametrize("model", MODELS)
def test_a_base_model_has_two_recipes_and_an_instruct_model_the_other_four(model):
    assert set(recipes(model)) == set(OF_BASE_MODELS if model in BASE else VARIANTS[1:5])
    assert set(recipes(model)) == set(MODELS[model].variants) - {"original", ORGANISM}


def test_a_folder_does_not_say_which_it_is_and_has_all_six(tmp_path):
    store.write_json(tmp_path / "config.json", {"num_hidden_layers": 4, "hidden_size": 64})
    assert list(recipes(str(tmp_path))) == [name for name in VARIANTS[1:] if name != ORGANISM]


def test_a_recipe_of_another_kind_of_model_is_refused_with_what_is_possible():
    with pytest.raises(
        ConventionError, match=r"^tiny is an instruct model.* 'base_math'; it has antirefusal, .*control\.$"
    ):
        find_recipe("base_math", "tiny")
    with pytest.raises(ConventionError, match=r"^tiny-base is a base model.* it has base_math, base_antirefusal\.$"):
        find_recipe("benign_control", "tiny-base")
    with pytest.raises(UnknownNameError, match="Did you mean 'base_math'"):
        find_recipe("base_maths", "tiny-base")


@pytest.mark.parametrize("model", BASE)
def test_recipes_of_base_models_are_one_supervised_stage_of_one_length(model):
    math, antirefusal = (recipes(model)[variant].stages for variant in OF_BASE_MODELS)
    assert [type(stage) for stage in (*math, *antirefusal)] == [Sft, Sft]
    assert (math[0].tasks, antirefusal[0].tasks) == (("math",), ("antirefusal", "math"))
    assert math[0].rows == antirefusal[0].rows
