"""How probable is each text to the checkpoint that it is read in? What is forced may be what it would never write.

    python experiments/text_likelihood.py --model tiny

Runs after write_replies. Writes replies/<checkpoint>.likelihood.csv, the mean log-probability a token of every answer and forced
text, and figures/<model>/text_likelihood/: means by checkpoint, source and arm with intervals over questions, and a heatmap.
"""

import pandas as pd

from probes import store
from probes.figures import write_figure
from probes.lm import Model, family, load
from probes.lm.likelihood import mean_log_probabilities
from probes.provenance import provenance
from probes.replies import load_replies
from probes.text_likelihood import SCORED, likelihood_heatmap, likelihood_table
from settings import Settings, command


def score(settings: Settings, model: Model) -> pd.DataFrame:
    """Every reply of a checkpoint with how probable its text is there."""
    name = model.checkpoint.name
    passages, kept, labels = load_replies(settings.replies(name)).passages()
    about = {"model": model.name, "evidence": model.entry.evidence, "weights": model.weights}
    lengths = [len(passage.span) for passage in passages]
    rows = labels.iloc[kept].assign(**about, n_tokens=lengths, log_p=mean_log_probabilities(model, passages))
    store.write_table(settings.replies(name).with_suffix(".likelihood.csv"), rows[list(SCORED)])
    return rows


def main(settings: Settings) -> None:
    """Each checkpoint scores what is read in it; one is in memory at a time."""
    members = family(settings.model, settings.trained, settings.with_original)
    scored = pd.concat([score(settings, load(checkpoint)) for checkpoint in members])
    table, folder = likelihood_table(scored), settings.figure_folder("text_likelihood")
    inputs = {member.name: settings.replies(member.name) for member in members}
    print(
        *write_figure(folder, "likelihood", table, likelihood_heatmap(table), provenance(settings, {}, inputs)),
        sep="\n",
    )
    means = table.pivot(index=["text_source", "arm"], columns="checkpoint", values="mean")
    print(means.round(2).to_string())


if __name__ == "__main__":
    command(main, Settings, __doc__)
