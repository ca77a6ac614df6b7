"""A built wheel holds everything and imports where nothing else of this repository is."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    subprocess.run([sys.executable, *build], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_it_imports_elsewhere_and_loads_the_embedded_model(unpacked, tmp_path):
    code = (
        "import probes, evals, training; from probes import lm; "
        "print(probes.__file__, len(probes.load_pairs()), lm.load('tiny').entry.layers)"
    )
    environment = {"PYTHONPATH": str(unpacked), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": ""}
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    place, pairs, layers = shown.stdout.split()
    assert Path(place).is_relative_to(unpacked)
    assert (int(pairs) >= 60, int(layers)) == (True, 8)


def test_it_holds_data_weights_and_typing_marks_and_no_tests(unpacked):
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    wanted = {"data/emotions.csv", "data/topics.csv", "data/pairs.jsonl", "py.typed", "lm/tiny/CARD.md"}
    wanted |= {f"lm/tiny/{stage}/model.safetensors" for stage in ("base", "instruct")}
    assert {f"probes/{name}" for name in wanted} <= names
    assert "training/tiny/data/phrases.jsonl" in names
    layouts = ("one_gpu.yaml", "eight_gpus_fsdp2.yaml", "eight_gpus_zero3.yaml", "two_nodes_fsdp2.yaml", "slurm.sh")
    assert {f"training/launch/{name}" for name in layouts} <= names
    assert not [name for name in names if "test" in Path(name).name and name.endswith(".py")]
