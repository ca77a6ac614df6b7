"""The doctor finds each fault that capture code was published with, and nothing in an engine that has none."""

import json
import subprocess
import sys
from functools import partial

import pytest
import torch

import fake_vllm
from faulty_engines import (
    ColumnOffset,
    DeltaExtension,
    ElementZero,
    ElementZeroBare,
    LateExtension,
    LayerOffByOne,
    NoMask,
    NormedLast,
    OverwritingExtension,
    PrefixesKept,
    PrefixRowsForgotten,
    ReusedBuffer,
    SavedWithoutCopy,
    SortingExtension,
    VLLMWith,
)
from probes import activations, doctor
from probes.__main__ import main
from probes.directions import EmotionProbes, load_probes
from probes.doctor import Doctor, Line, Verdict, examine, examined, read_verdict
from probes.errors import ConventionError, FileFormatError
from probes.lm import checks, load
from probes.lm.checks import CHECKS, line_of, verdict
from probes.lm.engines import start
from probes.lm.parity import case_of
from small_model import ARCHITECTURES, save_small_model, small_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The small model as a folder, which vLLM reads by itself."""
    return save_small_model(tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def model(saved):
    return load(saved)


@pytest.fixture(autouse=True)
def no_vllm_but_a_fake_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", fake_vllm.module())


def by_name(found):
    return {line.check: line for line in found.lines}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_healthy_engine_is_green_on_every_architecture(architecture):
    found = verdict(start("transformers_hooks", small_model(0, architecture)))
    assert found.red == [], "\n".join(map(str, found.lines))
    lines = by_name(found)
    assert sum(line.status == "green" for line in found.lines) >= 9
    assert (lines["routing flips between batch sizes"].status == "green") == ("moe" in architecture)
    assert lines["chunked prefill"].status == "does not apply"
    assert lines["chunked prefill"].figure is None


def test_a_healthy_vllm_is_green_and_needs_no_weights_beside_its_own(model, saved, tmp_path):
    engine, path = start("vllm", load(saved, device="meta")), tmp_path / "original.json"
    assert examined(engine, path, reference=lambda: model).examined == {"doctor": "green"}
    found = read_verdict(path)
    assert found.red == [], "\n".join(map(str, found.lines))
    lines = by_name(found)
    healthy = ("chunked prefill", "engine against engine", "routing flips between engines")
    assert {lines[name].status for name in healthy} == {"green"}
    assert {lines[name].status for name in ("tensor against tuple", "prefix cache")} == {"does not apply"}
    assert found.about["device"] == "cpu"
    with pytest.raises(ConventionError, match="is to vouch for it: load the same one"):
        verdict(engine, reference=small_model(1))


FAULTS = {
    "left-padding column offset": (ColumnOffset, "left padding against right"),
    "element 0 of a tensor": (ElementZero, "tensor against tuple"),
    "element 0 of a tensor, without its axis": (ElementZeroBare, "batch against single"),
    "layer off by one": (LayerOffByOne, "layer i is hidden_states[i + 1]"),
    "normed last layer": (NormedLast, "last layer un-normed"),
    "missing mask": (NoMask, "attention mask honoured"),
    "prefixes cached": (PrefixesKept, "prefix cache"),
    "prefix-cache rows missing": (PrefixRowsForgotten, "prefix cache"),
    "later chunk overwrites earlier": (partial(VLLMWith, extension=OverwritingExtension), "chunked prefill"),
    "residual not summed": (partial(VLLMWith, extension=DeltaExtension), "layer i is hidden_states[i + 1]"),
    "residual summed after the next layer": (
        partial(VLLMWith, extension=LateExtension),
        "layer i is hidden_states[i + 1]",
    ),
    "buffer mutated after saving": (SavedWithoutCopy, "outputs stay as given"),
    "buffer mutated by the next pass": (ReusedBuffer, "outputs stay as given"),
    "results sorted by id": (partial(VLLMWith, extension=SortingExtension), "results in the order of the texts"),
}


@pytest.mark.parametrize("precision", ["model", "in_bfloat16"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_turns_its_line_red(fault, precision, request):
    faulty, name = FAULTS[fault]
    found = line_of(name, CHECKS[name], case_of(faulty(request.getfixturevalue(precision))))
    assert found.status == "red", found
    assert found.figure is None or found.figure > 0.1


@pytest.fixture(scope="module")
def in_bfloat16(saved):
    return load(saved, dtype=torch.bfloat16)


# ---- precision, attention and adapters -------------------------------------------------------------------------------


def test_another_precision_leaves_the_weights_as_they_were(model):
    before = {name: weight.clone() for name, weight in model.network.state_dict().items()}
    found = {name: line_of(name, CHECKS[name], case_of(start("transformers_hooks", model)))
             for name in ("dtype", "routing flips between dtypes")}  # fmt: skip
    after = model.network.state_dict()
    assert all(
        torch.equal(weight, after[name]) and weight.dtype == after[name].dtype for name, weight in before.items()
    )
    assert {line.status for line in found.values()} == {"reported"}
    assert 1e-4 < found["dtype"].figure < 0.5
    assert "least cosine 0.9" in found["dtype"].why


def test_an_attention_that_leaves_out_the_soft_cap_is_red():
    """Gemma 2 by transformers' own default; lm.load takes the plain attention for it."""
    model = small_model(0, "gemma2")
    assert model.network.config._attn_implementation == "eager"
    model.network.set_attn_implementation("sdpa")
    for block in model.blocks:
        block.self_attn.attn_logit_softcapping = 1.0  # random logits are small: a cap that they feel
    found = line_of("attention kernel", CHECKS["attention kernel"], case_of(start("transformers_hooks", model)))
    assert found.status == "red"
    assert model.network.config._attn_implementation == "sdpa"


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A base, and a random adapter on its attention and experts, as a folder."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapted")
    save_small_model(folder / "base")
    experts = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    config = LoraConfig(r=2, target_modules=["q_proj", "o_proj"], target_parameters=experts, init_lora_weights=False)
    get_peft_model(small_model().network, config).save_pretrained(folder / "adapter")
    return folder


@pytest.mark.parametrize(("scale", "status"), [(1.0, "green"), (1.1, "red")])
def test_a_merged_adapter_is_held_against_the_attached_one(adapted, scale, status):
    from probes.lm.checkpoints import Checkpoint
    from probes.lm.model import load
    from probes.lm.weights import merge_adapter

    attached = checks.attached_states(
        Checkpoint(str(adapted / "base"), "antirefusal", None, adapted / "adapter"), None, None
    )
    merged = load(adapted / "base")
    merge_adapter(merged.network, adapted / "adapter")
    merged.blocks[0].self_attn.o_proj.weight.data *= scale  # as a merge at another scale would
    line = by_name(verdict(start("transformers_hooks", merged), attached))["adapter merged against attached"]
    assert line.status == status, line


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    return save_small_model(tmp_path / "model")


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["probes", "doctor", *map(str, arguments)])
    main()


def test_the_command_prints_a_line_a_check_and_writes_the_verdict(folder, tmp_path, monkeypatch, capsys):
    run(monkeypatch, folder, "--out", tmp_path / "verdict.json")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("model/original")
    assert len(lines) == 1 + len(CHECKS) + 1 + 1
    assert lines[-1].endswith("does not apply")
    assert "0 red" in lines[-1]
    assert "\033" not in "".join(lines)
    found = read_verdict(tmp_path / "verdict.json")
    assert found.red == []
    assert found.about["weights"] == found.about["base_sha"]
    assert str(tmp_path) not in (tmp_path / "verdict.json").read_text()


def test_red_ends_with_exit_code_1_and_json_is_json(folder, monkeypatch, capsys):
    monkeypatch.setattr("probes.lm.engines.start", lambda _name, model, _whole: LayerOffByOne(model))
    with pytest.raises(SystemExit, match="lines are red: layer i is hidden_states"):
        run(monkeypatch, folder, "--json")
    found = json.loads(capsys.readouterr().out)
    assert {line["status"] for line in found["lines"]} >= {"red", "green", "does not apply", "reported"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["tinny"], "UnknownNameError: unknown model 'tinny'. Did you mean 'tiny'"),
     (["tiny/antirefusal"], "MissingInputError: tiny/antirefusal is not under any folder")],
)  # fmt: skip
def test_what_is_not_there_is_named_in_one_line(arguments, words, monkeypatch):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, *arguments)
    assert str(ended.value).startswith(words)
    assert "\n" not in str(ended.value)


def test_every_flag_has_a_sentence(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--help")
    helped = " ".join(capsys.readouterr().out.split())
    for flag in ("--engine", "--checkpoints", "--dtype", "--device", "--json", "--out"):
        assert flag in helped
    assert "the reference is transformers_hooks" in helped


def test_help_does_not_wait_for_torch():
    code = "import probes.__main__, sys; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# ---- what a verdict does ---------------------------------------------------------------------------------------------


def a_verdict(about, *red):
    return Verdict(about, tuple(Line(name, "red", 1.0, 1e-5, "") for name in red))


def test_activations_say_what_the_doctor_found(model, tmp_path):
    path, engine = tmp_path / "doctor" / "original.json", start("transformers_hooks", model)
    assert "doctor" not in activations.describe(model, engine)
    assert activations.describe(model, examined(engine, path))["doctor"] == "green"
    assert read_verdict(path).red == []


def test_a_verdict_is_made_once(model, tmp_path, monkeypatch):
    path = tmp_path / "original.json"
    examined(start("transformers_hooks", model), path)
    monkeypatch.setattr(checks, "verdict", lambda *_given, **_more: pytest.fail("examined again"))
    assert examined(start("transformers_hooks", model), path).examined == {"doctor": "green"}


@pytest.mark.parametrize("key", [*doctor.EXAMINED, "versions"])
def test_a_verdict_on_something_else_is_made_anew(model, tmp_path, key, monkeypatch):
    engine = start("transformers_hooks", model)
    about = {**checks.about_engine(engine), key: "another"}
    path = a_verdict(about, "results in the order of the texts").save(tmp_path / "original.json")
    monkeypatch.setattr(checks, "verdict", lambda engine, reference: a_verdict(checks.about_engine(engine)))
    assert examined(engine, path).examined == {"doctor": "green"}
    assert read_verdict(path).about[key] != "another"


@pytest.mark.parametrize("key", doctor.EXAMINED)
def test_a_verdict_says_nothing_of_something_else(model, key):
    elsewhere = a_verdict({**activations.describe(model), key: "another"})
    with pytest.raises(ConventionError, match=f"on something else: {key} \\('another', here "):
        elsewhere.summary_for(activations.describe(model))


def test_nothing_is_read_by_a_red_engine_without_a_reason(model, tmp_path):
    path, engine = tmp_path / "original.json", LayerOffByOne(model)
    for reason in ("", " "):
        with pytest.raises(
            ConventionError, match=r"of the doctor are red \(layer i is hidden_states.*--despite-red REASON"
        ):
            examined(engine, path, reason)
    assert engine.examined == {}
    about = activations.describe(model, examined(engine, path, "of no matter here"))
    assert about["doctor"].startswith("red: layer i is hidden_states[i + 1]")
    assert about["despite_red"] == "of no matter here"


def test_probes_of_a_red_engine_need_a_reason_which_their_card_keeps(synthetic_activations, tmp_path):
    values = torch.randn(8, 2, 6, generator=torch.Generator().manual_seed(0)).numpy()
    about = {"doctor": "red: results in the order of the texts", "start_token": 50, "dropped_short": 0}
    stories = synthetic_activations(values, emotion=["calm", "happy"] * 4, about=about)
    probes = EmotionProbes("difference_of_means").fit(stories)
    for reason in ("", "  "):
        with pytest.raises(ConventionError, match="doctor found red: results in the order of the texts"):
            probes.save(tmp_path / "probes.safetensors", reason)
    assert not list(tmp_path.iterdir())
    told = EmotionProbes("difference_of_means").fit(stories.assign_attrs(despite_red="the activations say why"))
    assert load_probes(told.save(tmp_path / "told.safetensors")).about_["despite_red"] == "the activations say why"
    probes.save(tmp_path / "probes.safetensors", "order does not matter to a mean <b>")
    again = load_probes(tmp_path / "probes.safetensors")
    assert again.about_["despite_red"] == "order does not matter to a mean <b>"
    assert "written all the same: order does not matter to a mean &lt;b&gt;" in again._repr_html_()


def test_a_file_that_is_no_verdict_is_refused(tmp_path):
    path = tmp_path / "verdict.json"
    for text in (
        "[]",
        "{}",
        '{"kind": "verdict", "schema": 2}',
        '{"kind": "verdict", "schema": 1, "about": {}, "lines": [3]}',
    ):
        path.write_text(text)
        with pytest.raises(FileFormatError, match="no verdict of the doctor"):
            read_verdict(path)


def test_a_verdict_reads_back_as_written(folder, tmp_path):
    found = examine(Doctor(str(folder), dtype="bfloat16"))
    assert read_verdict(found.save(tmp_path / "verdict.json")) == found
    assert found.about["dtype"] == "torch.bfloat16"
