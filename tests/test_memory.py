"""A model that does not fit is refused before it is read, with both numbers; each process of a machine has its own GPU."""

from pathlib import Path

import pytest
import torch

from probes import lm, store
from probes.errors import TooLargeError, UnknownNameError
from probes.lm import memory
from probes.lm.checkpoints import model_entry
from probes.lm.memory import check_memory, free_bytes, total_bytes
from probes.lm.model import placement
from probes.lm.weights import parameters, weights_sha
from small_model import save_small_model


@pytest.fixture(scope="module")
def entry(tmp_path_factory):
    return model_entry(str(save_small_model(tmp_path_factory.mktemp("model"))))


def test_numbers_are_counted_from_the_heads_of_files(entry):
    assert parameters(entry) == sum(weights.numel() for weights in lm.load(entry.source).network.parameters())


def test_a_model_that_fits_exactly_is_read_and_one_byte_less_refuses_it(entry, monkeypatch):
    needed = 4 * parameters(entry)
    monkeypatch.setattr(memory, "free_bytes", lambda device: needed)
    check_memory(entry, torch.float32, ["cpu"])
    monkeypatch.setattr(memory, "free_bytes", lambda device: needed - 1)
    check_memory(entry, torch.bfloat16, ["cpu"])
    with pytest.raises(TooLargeError, match=r"in float32, and cpu has .* GB free. Nothing was loaded"):
        check_memory(entry, torch.float32, ["cpu"])


def test_the_refusal_says_both_numbers_and_ways_out_and_nothing_is_read(entry, monkeypatch):
    monkeypatch.setattr(memory, "parameters", lambda entry: 30_532_122_624)
    monkeypatch.setattr("probes.lm.model.load_base", lambda *given: pytest.fail("weights were read"))
    monkeypatch.setattr(memory, "free_bytes", lambda device: 23_500_000_000)
    with pytest.raises(
        MemoryError, match=r"takes 122.1 GB in float32, and cpu has 23.5 GB free.* in bfloat16 \(61.1 GB\), on a GPU"
    ):
        lm.load(entry.source)
    with pytest.raises(
        TooLargeError, match=r"takes 61.1 GB in bfloat16, and cpu has 23.5 GB free. Nothing was loaded. Load it on a"
    ):
        lm.load(entry.source, dtype=torch.bfloat16)


def test_a_model_without_weights_takes_nothing(entry, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 0)
    assert lm.load(entry.source, device="meta").devices == ("meta",)


def test_files_that_stay_as_they_are_are_hashed_once(tmp_path, monkeypatch):
    entry, hashed = model_entry(str(save_small_model(tmp_path))), []
    sha256 = store.sha256
    monkeypatch.setattr(store, "sha256", lambda path: (hashed.append(path), sha256(path))[1])
    first = weights_sha(entry)
    assert weights_sha(entry) == first
    assert len(hashed) == 1
    save_small_model(tmp_path, seed=1)
    assert weights_sha(entry) != first


def test_memory_of_the_machine():
    assert 0 < free_bytes("cpu") <= total_bytes("cpu")


def group(folder: Path, limit: str, used: int = 0, droppable: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {droppable}\n")


def test_limits_of_a_container_or_a_job_count(tmp_path):
    root, own = tmp_path / "cgroup", tmp_path / "own"
    own.write_text("1:cpu:/elsewhere\n0::/slurm/job_1/step_0\n")
    assert memory._left_in_cgroups(root, own) == []
    group(root / "slurm" / "job_1", "1000", used=700, droppable=200)  # the job's limit, above the step's own group
    group(root / "slurm" / "job_1" / "step_0", "max")
    assert memory._left_in_cgroups(root, own) == [500]
    assert memory._left_in_cgroups(root, tmp_path / "none") == []


def test_each_process_of_a_machine_has_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert placement() == (torch.bfloat16, "cuda")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert placement() == (torch.bfloat16, "cuda:3")
    assert placement(device="cpu") == (torch.float32, "cpu")
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(UnknownNameError, match=r"unknown device 'cuda:4'.*cuda:3"):
        placement()
