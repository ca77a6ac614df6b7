"""Time of the whole job on the embedded model, by step, from nothing to the figure.

    python benchmarks/job_time.py

Each run is a process and a folder of its own; a step's time is what experiments/reproduce.py prints of it, and holds no
start of Python. A run takes a minute or two, so that there are few.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from probes.lm.checkpoints import MODELS
from results import Figure, result_parser, save

SCRIPT = Path(__file__).parents[1] / "experiments" / "reproduce.py"


def step_seconds(printed: str) -> dict[str, float]:
    """Seconds of each step, in order, from the last lines of the job."""
    return {step: float(value) for value, step in re.findall(r"^ *(\d+\.\d) s  (\w+)  \(", printed, re.MULTILINE)}


def run_job(seed: int) -> dict[str, float]:
    """The job once, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--model", "tiny", "--seed", str(seed), "--out", f"{folder}/runs", "--figures", f"{folder}/figures"]
        done = subprocess.run([sys.executable, SCRIPT, *flags], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the job failed:\n{done.stderr[-2000:]}")
    return step_seconds(done.stdout)


def figures(jobs: Sequence[dict[str, float]]) -> list[Figure]:
    """Every step over the runs, and their sum."""
    steps = [Figure(step, "s", tuple(job[step] for job in jobs)) for step in jobs[0]]
    return [*steps, Figure("all steps", "s", tuple(round(sum(job.values()), 1) for job in jobs))]


def main(given: Sequence[str]) -> None:
    """Some runs, one after the other."""
    parser = result_parser(__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs of the job")
    settings = parser.parse_args(given)
    entry = MODELS["tiny"]
    jobs = [run_job(settings.seed) for _ in tqdm(range(settings.runs), desc="job", unit="run")]
    model = {"name": entry.name, "layers": entry.layers, "width": entry.width}
    print(save("job_time", model, {"runs": settings.runs, "seed": settings.seed}, [], figures(jobs), settings.out))


if __name__ == "__main__":
    main(sys.argv[1:])
