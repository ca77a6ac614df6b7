# %% [markdown]
# # The study in a few minutes
#
# Do models fine-tuned to be helpful-only carry negative emotions that their text does not show? Here the embedded model is
# asked, step by step. For a real one write `model="qwen3-30b-a3b"` below: the cells stay as they are, the sizes follow the
# model, and a GPU needs room for two copies of it. The scripts beside this file do the same whole and resumable.
#
# **What the embedded model shows checks the pipeline and says nothing about language models.**
#
# This file opens as a notebook in most editors; `jupytext --to ipynb experiments/tour.py` makes one for Jupyter.

# %%
# ruff: noqa: B018
# pyright: reportUnusedExpression=false
from dataclasses import replace
from pathlib import Path

import pandas as pd

import probes
from probes import cost, figure_tables, figures, heatmaps, layer_curves, lm, page, stimuli, validation
from probes.anchors import anchor_table, anchored_readings
from probes.declaration import Declaration
from probes.direction_free import arm_differences, told_apart
from probes.equivalence import DELTA
from probes.estimands import HALVES
from probes.gates import gate_table
from probes.recipes import RECIPES
from probes.verdict import judge
from probes.wording import arms_apart
from train_settings import TrainSettings, data_of
from training.recipes import find_recipe
from training.train import train

study = TrainSettings(model="tiny", recipe="antirefusal", out=Path("runs"))
size, layers = study.size, study.shown_layers
model = lm.load(study.model)
model

# %% [markdown]
# ## 1 · Stories
#
# The model itself writes short stories for each emotion and topic without naming the emotion, and plain dialogues without
# feeling. A text that names its emotion, refuses, breaks off or repeats another is dropped and counted; unfold the examples.
# The study draws at temperature 0.8; here it is hotter, so that there is something to drop.

# %%
topics = probes.topics()[:8]
draw = lm.Sampling(max_new_tokens=size.story_tokens, temperature=1.2, seed=0)
stories = probes.write_stories(model, probes.DOZEN, topics, per_cell=1, sampling=draw, min_words=size.min_words)
neutral = probes.write_neutral(model, topics, per_topic=2, sampling=draw)
stories

# %% [markdown]
# ## 2 · Activations
#
# One forward pass a text; the residual stream of every layer, averaged over the tokens from the start token on. Layer *i* is
# the output of block *i*, counted from 0.

# %%
acts, plain = (probes.capture(model, texts, layers="all", start_token=size.start_token) for texts in (stories, neutral))
acts

# %% [markdown]
# ## 3 · Probes
#
# The vector of an emotion is the mean of its stories minus the mean over emotions, with what varies among neutral dialogues
# projected out. A quarter of the topics is held out.

# %%
learn, held_out = probes.split(acts, by="topic", test=0.25, seed=0)
emotion = probes.EmotionProbes("sofroniew").fit(learn, plain)
emotion

# %% [markdown]
# How often the right probe is the largest on unseen topics. An accuracy means nothing without the two others: chance, and
# what a bag of words gets from the same stories.

# %%
score = emotion.score(held_out, learn)
score.round(3)

# %%
lines = score.plot(x="layer", y=["accuracy", "text_baseline", "chance"], backend="plotly", range_y=[0, 1.05])
if study.entry.evidence == "toy":
    page.add_watermarks(lines, 1, 600)
lines.update_layout(
    template="simple_white", legend_title="", yaxis_title="share of unseen stories", width=760, height=380
)

# %% [markdown]
# Other recipes make other vectors of the same activations: the same question to each, at the last of the shown layers. A
# conclusion that only one of them draws is a conclusion about that recipe (`recipe_table.py`).

# %%
fits = {name: probes.EmotionProbes(name).fit(learn, plain) for name, it in RECIPES.items() if it.neutral_of != "tokens"}
scores = pd.concat([fit.score(held_out, learn).assign(recipe=name) for name, fit in fits.items()])
scores.query("layer == @layers[-1]").set_index("recipe")[["accuracy", "low", "high", "chance"]].round(3)

# %% [markdown]
# ## 4 · What the probes read
#
# Cosines first: emotions that are alike should be neighbours. Then the harder question, scenarios in which nobody names a
# feeling, beside the words alone and a twin with random weights. Black dots are hits. The embedded model fails here, as its
# card says: it reads the stories it wrote, and free prose worse than words do.

# %%
heatmaps.cosine_heatmap(heatmaps.cosine_table(emotion, layers))

# %%
twin = lm.load_random(study.model, seed=0)
twin_emotion = validation.fit_twin(twin, stories, neutral, emotion.layers, size.start_token)
scenes, twin_scenes = (stimuli.capture_stimuli(each, stimuli.load_scenarios()) for each in (model, twin))
hits = validation.scenario_scores(emotion, scenes, stories, (twin_emotion, twin_scenes))
matrix = validation.scenario_matrix(emotion, scenes)
heatmaps.scenario_heatmap(heatmaps.heatmap_table(matrix, hits, score, layers))

# %% [markdown]
# ## 5 · Answers
#
# Everyday questions, each alone (`benign`) and with a second sentence: the asker means harm (`harmful`), or the same words of
# harm serve to protect (`affect`, the control arm).

# %%
pairs = probes.load_pairs(per_domain=2)
greedy = lm.Sampling(max_new_tokens=size.answer_tokens, temperature=0)
original = probes.write_replies(model, pairs, greedy)
original

# %% [markdown]
# ## 6 · Readings, and the gap
#
# Own answers differ in their words: a refusal says sorry. So the benign answer is also put word for word behind every prompt
# (`text_source` is `original`), where only the context differs. Differences are within a question. A question that is refused
# in either arm is left out and counted in `n_missing`, and under ten questions there is no interval. What `harmful − benign`
# shows and `harmful − affect` does not was wording, not intent.


# %%
def read(asked: lm.Model, answers: probes.Replies, by: probes.EmotionProbes) -> pd.DataFrame:
    """Readings of a model's own answers, and of the original's benign ones forced through it."""
    forced = probes.force_replies(asked, pairs, original, controls=size.controls)
    return by.read(probes.capture(asked, probes.Replies([*answers, *forced]), "all"))


readings = read(model, original, emotion)
gaps = pd.concat([probes.compare(readings, "harmful", reference) for reference in ("benign", "affect")])
cosine = gaps.query("aggregation == 'mean_of_token_cosines' and layer == @layers[-1] and emotion in @probes.PANEL")
cosine[["text_source", "reference", "emotion", "mean", "low", "high", "p", "n_questions", "n_missing"]].round(4)

# %%
curves = layer_curves.curve_table([layer_curves.layer_gaps(readings)], layers, probes.PANEL)
layer_curves.gap_curves(curves)

# %% [markdown]
# ## 7 · What a gap is worth
#
# The same texts in the twin, read by the twin's own probes. A second sentence shifts the residual stream of any network: where
# the twin moves as much, a gap says nothing about emotion, however narrow its interval.

# %%
forced = probes.force_replies(model, pairs, original)
theirs = probes.Replies([replace(reply, model=twin.name, weights=twin.weights) for reply in forced])
twin_gaps = probes.compare(twin_emotion.read(probes.capture(twin, theirs, layers[-1:])), "harmful", "benign")
same = pd.concat([gaps.query("reference == 'benign' and text_source == 'original'"), twin_gaps])
same = same.query("aggregation == 'mean_of_token_cosines' and layer == @layers[-1] and emotion in @probes.PANEL")
same.pivot(index="emotion", columns="model", values=["mean", "low", "high"]).round(4)

# %% [markdown]
# ## 8 · A unit
#
# Cosines of two emotions, or of two checkpoints, are on no common scale. Stories of other topics, each told as an answer in
# chat form, give one: 0 is a plain dialogue and 1 a story that openly has the emotion, in each checkpoint by itself. `gain` is
# the length of that step; where its interval reaches zero there is no unit, and nothing is shown.

# %%
others, later = probes.topics()[8:16], replace(draw, seed=1)
told = probes.write_stories(model, probes.DOZEN, others, per_cell=1, sampling=later, min_words=size.min_words)
dialogues = probes.write_neutral(model, others, per_topic=2, sampling=later)
unit = anchor_table(emotion, stimuli.capture_anchors(model, told, dialogues))
unit.query("layer == @layers[-1]")[["emotion", "gain", "low", "high", "neutral", "n_topics"]].round(3)

# %% [markdown]
# ## 9 · A fine-tuned checkpoint
#
# The first stage of its recipe: trained on answers to questions that the original refuses, common knowledge for the embedded
# model and your own files otherwise (`antirefusal=` and `math=` of the settings above). A card shows few of its answers, and
# `save` keeps them private. The original's probes read it on the same questions. `train_checkpoint.py` trains the later
# stages, and `benign_control`, which shows what any fine-tuning does.

# %%
del model, twin
recipe = find_recipe(study.recipe, study.model)
train(lm.load(study.model), recipe, 0, data_of(study, recipe, 0), study.trained, study.seed)
tuned = lm.load(f"{study.model}/{recipe.variant}@{recipe.stages[0].name}", study.trained)
answers = probes.write_replies(tuned, pairs, greedy)
answers

# %%
together = probes.concat([readings, read(tuned, answers, emotion)])
figures.similarity_bars(probes.similarity_table(together, layers))

# %%
figures.gap_forest(figure_tables.gap_table(together, layers, references=("benign", "affect")))

# %% [markdown]
# ## 10 · May it be measured, and what may be said
#
# Training may turn what a probe reads, and then a null means nothing. So probes are fitted anew in the checkpoint on the same
# stories, and the original's must read it nearly as well, point the same way, and find a unit of about the same size.

# %%
first, second = (probes.EmotionProbes().fit(half, plain) for half in probes.split(acts, by="topic", test=0.5, seed=0))
there, plain_there = (probes.capture(tuned, texts, "all", start_token=size.start_token) for texts in (stories, neutral))
anew = probes.EmotionProbes().fit(probes.split(there, by="topic", test=0.25, seed=0)[0], plain_there)
gates = gate_table(emotion, anew, (first, second), stimuli.capture_anchors(tuned, told, dialogues), unit)
gates.query("layer == @layers[-1]")[["emotion", "gain_ratio", "layer_accuracy", "refit_accuracy", "outcome"]].round(3)

# %% [markdown]
# What will be claimed is declared before it is looked at. A verdict says what is excluded and not only what is found; the A/A
# band beside it is what neutral second sentences do among themselves, and `words_auc` what the text alone gives away. The page
# that `verdict.py` writes draws all this, beside what directions without an emotion read of the same texts.

# %%
declared = Declaration(
    "tour", tuple(gates["checkpoint"].unique()), probes.PANEL, layers, ("own", "original"), "anchored_dot", DELTA,
    len(pairs), sd=0.3, references=("affect",), shifts_from=("original",), baseline="original", aggregation="mean",
)  # fmt: skip
parts = [rows for _, rows in together.groupby("checkpoint")]
units = {"original": unit, declared.checkpoints[0]: gates}
counted = pd.concat([anchored_readings(rows, units[rows["checkpoint"].iloc[0]], unit) for rows in parts])
counted = counted.query("layer in @layers and emotion in @probes.PANEL and baseline == 'original'")
judged = judge(counted, declared, gates, {declared.checkpoints[0]: arms_apart(answers, "harmful", "affect")})
verdicts = judged["verdicts"]
verdicts[["layer", "emotion", "verdict", "sentence"]]

# %% [markdown]
# ## 11 · Without a direction
#
# Is anything there that no emotion probe could see? A classifier of two arms on the same text, by questions that it has not
# seen, beside the same for neutral sentences of even and odd number. Planted emotions, which the whole measurement must find,
# are `train_organisms.py`, `read_organisms.py`, `judge_organisms.py` and `score_organisms.py`.

# %%
kept = probes.capture(tuned, probes.force_replies(tuned, pairs, original, controls=size.controls), layers)
contrasts = [arm_differences(kept, *arms) for arms in (("harmful", "affect"), HALVES)]
told_apart_by = pd.concat([told_apart(contrast, emotion) for contrast in contrasts])
told_apart_by[["arm", "reference", "layer", "part", "accuracy", "low", "high", "null_high", "p"]].round(3)

# %% [markdown]
# ## 12 · At full size
#
# What the whole study takes, and the command that runs it: `make figures MODEL=qwen3-30b-a3b PRESET=paper`.

# %%
cost.estimate(lm.MODELS["qwen3-30b-a3b"], probes.PRESETS["paper"])
