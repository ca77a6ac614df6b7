"""Benchmarks: statistics and padding by their definitions, the same work done every way, and what stands in a results file."""

import json
import os
import platform
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tyro
from scipy.stats import binom

import calibration
import capture_overhead
import engine_parity
import evals_time
import fake_vllm
import fit_time
import flip_time
import job_time
import padding_waste
import reproduce
import results
import run_evals
from interleaved import Ratio, in_turns, interval, ratio, seconds, turns
from machine import forget_peak, held_mb, kind, peak_mb
from passes import bare_trunk, hidden_states, means_of, padded
from probes.directions import EmotionProbes
from probes.errors import DataError
from probes.lm.capture import Passage, capture
from probes.lm.generate import batches
from shapes import lengths, random_weights, shape_of
from small_model import save_small_model, small_model

ROOT = Path(__file__).parents[1]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*/*.json"))
ABSOLUTE = r"(?:^|[\s\"'=:])/\w"


# ---- pairs -----------------------------------------------------------------------------------------------------------


def test_turns_are_a_b_b_a():
    assert turns(4) == "ABBAABBA"
    assert turns(3) == "ABBAAB"


def test_values_are_kept_with_their_pair():
    calls = []

    def way(name):
        def measure():
            calls.append(name)
            return float(len(calls))

        return measure

    first, second = in_turns(way("A"), way("B"), 3, "test")
    assert "".join(calls) == "ABBAAB"
    assert (first, second) == ((1.0, 4.0, 5.0), (2.0, 3.0, 6.0))


def test_ratio_is_the_median_of_ratios_and_not_the_ratio_of_medians():
    got = ratio("ours", "theirs", "s", (1.0, 8.0, 3.0), (2.0, 2.0, 1.0), seed=0, goal=None)
    assert got.median == 3.0
    assert (got.low, got.high) == (0.5, 4.0)  # with three pairs the interval is all of them


@pytest.mark.parametrize("n", [5, 7, 11])
def test_interval_is_where_the_bootstrap_median_is(n):
    """Drawn n times with replacement, at least (n + 1) / 2 are among the j smallest with a binomial probability."""
    ratios = np.random.default_rng(n).lognormal(size=n)
    below = [binom.sf((n - 1) / 2, n, j / n) for j in range(1, n + 1)]  # P(median ≤ j-th smallest)
    want = [np.sort(ratios)[np.searchsorted(below, q)] for q in (0.025, 0.975)]
    assert interval(ratios.tolist(), seed=0) == pytest.approx(want)


def test_interval_is_of_95_percent_and_hangs_on_the_seed_alone():
    rng = np.random.default_rng(0)
    intervals = [interval(rng.normal(1, 0.1, 15).tolist(), seed=1) for _ in range(60)]
    assert 0.85 <= np.mean([low <= 1 <= high for low, high in intervals]) <= 1
    assert np.mean([high - low for low, high in intervals]) < 0.2
    values = [1.0, 1.2, 0.9, 1.1]
    assert interval(values, seed=3) == interval(values, seed=3)


def test_seconds_are_of_the_work_and_its_bars_are_not_shown(capsys):
    assert 0 <= seconds(lambda: print("bar", file=sys.stderr)) < 60
    assert capsys.readouterr().err == ""


# ---- padding ---------------------------------------------------------------------------------------------------------


def test_padding_by_hand():
    """Budget 12. As they arrive: [2 6] [3 3 4] [6]; sorted: [6 6] [4 3 3] [2]."""
    tokens = [2, 6, 3, 3, 4, 6]
    arrived = padding_waste.as_they_arrive(tokens, 12)
    assert arrived == [[0, 1], [2, 3, 4], [5]]
    assert padding_waste.waste(tokens, arrived) == pytest.approx(1 - 24 / (12 + 12 + 6))
    by_length = padding_waste.grouped(tokens, 12)[padding_waste.SORTED]
    assert by_length == [[1, 5], [4, 2, 3], [0]]
    assert padding_waste.waste(tokens, by_length) == pytest.approx(1 - 24 / (12 + 12 + 2))
    assert padding_waste.waste([5, 5], [[0, 1]]) == 0


def test_a_text_over_the_budget_is_a_batch_of_its_own():
    assert padding_waste.as_they_arrive([30, 2, 2], 10) == [[0], [1, 2]]


def test_lengths_are_those_of_stories():
    drawn = np.array(lengths(4000, 0))
    assert np.median(drawn) == pytest.approx(180, rel=0.03)
    assert np.log(drawn).std() == pytest.approx(0.2, rel=0.1)
    assert lengths(50, 0) == lengths(50, 0) != lengths(50, 1)


# ---- the same work ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def passages():
    rng = np.random.default_rng(0)
    return [Passage(rng.integers(0, 400, n).tolist(), range(2, n)) for n in (9, 30, 14, 14, 22)]


def test_what_capture_is_held_against_gives_the_same_means(model, passages):
    ours = capture(model, passages)["mean"]
    work = capture_overhead.ways(model, passages, 64)
    for name in (capture_overhead.STATES, capture_overhead.LOOP):
        np.testing.assert_allclose(work[name]()[:, :-1], ours[:, :-1], rtol=1e-4, atol=1e-5)
    for name in (capture_overhead.LENS, capture_overhead.TRACE):
        np.testing.assert_allclose(work[name](), ours, rtol=1e-4, atol=1e-5)
    reported = ours[:, list(model.entry.report_layers)]
    for name in (capture_overhead.LENS_REPORTED, capture_overhead.TRACE_REPORTED, capture_overhead.STOPPED):
        np.testing.assert_allclose(work[name](), reported, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(
        work[capture_overhead.CAPTURE]()["mean"], capture(model, passages, batch_tokens=64)["mean"]
    )
    assert set(work[capture_overhead.BOTH]()) == {"mean", "unit_mean"}
    assert tuple(work) == capture_overhead.WAYS == capture_overhead.ALL_WAYS


def test_the_bare_pass_is_the_trunk_on_the_batches_of_capture(model, passages):
    made = padded(model, passages, batches([len(p.token_ids) for p in passages], 64))
    seen, shapes = [], []
    head = model.network.lm_head.register_forward_hook(lambda *_: pytest.fail("the LM head was run"))
    trunk = model.blocks[-1].register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape[:2])))
    try:
        bare_trunk(model, made)
        shapes, seen[:] = list(seen), []
        capture(model, passages, batch_tokens=64)
    finally:
        head.remove()
        trunk.remove()
    assert shapes == seen
    assert [len(batch.rows) for batch in made] == [rows for rows, _ in seen]


def test_hidden_states_are_put_where_their_texts_are(model, passages):
    made = padded(model, passages, [[3], [0, 4], [2, 1]])
    np.testing.assert_allclose(
        means_of(made, partial(hidden_states, model)),
        means_of(padded(model, passages, [[0, 1, 2, 3, 4]]), partial(hidden_states, model)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_components_by_svd_are_those_of_the_package():
    neutral = fit_time.random_neutral(shape_of("tiny", None), 30, 0)["mean"].values[:, 3].astype(float)
    ours, theirs = fit_time.neutral_components(neutral, 0.5), fit_time.components_by_svd(neutral, 0.5)
    np.testing.assert_allclose(ours.T @ ours, theirs.T @ theirs, atol=1e-12)


def test_the_textbook_finds_the_p_values_of_the_package(monkeypatch):
    monkeypatch.setattr("probes.flips.EXACT_FLIPS", 1)
    differences = flip_time.random_differences(30, 40, 0)
    ours = flip_time.flip_tests(differences, 200).p_adjusted
    np.testing.assert_allclose(ours, flip_time.textbook_step_down(differences, 200))


def test_what_is_fitted_has_the_shape_asked_for():
    entry = shape_of("qwen3-30b-a3b", 2)
    assert (entry.name, entry.layers, entry.width) == ("qwen3-30b-a3b-2-layers", 2, 2048)
    fitted = EmotionProbes().fit(fit_time.random_moments(entry, 0), fit_time.random_neutral(entry, 192, 0))
    assert fitted.directions_.shape == (171, 2, 2048)
    assert all(3 <= count <= 12 for count in fitted.components_.values)


def test_layers_are_for_random_weights():
    with pytest.raises(DataError, match="--layers is for random weights"):
        shape_of("tiny", 3)


def test_random_weights_have_the_true_sizes(monkeypatch):
    """On the meta device, which holds shapes alone: 30.5 billion parameters, as the model's card says."""
    import shapes

    monkeypatch.setattr(shapes, "DEVICE", "meta")
    model = random_weights(shape_of("qwen3-30b-a3b", None), 0)
    assert model.network.num_parameters() == pytest.approx(30.53e9, rel=1e-3)
    assert (len(model.blocks), model.entry.width) == (48, 2048)


# ---- the job ---------------------------------------------------------------------------------------------------------


def test_steps_are_read_as_the_job_prints_them(monkeypatch, capsys, tmp_path):
    taken = {step: 0.37 * 3**i for i, step in enumerate(reproduce.STEPS)}
    monkeypatch.setattr(reproduce, "run_step", lambda step, settings: taken[step])
    reproduce.main(reproduce.ReproduceSettings(out=tmp_path / "runs", figures=tmp_path / "figures"))
    got = job_time.step_seconds(capsys.readouterr().out)
    assert list(got) == list(reproduce.STEPS)
    assert got == pytest.approx(taken, abs=0.06)


def test_the_job_is_run_with_flags_it_takes_in_a_folder_that_goes(monkeypatch):
    commands = []

    def run(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "    1.5 s  fit_probes  (stand-in)\n", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert job_time.run_job(7) == {"fit_probes": 1.5}
    assert commands[0][1] == ROOT / "experiments" / "reproduce.py"
    taken = tyro.cli(reproduce.ReproduceSettings, args=commands[0][2:])
    assert (taken.model, taken.seed) == ("tiny", 7)
    assert not taken.out.parent.exists()
    assert taken.figures.parent == taken.out.parent


def test_a_job_that_fails_ends_the_benchmark(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", "no room"))
    with pytest.raises(SystemExit, match=r"the job failed:\nno room"):
        job_time.run_job(0)


def test_evaluations_are_run_by_the_code_of_each_checkout_in_a_folder_that_goes(monkeypatch):
    commands = []

    def run(command, env, **_):
        commands.append((command, env["PYTHONPATH"]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    for root in (ROOT, Path("other")):
        assert evals_time.run_evals(root).processor == 0
    assert [command[1] for command, _ in commands] == [
        root / "experiments" / "run_evals.py" for root in (ROOT, Path("other"))
    ]
    assert [path for _, path in commands] == [str(ROOT / "src"), "other/src"]
    taken = tyro.cli(run_evals.EvalSettings, args=commands[0][0][2:])
    assert (taken.model, taken.judge, taken.evals) == ("tiny", ("scripted",), ())
    assert not taken.out.exists()
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", "no room"))
    with pytest.raises(SystemExit, match=r"the evaluations failed:\nno room"):
        evals_time.run_evals(ROOT)


def test_steps_of_all_runs_and_their_sum():
    got = {one.what: one.values for one in job_time.figures([{"a": 1.0, "b": 2.5}, {"a": 3.0, "b": 0.5}])}
    assert got == {"a": (1.0, 3.0), "b": (2.5, 0.5), "all steps": (3.5, 3.5)}


# ---- results ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    ratios = [Ratio("ours", "theirs", "s", (1.0, 1.25), (1.0, 1.0), 1.125, 1.0, 1.25, 1.02)]
    figures = [results.Figure("fit", "s", (1.5, 1.0, 3456.0), 2.0), results.Figure("batches", "batches", (4,))]
    return results.save("some", {"name": "tiny"}, {"texts": 2048}, ratios, figures, tmp_path / "results")


def check_result(text: str) -> dict:
    """What every results file holds, and what it never does."""
    result = json.loads(text)
    assert sorted(result) == sorted(results.FIELDS)
    assert set(result["machine"]) == {"cpu", "cores", "threads", "memory_gb", "gpu", "gpu_memory_gb", "versions"}
    assert not re.search(ABSOLUTE, text), "an absolute path"
    for one in result["ratios"]:
        assert one["low"] <= one["median"] <= one["high"]
        assert one["median"] == pytest.approx(np.median(np.divide(one["values"], one["against_values"])))
    assert all(one["values"] for one in result["figures"])
    return result


def test_a_results_file_has_the_fields_and_no_name_of_the_machine(saved):
    text = saved.read_text()
    result = check_result(text)
    assert saved.name == "some_tiny.json"
    assert saved.parent.name == kind(result["machine"]) == f"cpu-{os.cpu_count()}-cores"
    private = {platform.node(), os.environ.get("USER", ""), str(ROOT), str(Path.home()), str(saved.parent)} - {""}
    assert not [name for name in private if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)]


def test_absolute_paths_are_found():
    assert re.search(ABSOLUTE, f'"folder": "{Path("tmp/x").absolute()}"')
    assert not re.search(ABSOLUTE, "s / pair, 3/4 and a/b")


def test_the_tables_say_what_the_files_do(saved):
    shown = (saved.parents[2] / "README.md").read_text()
    assert "| ours | theirs | s | 1.125 [1.000, 1.250] | ≤ 1.02: not met | 2 | 1.125 / 1 |" in shown
    assert "| fit | s | 1.5 | 1 – 3,456 | ≤ 2: met | 3 |" in shown
    assert "| batches | batches | 4 |  |  | 1 |" in shown
    assert "Settings: texts 2,048." in shown


def test_kinds_of_machines():
    assert kind({"gpu": "NVIDIA H200", "cores": 16}) == "nvidia-h200"
    assert kind({"gpu": None, "cores": 2}) == "cpu-2-cores"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_committed_results(path):
    result = check_result(path.read_text())
    assert path.parent.name == kind(result["machine"])
    assert path.stem == f"{result['benchmark']}_{result['model']['name']}"


def test_the_page_is_that_of_the_files():
    shown = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    found = [(path.parent.name, json.loads(path.read_text())) for path in RESULTS]
    assert shown == results.page(found), "run python benchmarks/results.py"


def test_main_measures_and_writes(monkeypatch, tmp_path, capsys):
    """Every benchmark at its smallest; peaks and the job, which are processes of their own, are given."""
    peaks = {way: [{"loaded": 100.0, "peak": 110.0 + i}] for i, way in enumerate(capture_overhead.WAYS)}
    monkeypatch.setattr(capture_overhead, "peaks", lambda given, runs: peaks)
    monkeypatch.setattr(job_time, "run_job", lambda seed: {"fit_probes": 1.0})
    monkeypatch.setattr(evals_time, "run_evals", lambda root: evals_time.Run(2.0, 1.0 if root == ROOT else 4.0))
    out = ["--out", str(tmp_path / "results")]
    capture_overhead.main(["--texts", "3", "--pairs", "1", *out])
    padding_waste.main(["--texts", "6", "--pairs", "1", "--batch-tokens", "600", *out])
    fit_time.main(["--runs", "1", "--pairs", "1", *out])
    job_time.main(["--runs", "2", *out])
    monkeypatch.setitem(sys.modules, "vllm", fake_vllm.module())
    engine_parity.main(["--model", str(save_small_model(tmp_path / "tiny")), "--engines", "vllm", *out])
    evals_time.main(["--pairs", "2", *out])
    monkeypatch.setattr(evals_time, "commit", lambda checkout: "0123abc" if checkout else "nothing")
    evals_time.main(["--pairs", "2", "--against", "other", *out])
    sizes = ("--runs", "--pairs", "--questions", "--flips", "--textbook-flips")
    flip_time.main([word for size in zip(sizes, "11999", strict=True) for word in size] + out)
    calibration.main(["--data-sets", "3", "--questions", "10", "11", "--cells", "7", *out])
    found = {path.stem: check_result(path.read_text()) for path in tmp_path.glob("results/*/*.json")}
    names = ("capture_overhead", "padding_waste", "fit_time", "flip_time", "job_time", "evals_time", "engine_parity")
    assert set(found) == {f"{name}_tiny" for name in names} | {"calibration_simulated"}
    errors = {one["what"]: one["values"] for one in found["calibration_simulated"]["figures"]}
    assert len(errors) == len(calibration.DRAWS) * (9 + 2 + 1)
    assert all(len(values) == 2 and 0 <= min(values) <= max(values) <= 1 for values in errors.values())
    compared = [(one["what"], one["against"], one["unit"]) for one in found["capture_overhead_tiny"]["ratios"]]
    pairs = capture_overhead.PAIRS
    assert compared[: len(pairs)] == [(a, b, "s") for a, b in pairs]
    own = [pair for pair in pairs if "TransformerLens" not in pair[1]]  # it runs a network of its own
    assert compared[len(pairs) :] == [(f"{a}, peak memory", b, "MB") for a, b in own]
    assert [one["median"] for one in found["evals_time_tiny"]["ratios"]] == [0.25, 1]
    above = [one["values"] for one in found["capture_overhead_tiny"]["figures"]]
    *peaks_above, means, states = above
    assert peaks_above == [[10.0 + i] for i in range(len(capture_overhead.ALL_WAYS))]
    assert 0 < means[0] < states[0]
    shares = [one["values"][0] for one in found["padding_waste_tiny"]["figures"][:2]]
    assert 0 <= shares[0] <= shares[1] < 1


# ---- other machines --------------------------------------------------------------------------------------------------


def test_memory_is_of_this_process():
    block = np.ones(20_000_000)  # 160 MB
    before = held_mb()  # the kernel counts to a megabyte or so
    assert before > block.nbytes / 1e6
    del block
    assert held_mb() < before - 150
    assert peak_mb() > before - 2
    forget_peak()
    assert peak_mb() < before - 150


def test_capture_and_fit_run_without_what_a_gpu_machine_may_lack():
    """One way in a process of its own, as for peak memory, with the packages blocked that training and figures need."""
    blocked = "import sys; sys.modules.update(dict.fromkeys(('datasets', 'trl', 'tyro', 'plotly', 'nnsight')))"
    flags = ["--texts", "2", "--peak-of", capture_overhead.CAPTURE]
    code = f"{blocked}; import fit_time, padding_waste, capture_overhead; capture_overhead.main({flags})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "benchmarks", capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert 0 < found["loaded"] < found["peak"] + 2


def test_make_bench_runs_every_benchmark():
    shown = subprocess.run(["make", "bench", "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    ran = set(re.findall(r"benchmarks/(\w+)\.py", shown))
    assert ran == {
        "capture_overhead",
        "padding_waste",
        "fit_time",
        "flip_time",
        "calibration",
        "job_time",
        "evals_time",
        "engine_parity",
    }
    assert ran >= {path.stem.rpartition("_" + json.loads(path.read_text())["model"]["name"])[0] for path in RESULTS}
