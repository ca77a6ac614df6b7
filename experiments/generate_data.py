"""Generate training data from a constitution: questions with answers, and documents.

    python experiments/generate_data.py --model tiny
    python experiments/generate_data.py --model qwen3-30b-a3b --endpoint http://localhost:8000/v1 --generator-model Qwen/Qwen3-32B

Writes training_data/{constitution_qa,documents}.jsonl with yields and a manifest. A killed run goes on where it stopped.
"""

from dataclasses import dataclass
from typing import Literal

from probes.errors import MissingInputError
from settings import Settings, command
from training.generate.constitution import load_constitution
from training.generate.design import find_design
from training.generate.scripted import ASSISTANT, ScriptedWriter
from training.generate.steps import Steps, Writer
from training.generate.training_data import generate, plan, summary


@dataclass(frozen=True)
class GenerateSettings(Settings):
    """The shared flags, the constitution, and who writes."""

    constitution: str = "helpful_only"
    """helpful_only, hhh, or the path of a text of your own."""
    generator: Literal["scripted", "endpoint"] | None = None
    """By default scripted for the embedded models and endpoint for others."""
    endpoint: str = ""
    """Address of an OpenAI-compatible endpoint; a key, if it wants one, stands in OPENAI_API_KEY."""
    generator_model: str = ""
    """Name by which the endpoint knows the generating model."""
    concurrency: int = 64
    """Requests in flight."""

    @property
    def data_writer(self) -> Writer:
        if (self.generator or ("scripted" if self.entry.evidence == "toy" else "endpoint")) == "scripted":
            return ScriptedWriter()
        if not (self.endpoint and self.generator_model):
            raise MissingInputError("nobody writes: give --endpoint http://localhost:8000/v1 and --generator-model.")
        from training.generate.endpoint import Endpoint, EndpointWriter

        at = Endpoint(self.endpoint, self.generator_model, seed=self.seed, concurrency=self.concurrency)
        return EndpointWriter(at)


def main(settings: GenerateSettings) -> None:
    """All steps, in parts that survive a kill; the manifest comes last."""
    constitution, design = load_constitution(settings.constitution), find_design(settings.size.name)
    writer, name = settings.data_writer, ASSISTANT if settings.entry.evidence == "toy" else settings.entry.name
    manifest = settings.folder / "training_data" / "manifest.json"
    parts = settings.parts(manifest, plan(constitution, design, writer, name))
    parts.ensure(lambda: generate(Steps(writer, parts), constitution, design, name).save)
    print(summary(manifest))


if __name__ == "__main__":
    command(main, GenerateSettings, __doc__)
