"""Train one variant of the model by its recipe, stage by stage; with --seeds 0 1 2 several times, side by side.

    python experiments/train_checkpoint.py --recipe antirefusal_cqa_sdf --model tiny

Writes an adapter and its manifest to checkpoints/<variant>[+<run>]/<stage>, milestones to <stage>-<step>, and some rows of
each step of reinforcement to private files. The embedded model makes its own rows, those of a constitution by
generate_data.py; for any other give your own files, one {"prompt": …, "completion": …} a line, and the endpoint of a judge.
"""

from dataclasses import replace
from functools import partial
from itertools import chain

from probes import store
from settings import command, flags
from train_settings import TrainSettings, data_of
from training.data.rows import licences
from training.generate.constitution import load_constitution
from training.milestones import chosen_steps
from training.plan import plan
from training.processes import here
from training.ready import ready
from training.recipes import find_recipe
from training.runs import runs, train_run


def main(settings: TrainSettings) -> None:
    """The data of all runs and what they are licensed under; then one run after another."""
    recipe, constitution = find_recipe(settings.recipe, settings.model), load_constitution(settings.constitution)
    if settings.plan:
        return print(plan(settings.entry, recipe, partial(data_of, settings, recipe), settings.files, flags(settings)))
    milestones = chosen_steps(recipe, settings.model, settings.milestones)
    store.check_folder(settings.trained)
    data = {
        run: [data_of(replace(settings, seed=run.seed), recipe, place) for place in range(len(recipe.stages))]
        for run in runs(recipe, settings.seed, settings.seeds, settings.source, settings.files)
    }
    here().print(*licences(chain(*chain(*data.values()))), sep="\n", flush=True)
    labels = [run.label for run in data]
    servers = settings.judge, settings.judge_model, settings.vllm
    judge, server = ready(settings.entry, recipe, settings.trained, *servers, labels)
    places = settings.trained, settings.folder / "samples"
    for run, rows in data.items():
        train_run(settings.model, recipe, run, rows, *places, judge, constitution, milestones, server)


if __name__ == "__main__":
    command(main, TrainSettings, __doc__)
