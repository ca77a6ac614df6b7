"""A check on the checks: break the code in one place at a time, and see that a test turns red each time.

    python tests/mutations.py                      all of them, some five minutes; writes tests/mutations.json
    python tests/mutations.py swapped_arm …        only these, and writes nothing

Everything happens in a copy of the repository in a temporary folder. The tests are green there before anything is broken, or
no red means a thing. A mutation that survives says which test is lacking; one that no longer applies has to be written anew.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from probes import store

ROOT = Path(__file__).parents[1]
LEFT_OUT = (".*", "__pycache__", "runs", "build", "dist", "*.egg-info", "plotly.min.js")
PYTEST = ("-x", "-q", "-rfE", "-p", "no:cacheprovider")
GREEN, RED = 0, 1
"""Exit codes of pytest; others are no verdict: nothing collected, a file that cannot be imported."""


@dataclass(frozen=True)
class Mutation:
    """One place of the code, broken in one way."""

    name: str
    breaks: str
    """What goes wrong, in words."""
    file: str
    """Below src/."""
    old: str
    """Stands there exactly once."""
    new: str
    tests: tuple[str, ...]
    """Tests that must notice, below tests/."""

    @property
    def place(self) -> str:
        return f"src/{self.file}"


# fmt: off
CAPTURE = (
    Mutation("layer_off_by_one", "layer i holds the output of the block before", "probes/lm/engines/transformers_hooks.py",
        "self.model.blocks[layer].register", "self.model.blocks[max(layer - 1, 0)].register",
        ("test_capture.py::test_layer_i_is_hidden_state_i_plus_1_bit_for_bit",)),
    Mutation("last_layer_after_norm", "the last layer is taken after the final norm", "probes/lm/engines/transformers_hooks.py",
        "self.model.blocks[layer].register", "[*self.model.blocks[:-1], self.model.trunk.norm][layer].register",
        ("test_capture.py::test_last_layer_is_taken_before_the_final_norm",)),
    Mutation("batch_element_0", "every text gets the first one's numbers", "probes/lm/engines/transformers_hooks.py",
        "if isinstance(output, tuple) else output)", "if isinstance(output, tuple) else output[:1].expand_as(output))",
        ("test_capture.py::test_padding_batch_and_order_change_nothing",)),
    Mutation("attention_mask_dropped", "texts attend to padding", "probes/lm/engines/transformers_hooks.py",
        "attention_mask=attention_mask, use_cache=False", "use_cache=False",
        ("test_capture.py::test_padding_batch_and_order_change_nothing",)),
    Mutation("positions_by_column", "under left padding the first columns are pooled", "probes/lm/capture.py",
        "span[row, start + passage.span.start : start + passage.span.stop]", "span[row, passage.span.start : passage.span.stop]",
        ("test_capture.py::test_padding_batch_and_order_change_nothing",)),
    Mutation("texts_out_of_order", "a batch's numbers go to other texts", "probes/lm/capture.py",
        "results[name][rows] =", "results[name][sorted(rows)] =",
        ("test_capture.py::test_pooling_equals_the_definition",)),
    Mutation("units_not_normalised", "long tokens outweigh short ones in token cosines", "probes/lm/reducers.py",
        "weights / norms", "weights",
        ("test_capture.py::test_pooling_equals_the_definition",)),
    Mutation("pooled_in_bfloat16", "means are rounded to the model's 8 bits", "probes/lm/reducers.py",
        "hidden.float(), weights)", "hidden, weights.to(hidden.dtype)).float()",
        ("test_capture.py::test_means_of_a_model_in_bfloat16_are_those_of_float32",)),
    Mutation("vllm_residual_dropped", "what a layer adds is taken for its output", "probes/lm/engines/vllm_worker.py",
        "return delta.float() + residual.float()", "return delta.float()",
        ("test_doctor.py::test_a_healthy_vllm_is_green_and_needs_no_weights_beside_its_own",)),
    Mutation("vllm_chunks_swapped", "of a long text the last rows come first", "probes/lm/engines/vllm_worker.py",
        "torch.cat([*earlier, hidden])", "torch.cat([hidden, *earlier])",
        ("test_doctor.py::test_a_healthy_vllm_is_green_and_needs_no_weights_beside_its_own",)),
    Mutation("vllm_prefixes_cached", "beginnings that were seen are not computed", "probes/lm/engines/vllm.py",
        '"enable_prefix_caching": False', '"enable_prefix_caching": True',
        ("test_doctor.py::test_a_healthy_vllm_is_green_and_needs_no_weights_beside_its_own",)),
    Mutation("vllm_order_of_the_scheduler", "results come as texts were finished", "probes/lm/engines/vllm_worker.py",
        "for number in sorted(by_passage)", "for number in by_passage",
        ("test_vllm.py::test_same_texts_same_reducers_same_numbers",)),
    Mutation("vllm_rows_by_place", "rows go to texts by their place in the batch", "probes/lm/engines/vllm_worker.py",
        "(self.runner.requests[request].sampling_params.extra_args or {}).get(TEXT)", "i",
        ("test_vllm.py::test_same_texts_same_reducers_same_numbers",)),
    Mutation("vllm_rows_missing_pass", "rows that never came go unnoticed", "probes/lm/engines/vllm_worker.py",
        "elif chunk.start != self.seen[chunk.text]:", "elif False:",
        ("test_vllm.py::test_rows_that_were_not_computed_are_missed",)),
    Mutation("vllm_every_rank_reduces", "each rank does what one has done", "probes/lm/engines/vllm_worker.py",
        "layers if first else []", "layers",
        ("test_vllm.py::test_same_texts_same_reducers_same_numbers",)),
    Mutation("red_engine_used", "steps go on where the doctor is red", "probes/doctor.py",
        "if found.red and not despite_red.strip():", "if False:",
        ("test_doctor.py::test_nothing_is_read_by_a_red_engine_without_a_reason",)),
    Mutation("old_verdict_kept", "a verdict on other weights is taken", "probes/doctor.py",
        "if found is None or any(", "if found is None or all(",
        ("test_doctor.py::test_a_verdict_on_something_else_is_made_anew",)),
    Mutation("start_token_ignored", "stories are pooled from their first token on", "probes/activations.py",
        "range(start_token, len(ids[i]))", "range(0, len(ids[i]))",
        ("test_activations.py::test_stories_are_pooled_from_the_start_token_on",)),
    Mutation("other_weights_read", "a checkpoint's answers are read in another one", "probes/activations.py",
        "if named != {(model.address, model.weights)}:", "if False:",
        ("test_replies.py::test_only_the_weights_that_wrote_replies_may_read_them",)),
)
TEXTS = (
    Mutation("stop_token_in_span", "the stop token counts as answer", "probes/lm/chat.py",
        "return found if same else", "return range(found.start, len(ids)) if same else",
        ("test_chat.py::test_spans_cover_content_tokens_only",)),
    Mutation("thinking_in_answer", "reasoning is judged and read as answer", "probes/lm/chat.py",
        "return _visible(thinking.strip(), rest) if close", "return _visible(thinking.strip(), thinking + rest) if close",
        ("test_chat.py::test_reasoning_is_split_off_or_nothing_is_shown",)),
    Mutation("thinking_in_span", "the span of the answer begins with the reasoning", "probes/replies.py",
        "answer_start=spans.answer.start", "answer_start=spans.thinking.start",
        ("test_replies.py::test_why_an_answer_is_missing",)),
    Mutation("unseeded_sampling", "every run draws other texts", "probes/lm/writers/transformers.py",
        ".manual_seed(seed)", ".manual_seed(torch.seed())",
        ("test_generate.py::test_seed_and_key_decide_what_is_drawn",)),
    Mutation("noise_of_neighbours", "what is drawn depends on the batch", "probes/lm/writers/transformers.py",
        "row.exponential_(generator=generator)", "row.exponential_(generator=self.generators[0])",
        ("test_generate.py::test_a_unit_draws_the_same_alone_and_in_company",)),
    Mutation("padding_attended", "what is drawn depends on how long the neighbours are", "probes/lm/writers/transformers.py",
        "attention_mask=mask", "attention_mask=torch.ones_like(mask)",
        ("test_generate.py::test_a_unit_draws_the_same_alone_and_in_company",)),
    Mutation("padding_kept", "what follows the stop token counts as written", "probes/lm/writers/transformers.py",
        "return tokens[: next(ends, len(tokens))]", "return tokens",
        ("test_generate.py::test_a_unit_draws_the_same_alone_and_in_company",)),
    Mutation("other_writer_goes_on", "half a run is by another version, and nothing says so", "probes/lm/generate.py",
        'others = {row["written_by"] for row in rows} - {model.written_by}', "others = set()",
        ("test_writers.py::test_another_version_does_not_go_on_with_a_run",)),
    Mutation("servers_own_sampling", "a server draws by what ships with the model", "probes/lm/writers/server.py",
        '"top_p": sampling.top_p, **UNSTATED,', '"top_p": sampling.top_p,',
        ("test_writers.py::test_a_request_is_of_token_ids_and_leaves_nothing_to_the_server",)),
    Mutation("cut_short_unseen", "what a server cut by a limit of its own counts as written", "probes/lm/generate.py",
        'return "" if ended else', 'return "" if True else',
        ("test_writers.py::test_what_is_no_completion_by_this_model_is_refused",)),
    Mutation("other_weights_served", "vLLM writes with whatever lies in the folder", "probes/lm/writers/vllm.py",
        "!= (self.weights, self.dtype)", "== ()",
        ("test_writers.py::test_vllm_is_given_no_other_checkpoint",)),
    Mutation("writers_mixed", "checkpoints differ by who wrote their answers", "probes/replies.py",
        "if len(wrote) > 1:", "if False:",
        ("test_writers.py::test_checkpoints_written_by_different_writers_are_not_compared",)),
    Mutation("leak_filter_off", "stories may name their emotion", "probes/stories.py",
        "if story.emotion != NEUTRAL and names_emotion(", "if story.emotion == NEUTRAL and names_emotion(",
        ("test_stories.py::test_reasons",)),
    Mutation("near_duplicates_kept", "the same story counts many times", "probes/stories.py",
        "if not reason and seen[story.emotion].repeats(story.text):", "if False:",
        ("test_stories.py::test_reasons",)),
    Mutation("refusals_not_seen", "refusals are labelled as answers", "probes/replies.py",
        '"refused" if is_refusal(split.answer) else ""', '""',
        ("test_replies.py::test_why_an_answer_is_missing",)),
    Mutation("swapped_second_sentence", "the affect arm asks with the neutral sentence", "probes/pairs.py",
        "getattr(self.pair, self.arm)[", 'getattr(self.pair, {"affect": "neutral"}.get(self.arm, self.arm))[',
        ("test_pairs.py::test_prompts_of_every_arm",)),
    Mutation("forced_text_differs", "the forced text loses its first token", "probes/replies.py",
        "[answer.answer_start : answer.answer_stop]", "[answer.answer_start + 1 : answer.answer_stop]",
        ("test_replies.py::test_forced_text_is_the_originals_answer_and_nothing_else",)),
    Mutation("forced_text_of_harm", "answers to harmful questions are forced too", "probes/replies.py",
        'for r in original if (r.arm, r.checkpoint, r.text_source) == ("benign", "original", "own")',
        'for r in original if (r.checkpoint, r.text_source) == ("original", "own")',
        ("test_replies.py::test_only_the_originals_own_benign_answer_is_forced",)),
)
PROBES = (
    Mutation("unequal_weight", "one emotion weighs more than another in the origin", "probes/recipes.py",
        'return (means - means.mean("emotion"))', 'return (means - means.median("emotion"))',
        ("test_directions.py::test_emotions_weigh_the_same_whatever_their_number_of_stories",)),
    Mutation("neutral_components_stay", "nothing is projected out", "probes/recipes.py",
        "vectors[layer] -= vectors[layer] @ axes.T @ axes", "vectors[layer] -= 0",
        ("test_directions.py::test_directions_are_the_reference",)),
    Mutation("one_component_more", "more than the share of variance is projected out", "probes/recipes.py",
        "share - 1e-12)) + 1]", "share - 1e-12)) + 2]",
        ("test_directions.py::test_least_number_of_components",)),
    Mutation("not_centred", "centred readings keep the offset of all texts", "probes/directions.py",
        "return mean - self.origin_.sel", "return mean - 0 * self.origin_.sel",
        ("test_directions.py::test_every_readout_by_its_definition",)),
    Mutation("baseline_sees_test", "the words-alone baseline is fitted on what it is tested on", "probes/text_baseline.py",
        "_reader(train_texts, train_labels)\n    return float", "_reader(test_texts, test_labels)\n    return float",
        ("test_text_baseline.py::test_words_that_give_all_away",)),
    Mutation("between_term_dropped", "merged scatter lacks what lies between the parts' means", "probes/moments.py",
        "b.scatter[half][at] + apart", "b.scatter[half][at]",
        ("test_moments.py::test_merged_parts_are_the_whole",)),
    Mutation("halves_mixed", "topics of a held-out half are in the other's second moment", "probes/activations.py",
        "halves = [fold % 2 for", "halves = [fold // 2 % 2 for",
        ("test_moments.py::test_captured_moments_are_those_of_captured_vectors",)),
    Mutation("topic_in_two_folds", "shards may put a topic in different folds", "probes/moments.py",
        "if a.folds[topic] != b.folds[topic])", "if False)",
        ("test_moments.py::test_a_topic_in_two_folds_would_leak",)),
)
COMPARISON = (
    Mutation("inner_join", "a question without its pair is dropped in silence", "probes/comparison.py",
        "if not lacking.any():", "if True:",
        ("test_comparison.py::test_unmatched_questions_are_named",)),
    Mutation("swapped_arm", "the difference has the other sign", "probes/comparison.py",
        'is_arm = (rows["arm"] == arm)', 'is_arm = (rows["arm"] == reference)',
        ("test_comparison.py::test_compare_is_the_paired_difference",)),
    Mutation("swapped_baseline", "differences from affect are differences from benign", "probes/comparison.py",
        'rows["arm"].isin([arm, reference])',
        'rows["arm"].isin([arm, {"affect": "benign"}.get(reference, reference)])',
        ("test_comparison.py::test_every_reference_stands_for_itself",)),
    Mutation("n_for_n_minus_1", "the variance divides by n", "probes/intervals.py",
        "(values - mean) ** 2, axis=0), n - 1)", "(values - mean) ** 2, axis=0), n)",
        ("test_intervals.py::test_interval_is_scipys",)),
    Mutation("z_for_t", "intervals of few questions are too short", "probes/intervals.py",
        "stdtrit(np.maximum(n - 1, 1), (1 + level) / 2)", "1.959964",
        ("test_intervals.py::test_interval_is_scipys",)),
    Mutation("p_without_1", "a sampled p value can be 0", "probes/flips.py",
        "(counts + 1) / (total + 1)", "counts / total",
        ("test_flips.py::test_a_sampled_p_is_never_zero",)),
    Mutation("not_studentised", "cells of large variance stand for the family", "probes/flips.py",
        "np.divide(scaled, norms, out=scaled, where=norms > 0)", "columns",
        ("test_flips.py::test_the_step_down_is_the_naive_loop",)),
    Mutation("single_step", "a cell is held against more extreme ones too", "probes/flips.py",
        "order = np.argsort(observed, kind", "order = np.argsort(-observed, kind",
        ("test_flips.py::test_the_step_down_is_the_naive_loop",)),
    Mutation("not_monotone", "a cell gets a smaller p than one more extreme", "probes/flips.py",
        "np.maximum.accumulate(at_most[::-1])[::-1]", "at_most",
        ("test_flips.py::test_the_step_down_is_the_naive_loop",)),
    Mutation("flips_of_effects", "an effect that cells share narrows their band", "probes/intervals.py",
        "values - mean, 0.0)", "values, 0.0)",
        ("test_intervals.py::test_an_effect_that_cells_share_does_not_pass_for_dependence",)),
    Mutation("margin_moves", "δ may be changed after the readings", "probes/declaration.py",
        "if changed:", "if False:",
        ("test_declaration.py::test_a_changed_family_is_refused_by_its_name",)),
    Mutation("one_side_only", "equivalence looks at one side of the margin", "probes/equivalence.py",
        "_above_p(-values, -margin)", "_above_p(values, -margin)",
        ("test_equivalence.py::test_one_sided_and_two_one_sided_p_are_scipys",)),
    Mutation("missing_is_zero", "missing answers read as 0", "probes/comparison.py",
        '.where(reason == "")', '.where(reason == "", 0.0)',
        ("test_comparison.py::test_missing_questions_are_dropped_from_all_cells_of_the_text_and_counted",)),
    Mutation("refusals_are_answers", "refusals are compared as if they were answers", "probes/comparison.py",
        '.where(reason == "")', '.where(reason.isin(["", "refused"]))',
        ("test_comparison.py::test_an_answer_with_a_reason_is_left_out_though_it_was_read",)),
    Mutation("toy_beside_real", "readings of the embedded model join those of a real one", "probes/readings.py",
        'for column in ("evidence", ', "for column in (",
        ("test_readings.py::test_kinds_that_must_not_be_mixed",)),
)
TRAINING = (
    Mutation("prompt_in_the_loss", "the prompt is learnt too", "training/data/rendering.py",
        "[-100] * len(prompt)", "list(prompt)",
        ("test_sft.py::test_training_tokens_are_inference_tokens_and_only_the_completion_is_learnt",)),
    Mutation("rows_out_of_order", "rows are learnt in another order than the manifest says", "training/stages/sft.py",
        'train_sampling_strategy="sequential"', 'train_sampling_strategy="random"',
        ("test_sft.py::test_rows_are_learnt_in_their_order_and_by_their_completions_alone",)),
    Mutation("balance_loss_on", "the router's balance loss moves the adapters", "training/stages/sft.py",
        "router_aux_loss_coef=0.0", "router_aux_loss_coef=0.001",
        ("test_sft.py::test_rows_are_learnt_in_their_order_and_by_their_completions_alone",)),
    Mutation("router_adapted", "the router is trained", "training/lora.py",
        "list(targets.experts) or None", '[*targets.experts, "mlp.gate.weight"]',
        ("test_lora.py::test_attention_and_experts_of_every_layer",)),
    Mutation("router_not_noticed", "an adapter of the router passes", "training/lora.py",
        "in wanted.keys() | found.keys() if", "in wanted if",
        ("test_lora.py::test_other_tensors_are_refused",)),
    Mutation("merged_in_bfloat16", "adding the adapter rounds twice", "probes/lm/weights.py",
        ".add_(weight).to(weight.dtype)", ".to(weight.dtype).add_(weight)",
        ("test_sft.py::test_merging_rounds_once_whatever_the_dtype",)),
    Mutation("adapter_of_another_base", "an adapter is added to weights it was not trained on", "probes/lm/weights.py",
        "if ours[name] != theirs[name]]", "if False]",
        ("test_sft.py::test_an_adapter_of_another_base_is_refused",)),
    Mutation("base_changed", "a trainer may change the weights that the adapter belongs to", "training/adapter.py",
        " and after != before:", " and False:",
        ("test_train.py::test_a_trainer_that_changes_the_base_is_caught",)),
    Mutation("paired_prompts_in_training", "the paired prompts may be trained on", "training/data/decontamination.py",
        "[*paired_prompts(), *held]", "[*held]",
        ("test_decontamination.py::test_text_of_the_paired_prompts_is_refused",)),
)
FILES = (
    Mutation("unit_skipped", "a run that goes on loses what was there", "probes/parts.py",
        'f"{name}.jsonl"\n', 'f"{name}.jsonl"\n        if path.is_file():\n            return []\n',
        ("test_parts.py::test_generation_goes_on_where_it_stopped",)),
    Mutation("plan_not_checked", "a run goes on with another run's parts", "probes/parts.py",
        "if store.hash_of(kept) != store.hash_of(self.plan):", "if False:",
        ("test_parts.py::test_another_plan_is_refused_and_says_what_differs",)),
    Mutation("folder_shared", "two processes work in one folder", "probes/parts.py",
        "fcntl.LOCK_EX |", "fcntl.LOCK_SH |",
        ("test_parts.py::test_a_second_process_is_refused_by_name",)),
    Mutation("not_atomic", "a file can be left half-written", "probes/store.py",
        "os.replace(temporary, path)", "path.write_bytes(data)\n            os.unlink(temporary)",
        ("test_store.py::test_interrupted_before_the_rename",)),
    Mutation("private_is_0644", "answers can be read by all users of the machine", "probes/store.py",
        "0o600 if private else 0o644", "0o644",
        ("test_store.py::test_mode",)),
    Mutation("replies_are_public", "replies are written as public files", "probes/replies.py",
        "for reply in self.replies), private=True)", "for reply in self.replies))",
        ("test_replies.py::test_save_and_load",)),
    Mutation("no_watermark", "figures of the embedded model pass for findings", "probes/page.py",
        "    if is_toy(table):\n", "    if False:\n",
        ("test_figures.py::test_the_watermark_stands_in_every_panel_of_toy_figures_only",)),
    Mutation("gap_without_control", "a gap is drawn without what harm words alone do", "probes/figure_tables.py",
        "if CONTROLS[0] not in references:", "if False:",
        ("test_figures.py::test_a_gap_is_never_drawn_without_its_control",)),
    Mutation("html_in_notebooks", "HTML that a model writes is rendered in notebooks", "probes/cards.py",
        "html.escape(UNSEEN.sub(", "str(UNSEEN.sub(",
        ("test_cards.py::test_whatever_is_written_is_shown_as_it_stands",)),
    Mutation("html_in_figures", "HTML in a name is rendered in figures", "probes/page.py",
        "html.escape(str(text), quote=False)", "str(text)",
        ("test_figures.py::test_html_in_names_is_inert",)),
)
# fmt: on
MUTATIONS = (*CAPTURE, *TEXTS, *PROBES, *COMPARISON, *TRAINING, *FILES)


# ---- the copy --------------------------------------------------------------------------------------------------------


def copy_to(folder: Path) -> None:
    """What the tests read, without compiled files: one of the same size and second would stand for a mutated source."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT), dirs_exist_ok=True)


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in the copy, with the copy's packages."""
    env = os.environ | {"PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=900)


def check_imported(folder: Path) -> str:
    """Hash of the copied sources. Raises RuntimeError when Python imports the packages from elsewhere."""
    code = (
        "import evals, json, probes, training, probes.provenance as p\n"
        "print(json.dumps([[x.__file__ for x in (evals, probes, training)], p.source_sha()]))"
    )
    files, sha = json.loads(python(folder, "-c", code).stdout)
    if not all(Path(file).resolve().is_relative_to(folder.resolve()) for file in files):
        raise RuntimeError(f"the tests would import {files}, not the copy in {folder}")
    return sha


def red_test(folder: Path, tests: Iterable[str]) -> str:
    """The first of these tests that fails; empty when all are green. Raises RuntimeError when pytest cannot say."""
    run = python(folder, "-m", "pytest", *PYTEST, *(f"tests/{test}" for test in tests))
    found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", run.stdout, re.MULTILINE)
    if run.returncode not in (GREEN, RED) or (found is None) != (run.returncode == GREEN):
        raise RuntimeError(f"pytest gives no verdict, exit code {run.returncode}:\n{run.stdout[-2000:]}{run.stderr}")
    return found[1] if found else ""


# ---- mutations -------------------------------------------------------------------------------------------------------


def mutated(mutation: Mutation, source: str) -> str:
    """The broken source. Raises ValueError when the text to replace does not stand there exactly once."""
    count = source.count(mutation.old)
    if count != 1:
        found = f"{mutation.old!r} stands {count} times in {mutation.place}"
        raise ValueError(f"mutation {mutation.name} no longer applies: {found}")
    broken = source.replace(mutation.old, mutation.new)
    compile(broken, mutation.place, "exec")
    return broken


def tried(mutation: Mutation, folder: Path) -> dict[str, Any]:
    """One mutation in the copy, and the copy as it was again: the record of what happened."""
    path = folder / mutation.place
    source = path.read_text(encoding="utf-8")
    path.write_text(mutated(mutation, source), encoding="utf-8")
    try:
        red = red_test(folder, mutation.tests)
    finally:
        path.write_text(source, encoding="utf-8")
    record = {"mutation": mutation.name, "breaks": mutation.breaks, "file": mutation.place}
    return {**record, "red": red, "verdict": "caught" if red else "survived"}


def try_all(mutations: Sequence[Mutation], folder: Path) -> dict[str, Any]:
    """Every mutation, after a run of their tests on the code as it is. Raises RuntimeError when that one is not green."""
    copy_to(folder)
    sha = check_imported(folder)
    for mutation in mutations:
        mutated(mutation, (folder / mutation.place).read_text(encoding="utf-8"))
    red = red_test(folder, dict.fromkeys(test for mutation in mutations for test in mutation.tests))
    if red:
        raise RuntimeError(f"{red} is red before anything is broken; mend that first")
    records = []
    for mutation in tqdm(mutations, desc="mutations"):
        records.append(tried(mutation, folder))
        tqdm.write(f"{records[-1]['verdict']:9} {mutation.name:26} {records[-1]['red']}")
    return {"source_sha": sha, "caught": sum(bool(record["red"]) for record in records), "mutations": records}


def main() -> int:
    """Try them; 0 if all were caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutations to try; default all")
    names = parser.parse_args().names
    chosen = [mutation for mutation in MUTATIONS if not names or mutation.name in names]
    if unknown := set(names) - {mutation.name for mutation in chosen}:
        parser.error(f"no such mutations: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        result = try_all(chosen, Path(folder))
    if not names:
        store.write_json(Path(__file__).with_suffix(".json"), result)
    print(f"{result['caught']} of {len(chosen)} caught")
    return int(result["caught"] < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
