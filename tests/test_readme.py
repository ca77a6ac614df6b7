"""What the README says is run: its snippet, its two commands' targets, and every script it names."""

import re
import subprocess
from pathlib import Path
from typing import get_args

import pytest
import tyro

from behaviour_examples import ExamplesSettings
from behaviour_over_training import BehaviourTrainingSettings
from declare_claims import DeclareSettings
from export_checkpoint import ExportSettings
from fetch_rows import FetchSettings
from hide_and_show import PromptedSettings
from organism_settings import OrganismSettings
from over_training import OverTrainingSettings
from rehearsal import RehearsalSettings
from replay_evals import ReplaySettings
from reproduce import STEPS
from run_evals import EvalSettings
from seen_phrasings import SeenSettings
from settings import Settings, ShardedSettings
from sharded import RunSettings, Step
from train_settings import TrainSettings
from translate_questions import TranslateSettings
from writer_settings import WritingSettings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"(?:`|^)(python experiments/\S+\.py[^`|\n]*|make \w+[^`#\n]*)", README, flags=re.MULTILINE)
COMMANDS += [
    f"python {c}" for c in re.findall(r"^torchrun --nproc-per-node \d+ (experiments/.*)", README, flags=re.MULTILINE)
]

BESIDE = {
    "over_training": "test_training_curves", "export_checkpoint": "test_export", "fetch_rows": "test_sources",
    "replay_evals": "test_emotion_scatter", "capture_replies": "test_experiments", "recipe_table": "test_experiments",
    "direction_free": "test_experiments", "probe_columns": "test_experiments",
    "swap_texts": "test_experiments", "seen_phrasings": "test_experiments", "text_likelihood": "test_experiments",
    "run_evals": "test_evals_suite", "behaviour_bars": "test_evals_suite", "translate_questions": "test_evals_serving",
    "behaviour_contrasts": "test_evals_figures", "judge_agreement": "test_evals_figures",
    "behaviour_over_training": "test_behaviour_over_training", "behaviour_examples": "test_evals_examples",
    **dict.fromkeys(
        ("train_organisms", "read_organisms", "judge_organisms", "score_organisms", "hide_and_show"), "test_organisms"
    ),
    "rehearsal": "test_rehearsal", "sharded": "test_shards", "own_stories": "test_own_stories",
}  # fmt: skip
"""Scripts that are no step of the job, and the tests that run them."""
KINDS = {
    "train_checkpoint": TrainSettings, "over_training": OverTrainingSettings, "export_checkpoint": ExportSettings,
    "fetch_rows": FetchSettings, "run_evals": EvalSettings, "declare_claims": DeclareSettings,
    "replay_evals": ReplaySettings,
    "translate_questions": TranslateSettings,
    "seen_phrasings": SeenSettings,
    "behaviour_over_training": BehaviourTrainingSettings,
    **dict.fromkeys(("train_organisms", "read_organisms", "judge_organisms", "score_organisms"), OrganismSettings),
    "hide_and_show": PromptedSettings,
    "behaviour_examples": ExamplesSettings, "rehearsal": RehearsalSettings, "sharded": RunSettings,
    **dict.fromkeys(get_args(Step), ShardedSettings),
    **dict.fromkeys(("write_stories", "write_replies", "own_stories"), WritingSettings),
}  # fmt: skip


def test_the_snippet_runs(capsys):
    snippet = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(snippet) == 1
    exec(compile(snippet[0], "README.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "text_baseline" in shown
    assert "n_questions" in shown


@pytest.mark.parametrize("command", [c.strip() for c in COMMANDS if c.startswith("make")])
def test_make_targets_exist_and_run_the_scripts_that_tests_run(command):
    shown = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert any(script in shown for script in ("experiments/reproduce.py --model", "tests/check_all.py", "benchmarks/"))
    if "MODEL=qwen3-30b-a3b" in command:
        assert "--model qwen3-30b-a3b --preset paper" in shown


@pytest.mark.parametrize("command", [c.strip() for c in COMMANDS if c.startswith("python")])
def test_every_script_named_is_run_by_tests_and_takes_these_flags(command):
    script, *flags = command.removeprefix("python experiments/").split()
    name = script.removesuffix(".py")
    assert name in STEPS or name in (ROOT / "tests" / f"{BESIDE[name]}.py").read_text(encoding="utf-8")
    tyro.cli(KINDS.get(name, Settings), args=flags)


def test_every_step_is_in_the_readme():
    named = {re.sub(r"python experiments/(\w+)\.py.*", r"\1", command) for command in COMMANDS}
    assert set(STEPS) <= named
    assert {"make figures", "make test", "make bench"} <= {command.strip() for command in COMMANDS}


def test_ci_calls_the_readmes_test_command_and_nothing_else():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[-1] == "make test"
    assert all(line.startswith(("#!", "set -e", "cd ")) for line in lines[:-1])
