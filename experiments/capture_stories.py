"""Run the stories through the model that wrote them and keep the mean residual stream of each, at every layer.

    python experiments/capture_stories.py --model tiny

Writes activations/emotional.safetensors and activations/neutral.safetensors. Stories enter as raw text.
"""

from probes.activations import capture, save_activations
from probes.lm import load
from probes.stories import load_stories
from settings import Settings, command


def main(settings: Settings) -> None:
    """Both kinds of texts, with the preset's start token and layers."""
    model, size = load(settings.model), settings.size
    layers = settings.layers or ("all" if size.layers == "all" else settings.entry.report_layers)
    for kind in ("emotional", "neutral"):
        stories = load_stories(settings.stories(kind))
        activations = capture(model, stories, layers, size.start_token)
        save_activations(settings.activations(kind), activations)
        print(
            f"{kind}: {activations.sizes['sample']} of {len(stories)} captured; {activations.attrs['dropped_short']} too short"
        )


if __name__ == "__main__":
    command(main, Settings, __doc__)
