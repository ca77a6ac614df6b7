"""Read the emotion probes on what every checkpoint said in the evaluations, beside what its answers count for.

    python experiments/replay_evals.py --model tiny --layers 5 6

Puts the logs of run_evals.py through the checkpoints that wrote them. Writes evals/behaviour_and_emotion.parquet (a row an
answer, metric, layer, emotion and readout, with the self-report) and figures/<model>/behaviour_and_emotion/layer_5.* a layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from evals.emotion_scatter import emotion_scatter, scatter_table
from evals.replay import beside_scores, logs_behind, replay
from evals.tables import ANSWER_COLUMNS, answer_table
from probes import store
from probes.directions import load_probes
from probes.emotions import PANEL
from probes.figure_tables import of_emotions
from probes.figures import write_figure
from probes.lm import Checkpoint, Engine, family
from probes.parts import Parts
from probes.provenance import provenance
from read_replies import with_anchored
from settings import Settings, command


@dataclass(frozen=True)
class ReplaySettings(Settings):
    """The shared flags, and what is kept."""

    emotions: tuple[str, ...] = PANEL
    """Emotions in the table; the first four are drawn. All 171 at two layers are 2,000 rows an answer and metric."""
    spans: tuple[Literal["answer", "thinking"], ...] = ("answer",)
    """What is read of each turn; thinking only of what was run with reasoning."""

    def replayed(self, checkpoint: str, jobs: Sequence[tuple[Path, str]]) -> Parts:
        """The work on a checkpoint's logs, kept under a name of its own."""
        inputs = map(store.sha256, (self.probes, self.gates(checkpoint), self.gates("original")))
        logs = [(store.sha256(log), span) for log, span in jobs]
        plan = {"logs": logs, "inputs": [*inputs], "layers": self.shown_layers, "emotions": self.emotions}
        return self.parts(self.folder / "evals/replayed" / f"{checkpoint}-{store.hash_of(plan)[:12]}.parquet", plan)


def read_log(settings: ReplaySettings, engine: Engine, log: Path, span: str) -> pd.DataFrame:
    """Readings of a span of one log beside what it counts for."""
    activations = replay(engine.model, log, settings.shown_layers, span, engine=engine)
    rows = of_emotions(load_probes(settings.probes).read(activations), settings.emotions)
    return beside_scores(with_anchored(settings, rows, engine.model.checkpoint.name), activations, answer_table([log]))


def read(settings: ReplaySettings, checkpoint: Checkpoint, jobs: Sequence[tuple[Path, str]]) -> Callable[[Path], Path]:
    """All logs of a checkpoint, as what saves their table; the model is gone afterwards."""
    with settings.reading(checkpoint) as engine:
        table = pd.concat([read_log(settings, engine, *job) for job in jobs], ignore_index=True)
    return lambda path: store.write_bytes(path, table.to_parquet(index=False))


def main(settings: ReplaySettings) -> None:
    """A checkpoint at a time, then the table of all and a figure of each layer."""
    (probes := load_probes(settings.probes)).check_layers(settings.shown_layers)
    folder, drawn, paths = settings.folder / "evals", settings.figure_folder("behaviour_and_emotion"), []
    answers = store.read_table(folder / "answers.csv", ANSWER_COLUMNS)
    for one in family(settings.model, settings.trained, settings.checkpoints):
        jobs = [(log, span) for span in settings.spans for log in logs_behind(answers, one.name, span, folder)]
        (parts := settings.replayed(one.name, jobs)).ensure(lambda one=one, jobs=jobs: read(settings, one, jobs))
        paths.append(parts.target)
    table = pd.concat(map(pd.read_parquet, paths), ignore_index=True)
    print(store.write_bytes(folder / "behaviour_and_emotion.parquet", table.to_parquet(index=False)))
    about = provenance(settings, probes.about_, {"answers": folder / "answers.csv", "probes": settings.probes})
    for layer in settings.shown_layers:
        shown = scatter_table(table, layer, settings.emotions[:4])
        print(*write_figure(drawn, f"layer_{layer}", shown, emotion_scatter(shown), about), sep="\n")


if __name__ == "__main__":
    command(main, ReplaySettings, __doc__)
