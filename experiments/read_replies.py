"""Read the emotion probes on every checkpoint's answers.

    python experiments/read_replies.py --model tiny --layers 5 6

Writes readings/<checkpoint>.parquet: one row a reply, layer, emotion and readout.
"""

from probes.activations import capture
from probes.directions import load_probes
from probes.lm import family
from probes.readings import save_readings
from probes.replies import load_replies
from settings import Settings, command


def main(settings: Settings) -> None:
    """Each checkpoint's replies, in that checkpoint."""
    probes = load_probes(settings.probes)
    for model in family(settings.model, settings.trained, settings.checkpoints):
        replies = load_replies(settings.replies(model.checkpoint.name))
        readings = probes.read(capture(model, replies, settings.shown_layers))
        save_readings(settings.readings(model.checkpoint.name), readings)
        print(f"{model.address}: {len(readings)} readings by probes of {readings.attrs['probes']}")


if __name__ == "__main__":
    command(main, Settings, __doc__)
