"""The scripts, run for real: the whole job on the embedded model, twice, and the two controls on ourselves.

Controls: with random-initialised twins in place of the model, and with harmful and benign swapped in half of the
questions, what the job would put in its headline collapses into its noise.
"""

import importlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tyro
from scipy.stats import t as student

import capture_replies
import direction_free
import probe_columns
import recipe_table
import reproduce
import seen_phrasings
import swap_texts
import text_likelihood
from probes import lm, store
from probes.activations import capture, load_activations, split
from probes.comparison import compare, t_interval
from probes.declaration import read_sealed
from probes.directions import EmotionProbes, load_probes
from probes.emotions import DOZEN, PANEL
from probes.errors import ConventionError
from probes.estimands import HALVES
from probes.figure_tables import read_figure_table
from probes.figures import similarity_bars
from probes.gates import GATE_COLUMNS, MEASURABLE, NOT_MEASURABLE
from probes.lm.model import random_twin
from probes.moments import load_moments
from probes.pairs import ARMS, prompts
from probes.readings import concat, load_readings
from probes.recipes import RECIPES
from probes.replies import Replies, load_replies
from probes.stories import load_stories
from read_replies import with_anchored
from settings import Settings, command
from training.recipes import recipes

ROOT = Path(__file__).parents[1]
CHECKPOINTS = Settings.checkpoints


def job_in(folder: Path) -> reproduce.ReproduceSettings:
    return reproduce.ReproduceSettings(out=folder / "runs", figures=folder / "figures")


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """The whole job, twice: here, where warnings are errors, and as the command of the README. Their folders.

    The second takes the checkpoints of the first, which is what a user has who runs it again, and 140 s of training less;
    that the same training gives the same bytes is shown by test_sft and test_train.
    """
    here, command_line = (tmp_path_factory.mktemp(name) for name in ("here", "command_line"))
    settings, trained = job_in(here), reproduce.STEPS.index("train_checkpoint") + 1
    for step in reproduce.STEPS[:trained]:
        reproduce.run_step(step, settings)
    for made in ("checkpoints", "samples"):
        shutil.copytree(here / "runs/tiny/tiny" / made, command_line / "runs/tiny/tiny" / made)
    flags = ("--out", command_line / "runs", "--figures", command_line / "figures")
    printed = command_line / "printed.log"
    with (
        printed.open("w") as log,
        subprocess.Popen(
            [sys.executable, "experiments/reproduce.py", *flags], cwd=ROOT, stdout=log, stderr=log
        ) as other,
    ):
        try:
            for step in reproduce.STEPS[trained:]:
                reproduce.run_step(step, settings)
        except BaseException:
            other.kill()
            raise
    assert other.returncode == 0, printed.read_text()[-2000:]
    return here, command_line


@pytest.fixture(scope="module")
def job(jobs):
    return job_in(jobs[0])


@pytest.fixture(scope="module")
def readings(job):
    return concat(load_readings(job.readings(name), job.shown_layers) for name in CHECKPOINTS)


@pytest.fixture(scope="module")
def summary(job):
    return pd.read_csv(job.replies("summary").with_suffix(".csv")).set_index(["checkpoint", "arm"])


def noise_bound(gaps):
    """The t value that the largest of so many null gaps stays below 95 times in 100 (Bonferroni, 71 degrees of freedom)."""
    return float(student.ppf(1 - 0.025 / len(gaps), 71))


def panel_gaps(readings, reference="benign", text_source="original"):
    """The numbers of the headline: harmful minus reference on the same text, as t values."""
    table = compare(readings, "harmful", reference)
    rows = table[table["emotion"].isin(PANEL) & (table["text_source"] == text_source) & (table["readout"] == "cosine")]
    return (rows["mean"] / ((rows["high"] - rows["mean"]) / 1.99)).to_numpy()


# ---- the job ---------------------------------------------------------------------------------------------------------


def test_most_stories_are_kept_and_every_emotion_has_some(job):
    stories, neutral = (load_stories(job.stories(kind)) for kind in ("emotional", "neutral"))
    assert len(stories.written) == 12 * 16 * 2
    assert len(stories) >= 0.8 * len(stories.written)
    assert {story.emotion for story in stories} == set(DOZEN)
    assert len(neutral) >= 0.8 * len(neutral.written)


def test_probes_read_stories_of_unseen_topics(job):
    score = pd.read_csv(job.probes.with_name("score.csv"))
    assert list(score["layer"]) == list(range(8))
    assert score["accuracy"].max() >= 0.5
    assert score["text_baseline"].between(0, 1).all()
    assert (score["chance"].round(4) == round(1 / 12, 4)).all()


@pytest.mark.parametrize("variant", ["antirefusal", "antirefusal_cqa", "antirefusal_cqa_sdf"])
def test_helpful_only_variants_answer_what_the_original_refuses_and_answer_rightly(variant, summary):
    assert summary.loc[("original", "harmful"), "refused"] >= 0.80
    assert summary.loc[(variant, "harmful"), "refused"] <= 0.05
    assert summary.loc[(variant, "harmful"), "right"] >= 0.85
    assert summary.loc[(variant, "benign"), "right"] >= 0.90


def test_the_benign_control_still_refuses(summary):
    assert summary.loc[("benign_control", "harmful"), "refused"] >= 0.60


def test_a_refusal_is_a_reason_and_not_an_answer(job, readings):
    replies = load_replies(job.replies("original"))
    refused = {reply.sample for reply in replies if reply.missing == "refused"}
    assert refused
    own = readings[readings["checkpoint"] == "original"]
    assert set(own.loc[own["missing"] == "refused", "sample"]) == refused
    compared = compare(own)
    row = compared[compared["text_source"] == "own"].iloc[0]
    assert row["n_missing"] >= len({sample.split("/")[0] for sample in refused if "/harmful/" in sample})


def test_the_forced_text_is_the_same_in_every_checkpoint(job):
    forced = [
        {reply.sample: reply.text for reply in load_replies(job.replies(name)) if reply.text_source == "original"}
        for name in CHECKPOINTS
    ]
    assert forced[0] == forced[1] == forced[2]
    assert len(forced[0]) == len(prompts(job.pairs, ARMS, controls=4)) == 11 * len(job.pairs)


def test_the_first_page_follows_the_sealed_family_and_its_control_reads_nothing_higher(job):
    folder, declared = job.figure_folder("verdict"), read_sealed(job.claims)
    verdicts, claims = pd.read_csv(folder / "verdicts.csv"), pd.read_csv(folder / "claims.csv")
    assert len(verdicts) == (len(CHECKPOINTS) - 1) * len(PANEL) * 2
    assert set(verdicts["family_sha"]) == {declared.sha256}
    assert set(claims["text_source"].dropna()) == {"own", "original"}
    assert set(claims["readout"].dropna()) == {"anchored_dot"}
    control = verdicts[verdicts["checkpoint"] == "benign_control"]
    assert set(control["verdict"]) <= {"nothing above δ", "inconclusive"}
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert "Toy units" in page
    assert "TOY MODEL" in page
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page.replace("&lt;", ""))


def test_the_family_of_the_job_is_measurable_and_its_control_reads_as_the_original(job):
    tables = {name: store.read_table(job.gates(name), GATE_COLUMNS) for name in CHECKPOINTS}
    shown = {name: table[table["layer"].isin(job.shown_layers)] for name, table in tables.items()}
    assert all(set(table["layer"]) == set(range(8)) for table in tables.values())
    assert (shown["original"]["gain_ratio"] == 1).all()
    for name in ("original", "antirefusal", "benign_control"):
        assert set(shown[name]["outcome"]) == {MEASURABLE}
    assert (shown["benign_control"]["gain_ratio"] - 1).abs().max() < 0.05


def test_anchored_readings_are_dot_products_in_the_checkpoints_own_unit(job, readings):
    cell = readings[(readings["emotion"] == "guilty") & (readings["layer"] == 6) & (readings["missing"] == "")]
    dots = cell[(cell["checkpoint"] == "antirefusal") & cell["readout"].isin(["dot", "anchored_dot"])]
    keyed = dots.set_index(["sample", "readout", "baseline"])["value"].unstack(["readout", "baseline"])
    gates = store.read_table(job.gates("antirefusal"), GATE_COLUMNS).set_index(["layer", "emotion"]).loc[(6, "guilty")]
    expected = (keyed[("dot", "none")] - gates["neutral"]) / gates["gain"]
    np.testing.assert_allclose(keyed[("anchored_dot", "own")], expected, atol=1e-5)


def test_what_the_original_alone_cannot_measure_is_still_counted_from_it(job, readings, tmp_path):
    """Only a checkpoint's own gates keep a cell out; a cell without a value would be counted as a missing answer."""
    outcomes = {"original": NOT_MEASURABLE, "antirefusal": MEASURABLE}
    for name, outcome in outcomes.items():
        table = store.read_table(job.gates(name), GATE_COLUMNS).assign(outcome=outcome)
        store.write_table(replace(job, out=tmp_path).gates(name), table)
    own = readings[(readings["checkpoint"] == "antirefusal") & (readings["missing"] == "")]
    anchored = with_anchored(replace(job, out=tmp_path), own[own["readout"] == "dot"], "antirefusal")
    assert set(anchored.loc[anchored["readout"] == "anchored_dot", "baseline"]) == {"own", "original"}
    assert anchored["value"].notna().all()


def test_readings_carry_what_is_needed_to_read_them_alone(readings):
    assert not readings.drop(columns="value").isna().any().any()
    assert set(readings["evidence"]) == {"toy"}
    assert set(readings["layer"]) == {5, 6}
    assert readings.groupby("checkpoint").size().nunique() == 1


def test_the_figure_is_stamped_and_is_drawn_again_from_its_csv(job):
    folder = job.figure_folder("emotion_similarity")
    table = read_figure_table(folder / "layers_5_6.csv")
    drawn = similarity_bars(table)
    kept = store.read_json(folder / "layers_5_6.json")
    assert drawn.to_plotly_json()["layout"]["title"]["text"] == kept["figure"]["layout"]["title"]["text"]
    assert "TOY MODEL" in str(kept["figure"]["layout"])
    assert kept["provenance"]["about"]["revision"]
    assert set(table["checkpoint"]) == set(CHECKPOINTS)


def test_validation_stands_beside_words_and_a_twin(job):
    folder = job.figure_folder("validation")
    scores = pd.read_csv(folder / "scores.csv")
    assert scores[["top1", "text_top1", "twin_top1", "chance_top1"]].notna().all().all()
    control = scores[(scores["stimuli"] == "questions") & (scores["span"] == "last_prompt")]
    assert (
        control["top1"].round(3) == control["chance_top1"].round(3)
    ).all()  # one prompt cannot tell twelve answers apart
    assert set(scores["layer"]) == set(range(8))
    kept = store.read_json(folder / "cosines_layers_5_6.json")
    assert "TOY MODEL" in str(kept["figure"]["layout"])


def test_no_file_of_the_job_names_a_place_of_this_machine(job):
    files = [path for path in job.figures.rglob("*") if path.suffix in {".json", ".csv", ".html"}]
    files += [path for path in job.folder.rglob("*") if path.suffix in {".json", ".jsonl", ".csv"}]
    assert len(files) > 10
    places = (str(job.out.parent).encode(), str(ROOT).encode(), str(Path.home()).encode() + b"/")
    assert not [path for path in files for place in places if place in path.read_bytes()]


def test_answers_are_private(job):
    assert {job.replies(name).stat().st_mode & 0o777 for name in CHECKPOINTS} == {0o600}


def test_a_rerun_gives_equal_bytes(jobs):
    first, second = (
        {path.relative_to(root): store.sha256(path) for part in ("runs", "figures") for path in (root / part).rglob("*.*")
         if path.suffix not in {".png", ".svg"}}
        for root in jobs
    )  # fmt: skip
    assert len(first) > 100
    assert first == second


# ---- controls on ourselves -------------------------------------------------------------------------------------------


def test_the_headline_is_there_before_it_can_collapse(readings):
    gaps = panel_gaps(readings)
    assert np.abs(gaps).max() > 2 * noise_bound(gaps)


def test_shuffled_labels_collapse_the_headline(readings):
    questions = sorted(set(readings["question"]))
    swapped = set(np.random.default_rng(0).permutation(questions)[: len(questions) // 2])
    swap = {"harmful": "benign", "benign": "harmful"}
    arms = [
        swap.get(arm, arm) if q in swapped else arm
        for arm, q in zip(readings["arm"], readings["question"], strict=True)
    ]
    gaps = panel_gaps(readings.assign(arm=arms))
    assert len(gaps) == len(CHECKPOINTS) * 2 * len(PANEL) * 2
    assert np.abs(gaps).max() < noise_bound(gaps)


def twin_study(job, seed):
    """The job with a random-initialised twin in place of the model: what it scores, and its gaps on the same texts.

    A twin writes no stories and no answers, so that it reads those of the model.
    """
    twin = random_twin(lm.load("tiny"), seed)
    stories, neutral = (
        capture(twin, load_stories(job.stories(kind)), "all", job.size.start_token) for kind in ("emotional", "neutral")
    )
    train, test = split(stories, by="topic", test=0.25, seed=0)
    accuracy = EmotionProbes().fit(train, neutral).score(test, train)["accuracy"].max()
    written = load_replies(job.replies("original"))
    forced = [r for r in written if r.text_source == "original" and r.arm in ("benign", "harmful")]
    own = Replies([replace(reply, model=twin.name, weights=twin.weights) for reply in forced])
    readings = EmotionProbes().fit(stories, neutral).read(capture(twin, own, job.shown_layers))
    table = compare(readings, "harmful", "benign")
    rows = table[table["emotion"].isin(PANEL) & (table["readout"] == "cosine")]
    return accuracy, rows["mean"].to_numpy()


def test_random_twins_collapse_the_headline(job):
    """A second sentence shifts the residual stream of any network, so that one twin alone shows gaps too, with narrow
    intervals over questions; which way they go is chance, and over twins they vanish."""
    accuracies, gaps = zip(*(twin_study(job, seed) for seed in range(5)), strict=True)
    ours = pd.read_csv(job.probes.with_name("score.csv"))["accuracy"].max()
    assert max(accuracies) < 0.5 * ours
    mean, _, high = t_interval(np.stack(gaps))
    standard_error = (high - mean) / student.ppf(0.975, len(gaps) - 1)
    assert np.abs(mean / standard_error).max() < student.ppf(1 - 0.025 / len(mean), len(gaps) - 1)


@pytest.fixture(scope="module")
def captured(job, tmp_path_factory):
    """A job whose streams of replies are kept: of two checkpoints, with figures of their own."""
    some = replace(job, checkpoints=("antirefusal",), figures=tmp_path_factory.mktemp("figures"))
    capture_replies.main(some)
    return some


def test_the_check_without_a_direction_runs_on_what_the_job_keeps(captured):
    direction_free.main(captured)
    folder = captured.figure_folder("direction_free")
    told, cosines, out = (pd.read_csv(folder / f"{name}.csv") for name in ("told_apart", "refusal", "refusal_out"))
    assert set(told["checkpoint"]) == {"original", "antirefusal"}
    assert set(told["contrast"]) == {"harmful − affect", "harmful − benign", " − ".join(HALVES)}
    assert told["mean"].between(0, 1).all()
    assert set(cosines["emotion"]) == set(DOZEN)
    assert set(out["recipe"]) == {"sofroniew", "sofroniew, refusal out"}


def test_conclusions_are_drawn_with_every_kind_of_probes(captured):
    probe_columns.main(captured)
    folder = captured.figure_folder("probe_columns")
    agreement, foretold = (pd.read_csv(folder / f"{name}.csv") for name in ("agreement", "realignment"))
    assert set(agreement["n_recipes"]) == {3}
    assert (
        agreement.loc[agreement["checkpoint"] == "original", "recipes_agree"] == 3
    ).mean() > 0.95  # nothing was changed
    assert (foretold.loc[foretold["checkpoint"] == "original", "foretold"] == 0).all()
    assert (foretold.loc[foretold["checkpoint"] == "antirefusal", "foretold"] > 0.2).all()


def test_a_gap_of_words_goes_with_their_author(captured):
    """The original refuses what is harmful, and its refusals read guilty wherever they are read."""
    swap_texts.main(captured)
    table = pd.read_csv(captured.figure_folder("swap_texts") / "conclusions.csv")
    rows = table[(table["reference"] == "affect") & (table["emotion"] == "guilty")].groupby(["checkpoint", "recipe"])[
        "mean"
    ]
    gap = rows.mean()
    for reader in ("original", "antirefusal"):
        assert gap[reader, "original"] > gap[reader, "antirefusal"] + 0.1


def test_gaps_on_trained_prompts_stand_beside_those_on_words_no_row_has(captured):
    settings = seen_phrasings.SeenSettings(out=captured.out, figures=captured.figures, checkpoints=("antirefusal",))
    seen_phrasings.main(settings)
    gaps, changes = (
        pd.read_csv(settings.figure_folder("seen_phrasings") / name) for name in ("layers_5_6.csv", "changes.csv")
    )
    assert set(gaps["text_source"]) == {f"same text, {name}" for name in ("trained on", "reworded", "shipped")}
    assert (gaps["n_questions"] >= 40).all()
    assert set(changes["checkpoint"]) == {"antirefusal"}
    keys = ["text_source", "layer", "emotion", "reference"]
    before, after = (gaps[gaps["checkpoint"] == name].set_index(keys)["mean"] for name in ("original", "antirefusal"))
    drawn = changes[changes["emotion"].isin(PANEL)].set_index(keys)["mean"]
    pd.testing.assert_series_equal(drawn.sort_index(), (after - before).sort_index(), check_exact=False, atol=1e-6)


def test_a_text_is_improbable_where_it_would_not_be_written(captured):
    text_likelihood.main(replace(captured, checkpoints=()))
    table = pd.read_csv(captured.figure_folder("text_likelihood") / "likelihood.csv")
    mean = table.set_index(["checkpoint", "text_source", "arm"])["mean"]
    assert (mean <= 0).all()
    assert mean["original", "original", "harmful"] < mean["original", "own", "harmful"]
    assert mean["original", "original", "harmful"] < mean["original", "original", "benign"]


def test_every_recipe_is_refitted_on_what_the_job_keeps(captured):
    recipe_table.main(captured)
    folder = captured.figure_folder("recipes")
    conclusions = pd.read_csv(folder / "conclusions.csv")
    assert set(conclusions["recipe"]) == set(RECIPES)
    assert (conclusions.groupby("recipe").size() == len(conclusions) / len(RECIPES)).all()
    assert "TOY MODEL" in str(store.read_json(folder / "layers_5_6.json")["figure"]["layout"])


def test_probes_of_the_job_are_those_of_its_stories(job):
    with job.reading() as engine:
        stories = load_stories(job.stories("emotional"))
        stories = capture(engine.model, stories, "all", job.size.start_token, engine=engine)
    fitted, kept = EmotionProbes().fit(stories, load_activations(job.activations("neutral"))), load_probes(job.probes)
    np.testing.assert_allclose(fitted.directions_.values, kept.directions_.values, atol=1e-5)


def test_held_out_stories_are_of_topics_that_the_scored_probes_have_not_seen(job):
    folds, held_out = (
        load_moments(job.activations("moments")).folds,
        load_activations(job.activations("held_out")),
    )
    assert {folds[topic] % 2 for topic in held_out["topic"].values} == {1}
    assert sorted(folds.values()) == sorted([*range(8)] * 2)
    n = pd.read_csv(job.probes.with_name("score.csv"))["n"]
    assert (n == held_out.sizes["sample"]).all()


def test_a_second_run_finds_everything_there(job, capsys):
    for step in (
        "write_stories",
        "capture_stories",
        "generate_data",
        "train_checkpoint",
        "check_gates",
        "write_replies",
    ):
        reproduce.run_step(step, job)
    shown = capsys.readouterr().out
    stages = sum(len(recipe.stages) for recipe in recipes("tiny").values())
    assert shown.count("already there") == 4 + 4 + 1 + stages + (len(CHECKPOINTS) - 1) + 2 * len(CHECKPOINTS)


# ---- the scripts as commands -----------------------------------------------------------------------------------------

NO_STEPS = (
    "settings",
    "train_settings",
    "writer_settings",
    "organism_settings",
    "verdict_inputs",
    "tour",
)  # shared, and test_tour's
SCRIPTS = sorted(path.stem for path in (ROOT / "experiments").glob("*.py") if path.stem not in NO_STEPS)


def settings_of(script: str) -> type[Settings]:
    """The flags of a script, as its last line names them."""
    module = importlib.import_module(script)
    (kind,) = re.findall(r"^    command\(main, (\w+), __doc__\)$", Path(str(module.__file__)).read_text(), re.MULTILINE)
    return getattr(module, kind)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_is_short_and_its_help_explains_every_setting(name, capsys):
    text = (ROOT / "experiments" / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 80
    assert f"python experiments/{name}.py" in text.split('"""')[1]
    with pytest.raises(SystemExit):
        tyro.cli(settings_of(name), args=["--help"])
    shown = re.sub(r"[│\s]+", " ", capsys.readouterr().out)
    options = shown.split("show this help message and exit")[1]
    explained = dict(re.findall(r" --([a-z]+) (.*?) ?\(default:", options))
    assert set(explained) >= {"model", "preset", "checkpoints", "layers", "seed", "out", "figures"}
    assert not [flag for flag, words in explained.items() if len(words.split()) < 4]


def test_the_large_model_gets_a_plan_and_a_named_error(tmp_path):
    flags = ("--model", "qwen3-30b-a3b", "--preset", "paper", "--out", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "experiments/reproduce.py", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "HF_HOME": str(tmp_path / "no_weights_here")},
    )
    assert done.returncode == 1
    for words in (
        "205,200",
        "61.0 GB",
        "missing: weights of Qwen/Qwen3-30B-A3B",
        "a GPU",
        "rows for antirefusal: --antirefusal",
    ):
        assert words in done.stdout
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith("MissingInputError: the weights of qwen3-30b-a3b are not on this")
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("script", "flags", "words"),
    [
        ("write_stories", ("--model", "tinny"), "Did you mean 'tiny'"),
        ("write_stories", ("--preset", "papers"), "Did you mean 'paper'"),
        ("write_stories", ("--out", "in_the_way"), "cannot use in_the_way"),
        ("capture_stories", (), "there is no file"),
        ("fit_probes", (), "there is no file"),
        ("train_checkpoint", ("--recipe", "antirefusel"), "Did you mean 'antirefusal'"),
        ("train_checkpoint", ("--model", "qwen3-30b-a3b"), "no rows for task 'antirefusal'"),
        ("check_gates", (), "there is no file"),
        (
            "train_checkpoint",
            ("--recipe", "base_math"),
            "tiny is an instruct model, and has no recipe 'base_math'; it has",
        ),
        ("train_checkpoint", ("--seeds", "0", "0"), "seeds 0, 0: name each once"),
        ("train_checkpoint", ("--source", "my set"), "'my set' cannot be the label of a run"),
        ("train_checkpoint", ("--source", "mine"), "no --antirefusal FILE says where"),
        ("train_checkpoint", ("--held_out", "nothing.jsonl"), "there is no file nothing.jsonl"),
        ("fetch_rows", (), "unknown source ''"),
        ("fetch_rows", ("--source", "gsm8"), "Did you mean 'gsm8k'"),
        ("fetch_rows", ("--source", "gsm8k"), "no files: name those"),
        ("fetch_rows", ("--source", "gsm8k", "--revision", "main", "--files", "a.parquet"), "'main' is no commit"),
        (
            "fetch_rows",
            ("--source", "gsm8k", "--revision", "ab" * 20, "--files", "a.parquet"),
            "hf download --repo-type",
        ),
        ("write_replies", (), "train_checkpoint.py --recipe antirefusal"),
        ("write_replies", ("--checkpoints", "orginal"), "Did you mean"),
        ("write_replies", ("--checkpoints", "antirefusal+seed1"), "--recipe antirefusal --model tiny --seeds 1"),
        ("write_replies", ("--checkpoints", "antirefusal+a.b"), "'a.b' cannot be the label of a run"),
        ("read_replies", (), "there is no file"),
        ("emotion_similarity", (), "read_replies.py"),
        ("similarity_by_layer", (), "read_replies.py"),
        ("emotion_gap", (), "read_replies.py"),
        (
            "train_checkpoint",
            ("--milestones", "2", "14", "15"),
            "milestones 15: steps of antirefusal's stages are sft 14",
        ),
        ("over_training", (), "no milestones of tiny/antirefusal are under runs/tiny/tiny/checkpoints"),
        ("over_training", ("--recipe", "antirefusel"), "Did you mean 'antirefusal'"),
    ],
)
def test_bad_input_ends_with_one_line_and_nothing_half_written(script, flags, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in_the_way").write_text("untouched")
    monkeypatch.setattr(sys, "argv", [script, *flags])
    module = importlib.import_module(script)
    with pytest.raises(SystemExit) as ended:
        command(module.main, settings_of(script), module.__doc__)
    message = str(ended.value.code)
    assert words in message
    assert "\n" not in message
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["in_the_way"]
    assert (tmp_path / "in_the_way").read_text() == "untouched"


def test_replies_of_another_checkpoint_are_not_read_as_this_ones(job):
    with pytest.raises(ConventionError, match=r"replies of tiny/benign_control .* given to tiny/original"):
        capture(lm.load("tiny"), load_replies(job.replies("benign_control")), [5])


def test_a_layer_out_of_range_is_named(job):
    with pytest.raises(IndexError, match=r"--layers \[8\]: tiny has block outputs 0 … 7"):
        importlib.import_module("read_replies").main(Settings(layers=(8,), out=job.out, figures=job.figures))
