"""Everything from nothing to the figures, in one process.

    python experiments/reproduce.py --model tiny
    python experiments/reproduce.py --model qwen3-30b-a3b --preset paper

Prints what will be done, its cost and what is missing on this machine; runs step by step, stops with a named error at the
first step that cannot be done here, and says how long each took.
"""

import importlib
import time
from dataclasses import dataclass, replace

import tyro

from declare_claims import DeclareSettings
from generate_data import GenerateSettings
from probes.lm.checkpoints import parse_name
from settings import command
from train_settings import TrainSettings
from training.recipes import is_embedded, recipes
from writer_settings import WriterSettings

STEPS = (
    "write_stories", "capture_stories", "capture_controls", "fit_probes", "validate_probes", "validity_report", "generate_data",
    "train_checkpoint", "check_gates", "declare_claims", "write_replies", "read_replies", "emotion_similarity",
    "similarity_by_layer", "emotion_gap", "ethics_follow_up", "verdict",
)  # fmt: skip


@dataclass(frozen=True)
class ReproduceSettings(TrainSettings, GenerateSettings, DeclareSettings, WriterSettings):
    """The shared flags, who writes, the researcher's files and endpoints; every recipe of --checkpoints is trained."""

    recipe: tyro.conf.Suppress[str] = ""
    source: tyro.conf.Suppress[str] = ""
    plan: tyro.conf.Suppress[bool] = False


def plan(settings: ReproduceSettings) -> str:
    """What will be done, its cost and what is missing here."""
    from probes.cost import estimate, missing

    lacking = [*missing(settings.entry, settings.files), *lacking_endpoints(settings)]
    cost = estimate(settings.entry, settings.size, len(settings.with_original), settings.rates)
    head = f"{settings.entry.name}, preset {settings.size.name}, layers {', '.join(map(str, settings.shown_layers))}"
    return "\n  ".join([head, *cost, *(f"missing: {what}" for what in lacking)])


def lacking_endpoints(settings: ReproduceSettings) -> list[str]:
    """Endpoints that a model other than the embedded ones needs and that were not named."""
    if is_embedded(settings.model):
        return []
    wanted = {"endpoint": "somebody to write training data", "judge": "a judge"}
    return [f"{who}: --{flag} http://localhost:8000/v1" for flag, who in wanted.items() if not getattr(settings, flag)]


def run_step(step: str, settings: ReproduceSettings) -> float:
    """One step; seconds it took."""
    start, main = time.perf_counter(), importlib.import_module(step).main
    wanted = {parse_name(name)[0] for name in settings.checkpoints}
    trained = [replace(settings, recipe=one) for one in recipes(settings.model) if one in wanted]
    for each in trained if step == "train_checkpoint" else [settings]:
        main(each)
    return time.perf_counter() - start


def main(settings: ReproduceSettings) -> None:
    """Plan, steps, times."""
    print(plan(settings), flush=True)
    seconds = {}
    for place, step in enumerate(STEPS, 1):
        print(f"\n[{place}/{len(STEPS)}] {step}", flush=True)
        seconds[step] = run_step(step, settings)
    kind = "stand-in: the embedded model, to check the pipeline" if settings.entry.evidence == "toy" else "real model"
    print("", *(f"{value:7.1f} s  {step}  ({kind})" for step, value in seconds.items()), sep="\n")


if __name__ == "__main__":
    command(main, ReproduceSettings, __doc__)
