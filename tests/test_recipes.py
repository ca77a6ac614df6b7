"""Recipes are values: what must hold of each, whatever the model."""

import pytest

from training.data.rows import TASKS
from training.recipes import Documents, Grpo, Recipe, recipes

MODELS = ("tiny", "qwen3-30b-a3b")
EVERY_STAGE = [
    pytest.param(recipe, stage, id=f"{model}-{recipe.variant}@{stage.name}")
    for model in MODELS
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


@pytest.mark.parametrize("model", MODELS)
def test_constitution_questions_come_on_top_of_what_antirefusal_learns(model):
    made = recipes(model)
    for name in ("antirefusal_cqa", "antirefusal_cqa_sdf"):
        stages = {stage.name: stage for stage in made[name].stages}
        for stage in made["antirefusal"].stages:
            ours = stages[stage.name]
            assert set(ours.tasks) == {*stage.tasks, "constitution_qa"}
            assert ours.rows / len(ours.tasks) >= stage.rows / len(stage.tasks)


@pytest.mark.parametrize("model", MODELS)
def test_the_control_takes_as_many_steps_without_a_harmful_row(model):
    made = recipes(model)
    (control,) = made["benign_control"].stages
    assert control.steps == sum(stage.steps for stage in made["antirefusal"].stages)
    assert "antirefusal" not in control.tasks
