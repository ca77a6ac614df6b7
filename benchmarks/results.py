"""Results of benchmarks: a JSON file a benchmark, shape and kind of machine, and the tables that show them.

    python benchmarks/results.py

writes benchmarks/README.md again from the files under benchmarks/results/.
"""

from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from interleaved import DRAWS, Ratio
from machine import describe, kind
from probes import store
from probes.provenance import source_sha

RESULTS = Path(__file__).parent / "results"
FIELDS = ("benchmark", "figures", "machine", "model", "ratios", "settings", "source_sha")
INTRODUCTION = f"""# Benchmarks

What the package costs, against what one would otherwise run. `make bench` measures all of it on this machine (half an hour
on two cores, which nothing else should use meanwhile) and writes this page from the files under `results/`.
On a machine with a GPU, the shape of Qwen3-30B-A3B with random weights:

```bash
python benchmarks/capture_overhead.py --shape qwen3-30b-a3b --texts 256
python benchmarks/padding_waste.py --shape qwen3-30b-a3b --texts 2048 --batch-tokens 16384
```

A ratio is the median over pairs that were run in turns (A B B A …), with a bootstrap 95 % interval ({DRAWS:,} draws of the
pairs); below 1 the first takes less. Medians of each side stand beside it. All raw values are in the files.
"""


@dataclass(frozen=True)
class Figure:
    """One quantity, measured once or more."""

    what: str
    unit: str
    values: tuple[float, ...]
    goal: float | None = None
    """The median is to be at most this."""


def result_parser(description: str | None) -> ArgumentParser:
    """The flags of every benchmark."""
    parser = ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random, intervals included")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    return parser


def save(
    benchmark: str,
    model: dict[str, Any],
    settings: dict[str, Any],
    ratios: Sequence[Ratio],
    figures: Sequence[Figure],
    folder: Path = RESULTS,
) -> Path:
    """Write the results of this machine under folder/<kind of machine>/, and the tables of all results beside the folder."""
    machine = describe()
    result = {
        "benchmark": benchmark, "machine": machine, "model": model, "settings": settings, "source_sha": source_sha(),
        "ratios": [asdict(one) for one in ratios], "figures": [asdict(one) for one in figures],
    }  # fmt: skip
    path = store.write_json(folder / kind(machine) / f"{benchmark}_{model['name']}.json", result)
    write_page(folder)
    return path


def write_page(folder: Path) -> Path:
    """The tables of all results under a folder, as README.md beside it."""
    found = [(path.parent.name, store.read_json(path)) for path in sorted(folder.glob("*/*.json"))]
    return store.write_text(folder.parent / "README.md", page(found))


def page(results: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """Markdown of results, each with its kind of machine, in the order given."""
    lines, last = [INTRODUCTION], ""
    for machine, result in results:
        lines += [f"## {machine}\n"] if machine != last else []
        lines += [_section(result)]
        last = machine
    return "\n".join(lines)


def _section(result: dict[str, Any]) -> str:
    settings = ", ".join(f"{name} {_shown(value)}" for name, value in result["settings"].items())
    lines = [
        f"### {result['benchmark']}, {result['model']['name']}",
        "",
        _machine(result["machine"]),
        f"Settings: {settings}.",
    ]
    if result["ratios"]:
        rows = [_ratio_row(one) for one in result["ratios"]]
        lines += ["", *_table(("what", "against", "unit", "ratio", "goal", "pairs", "medians"), rows)]
    if result["figures"]:
        rows = [_figure_row(one) for one in result["figures"]]
        lines += ["", *_table(("what", "unit", "median", "range", "goal", "n"), rows)]
    return "\n".join(lines) + "\n"


def _machine(machine: dict[str, Any]) -> str:
    gpu = f"{machine['gpu']} ({machine['gpu_memory_gb']} GB), " if machine["gpu"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{gpu}{machine['cpu']}, {machine['cores']} cores, threads {machine['threads']}, {machine['memory_gb']} GB; {versions}."


def _ratio_row(one: dict[str, Any]) -> tuple[str, ...]:
    shown = f"{one['median']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
    sides = f"{_shown(median(one['values']))} / {_shown(median(one['against_values']))}"
    goal = _goal(one["median"], one["goal"])
    return one["what"], one["against"], one["unit"], shown, goal, str(len(one["values"])), sides


def _figure_row(one: dict[str, Any]) -> tuple[str, ...]:
    values, middle = one["values"], median(one["values"])
    spread = f"{_shown(min(values))} – {_shown(max(values))}" if len(values) > 1 else ""
    return one["what"], one["unit"], _shown(middle), spread, _goal(middle, one["goal"]), str(len(values))


def _goal(value: float, goal: float | None) -> str:
    return "" if goal is None else f"≤ {_shown(goal)}: {'met' if value <= goal else 'not met'}"


def _shown(value: Any) -> str:
    """Four digits that count of a number; anything else as it is."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


if __name__ == "__main__":
    print(write_page(RESULTS))
