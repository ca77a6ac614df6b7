"""The rehearsal: every stage once on the embedded model, what is red and why, and a page on which nothing runs."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch

import rehearsal as script
from probes import rehearsal, store
from probes.cost import ASSUMED, Rates, read_rates
from probes.errors import DataError
from probes.page import WATERMARK
from probes.presets import find_preset
from probes.rehearsal import Line, Rehearsal, Tools, rehearse
from probes.rehearsal_page import rehearsal_page
from probes.replies import Replies
from probes.stories import Stories, Story
from rehearsal import RehearsalSettings
from small_model import small_model
from test_replies import reply

TINY = find_preset("tiny")
TOOLS = Tools("vllm", lambda: pytest.fail("written"), "nnsight", lambda: pytest.fail("read"))


def empty(tmp_path, name="tiny") -> Rehearsal:
    return Rehearsal(name, TINY, tmp_path, TOOLS)


def test_the_script_rehearses_the_embedded_model(tmp_path, capsys):
    settings = RehearsalSettings(out=tmp_path, topics=2, per_cell=2, questions=1)
    script.main(settings)
    found = store.read_json(settings.rehearsal / "rehearsal.json")
    seen = [line["about"] for line in found["lines"]]
    for about in ("device", "disk", "weights", "doctor", "thinking off", "stories", "writing", "capture", "probes, layer 5",
                  "answers: refused", "answers after thinking: cut"):  # fmt: skip
        assert about in seen
    assert {line["status"] for line in found["lines"]} <= {"green", "amber"}
    assert (found["evidence"], found["preset"], found["about"]["model"]) == ("toy", "tiny", "tiny")
    rates = settings.rates
    said = "measured by the rehearsal with"
    rates_of = f"writing {said} transformers, reading {said} transformers_hooks"
    assert rates == Rates(found["rates"]["written"], found["rates"]["read"], rates_of)
    other = replace(settings, engine="nnsight").rates
    assert (other.written, other.read) == (rates.written, ASSUMED.read), (
        "the rate of another engine is not taken for its own"
    )
    assert "reading assumed: the rehearsal was with transformers_hooks" in other.source
    assert replace(settings, engine="nnsight", writer="vllm").rates is ASSUMED
    page = settings.rehearsal / "rehearsal.html"
    assert page.stat().st_mode & 0o777 == 0o600
    text = page.read_text()
    assert WATERMARK in text
    assert f"hours of one process at {rates.written:,.0f} tokens/s written and {rates.read:,.0f} read" in text
    assert "<script" not in text
    assert "http" not in text
    assert "written:" in capsys.readouterr().out


def test_what_is_missing_is_a_red_line_on_a_page_and_an_exit_code(tmp_path):
    settings = RehearsalSettings(model="qwen3-30b-a3b", preset="paper", out=tmp_path)
    with pytest.raises(SystemExit, match="Red, to be mended before the big run: stage machine"):
        script.main(settings)
    text = (settings.rehearsal / "rehearsal.html").read_text()
    assert "hf download Qwen/Qwen3-30B-A3B" in text
    assert "It ended before anything was measured" in text
    assert WATERMARK not in text
    assert settings.rates is ASSUMED


def test_a_stage_that_fails_is_red_and_the_ones_after_it_are_left_out(tmp_path, monkeypatch):
    def stage(name, error=None):
        def run(found):
            if error:
                raise error
            return [Line(name, "green", "well")]

        run.__name__ = name
        return run

    for error, words in (
        (DataError("no\ntext"), "DataError: no text"),
        (torch.OutOfMemoryError("full"), "OutOfMemoryError: full"),
    ):
        monkeypatch.setattr(rehearsal, "STAGES", (stage("a"), stage("b", error), stage("c")))
        found = rehearse(empty(tmp_path))
        assert [(line.about, line.found) for line in found.lines] == [("a", "well"), ("stage b", words)]
        assert found.red == ["stage b"]
        assert found.rates is None


def test_memory_and_disk_are_held_against_what_the_study_takes(tmp_path, monkeypatch):
    monkeypatch.setattr("probes.lm.weights.parameters", lambda entry: 30_500_000_000)
    monkeypatch.setattr("probes.lm.memory.free_bytes", lambda device: 125_000_000_000)
    monkeypatch.setattr(rehearsal, "free_disk", lambda folder: 80_000_000_000)
    found = replace(empty(tmp_path, "qwen3-30b-a3b"), size=find_preset("paper"))
    lines = {line.about: line for line in rehearsal.machine(found)}
    assert lines["memory of the device"].status == "red"  # 122 GB of weights and 3.2 GB of sums in 125
    assert (
        "weights 122.00 GB in float32, with second moments 125.22 GB; free 125.00 GB"
        in lines["memory of the device"].found
    )
    assert (lines["device"].status, lines["memory for merging"].status, lines["disk"].status) == (
        "amber",
        "green",
        "red",
    )


def written(count: int, **dropped: int) -> Stories:
    """Stories of which so many were dropped for each reason."""
    reasons = [reason for reason, times in dropped.items() for _ in range(times)]
    reasons += [""] * (count - len(reasons))
    return Stories([Story(f"happy/a/{i}", "happy", "a", "It rained.", reason) for i, reason in enumerate(reasons)], "m")


@pytest.mark.parametrize(
    ("dropped", "status", "fix"),
    [
        ({}, "green", ""),
        ({"cut": 2}, "green", ""),
        ({"cut": 3, "refusal": 2}, "amber", "story_tokens"),
        ({"refusal": 6}, "red", "declines"),
    ],
)
def test_dropped_stories_are_counted_with_their_reasons(dropped, status, fix):
    line = rehearsal._kept("stories", written(10, **dropped), TINY)
    assert line.status == status
    assert fix in line.fix
    assert bool(line.fix) == (status != "green")
    assert all(f"{reason} {count}" in line.found for reason, count in dropped.items())
    assert set(rehearsal.FIXES) == {"cut", "empty", "refusal", "names_emotion", "too_short", "near_duplicate"}


def test_answers_that_are_missing_are_counted_by_reason():
    arms = [("benign", ""), ("benign", "refused"), ("harmful", "refused"), ("harmful", "truncated")]
    replies = Replies([replace(reply(), arm=arm, missing=missing) for arm, missing in arms])
    refused, cut, none = rehearsal._missing("answers", replies, TINY)
    assert (refused.status, refused.found) == ("amber", "benign 50%, harmful 50% of 2 each.")
    assert (cut.status, cut.found) == ("amber", "25% reach 48 tokens.")
    assert (none.status, none.fix) == ("green", "")
    every = [Line("", rehearsal._share(share), "").status for share in (0.1, 0.5, 0.51)]
    assert every == ["green", "amber", "red"]


def test_templates_that_lie_about_thinking_are_found(tmp_path):
    found = empty(tmp_path)
    found.started = small_model()
    tokenizer = found.started.tokenizer
    tokenizer.chat_template = "{{ messages[0]['content'] }}<think>\n"  # opens a block that it was told to leave out
    assert {line.about: line.status for line in rehearsal.template(found)} == {
        "thinking off": "red", "thinking switch": "amber", "end of a turn": "green",
    }  # fmt: skip
    tokenizer.chat_template = (
        "{{ messages[0]['content'] }}{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    )
    assert {line.status for line in rehearsal.template(found)} == {"green"}


def test_a_probe_that_chance_explains_is_amber():
    row = {"layer": 5, "accuracy": 0.5, "low": 0.3, "n": 24, "chance": 1 / 3, "text_baseline": 0.4}
    assert rehearsal._scored(row).status == "amber"
    assert rehearsal._scored({**row, "low": 0.4}).status == "green"


def test_what_the_model_wrote_is_inert_on_the_page(tmp_path):
    found = empty(tmp_path)
    bad = "<script>alert(1)</script>\u202e"
    found.stories = Stories([Story("happy/a/0", "happy", bad, bad, "")], "m")
    found.lines = [Line(bad, "red", bad, bad), Line("b", "green", "c")]
    found.answers = pd.DataFrame([{"thinking": False, "arm": "harmful", "outcome": "answered", "answers": 1}])
    text = rehearsal_page(found, {"settings": bad})
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "\u202e" not in text.split("<details>")[0]
    assert text.index("What to fix before the big run") < text.index("What is as it should be")


def test_rates_of_another_file_are_refused_and_of_an_unfinished_rehearsal_not_taken(tmp_path):
    path = empty(tmp_path).save(tmp_path / "rehearsal.json")
    assert json.loads(path.read_text())["rates"] is None
    assert read_rates(path) is ASSUMED
