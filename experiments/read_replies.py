"""Read the emotion probes on every checkpoint's answers.

    python experiments/read_replies.py --model tiny --layers 5 6

Writes readings/<checkpoint>.parquet: one row a reply, layer, emotion and readout.
"""

from probes.activations import capture
from probes.directions import load_probes
from probes.lm import family, load
from probes.readings import save_readings
from probes.replies import load_replies
from settings import Settings, command


def main(settings: Settings) -> None:
    """Each checkpoint's replies, in that checkpoint."""
    probes = load_probes(settings.probes)
    for checkpoint in family(settings.model, settings.trained, settings.checkpoints):
        replies = load_replies(settings.replies(checkpoint.name))
        activations = capture(load(checkpoint), replies, settings.shown_layers)
        readings = probes.read(activations)
        save_readings(settings.readings(checkpoint.name), readings)
        transferred = ", fitted on another checkpoint of it" if probes.is_transfer(activations.attrs) else ""
        print(f"{checkpoint.address}: {len(readings)} readings by probes of {probes.source()}{transferred}")


if __name__ == "__main__":
    command(main, Settings, __doc__)
