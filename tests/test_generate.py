"""Generation: seeded by unit, the same in any batch, with stop reasons."""

import numpy as np
import pytest
import torch

from probes import lm, store
from probes.errors import DataError
from probes.lm.chat import render
from probes.lm.generate import Sampling, batches, generate
from probes.lm.writers import transformers as transformers_writer
from probes.lm.writers.transformers import SeededNoise
from probes.prompts import user_turn
from small_model import ARCHITECTURES, save_small_model, small_model

TEXTS = (
    "The door was open.",
    "A long question about the kite that flew away yesterday?",
    "Why?",
    "One two three four.",
)


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def prompts(model):
    return [render(model.tokenizer, user_turn(text)) for text in TEXTS]


def ids(completions):
    return [completion.token_ids for completion in completions]


def test_a_unit_draws_the_same_alone_and_in_company(model, prompts):
    sampling = Sampling(max_new_tokens=12, temperature=1.0, seed=3)
    together = generate(model, prompts, sampling, keys=TEXTS)
    alone = [generate(model, [prompt], sampling, keys=[text])[0] for prompt, text in zip(prompts, TEXTS, strict=True)]
    backwards = generate(model, prompts[::-1], sampling, keys=TEXTS[::-1])[::-1]
    assert ids(together) == ids(alone) == ids(backwards)


def likely_to_stop(model):
    """Makes the stop token the likelier, so that completions end here and there."""
    stop = model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    return model.network.lm_head.register_forward_hook(
        lambda _m, _i, out: out + 4 * torch.nn.functional.one_hot(torch.tensor(stop), out.shape[-1])
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_completions_that_have_ended_leave_the_batch_and_change_no_other(architecture, monkeypatch):
    model, sizes = small_model(0, architecture), []
    prompts = [render(model.tokenizer, user_turn(text)) for text in (*TEXTS, *reversed(TEXTS), *TEXTS)]
    model.network.register_forward_pre_hook(
        lambda _m, _args, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    likely_to_stop(model)
    drawn = {}
    for stretch in (3, 1000):
        monkeypatch.setattr(transformers_writer, "STRETCH", stretch)
        sizes.clear()
        drawn[stretch] = ids(generate(model, prompts, Sampling(max_new_tokens=30, seed=1)))
        # A batch of twelve: after each stretch those go on that have more tokens than it.
        lengths = [len(tokens) for tokens in drawn[stretch]]
        left = [sum(n > step // stretch * stretch for n in lengths) for step in range(max(lengths))]
        assert sizes == left
    assert drawn[3] == drawn[1000]
    assert len(set(map(len, drawn[3]))) > 4


def test_a_short_prompt_is_not_written_beside_one_of_more_than_twice_its_length(model, monkeypatch):
    widths = []
    handle = model.network.register_forward_pre_hook(
        lambda _m, _args, kwargs: widths.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    try:
        generate(model, ["Why? " * 30, "Why?", "Why? " * 28], Sampling(max_new_tokens=1))
    finally:
        handle.remove()
    assert [rows for rows, _ in widths] == [2, 1]
    assert widths[0][1] > 2 * widths[1][1]


def test_seed_and_key_decide_what_is_drawn(model, prompts):
    draw = lambda seed, key: ids(generate(model, prompts[:1], Sampling(max_new_tokens=12, seed=seed), keys=[key]))  # noqa: E731
    assert draw(0, "a") == draw(0, "a")
    assert draw(0, "a") != draw(1, "a")
    assert draw(0, "a") != draw(0, "b")


def test_temperature_0_equals_greedy_search(model, prompts):
    completion = generate(model, prompts[:1], Sampling(max_new_tokens=8, temperature=0))[0]
    sequence = torch.tensor([completion.prompt_ids])
    for token in completion.token_ids:
        with torch.inference_mode():
            assert model.network(input_ids=sequence).logits[0, -1].argmax() == token
        sequence = torch.cat([sequence, torch.tensor([[token]])], dim=1)


def test_noise_draws_from_the_softmax():
    logits = torch.tensor([[2.0, 0.0, 1.0, -1.0]]).expand(8000, 4)
    for temperature in (1.0, 0.5):
        noise = SeededNoise(range(8000), torch.device("cpu"))
        drawn = noise(torch.zeros(8000, 1), logits / temperature).argmax(dim=1)
        frequencies = np.bincount(drawn.numpy(), minlength=4) / 8000
        np.testing.assert_allclose(frequencies, torch.softmax(logits[0] / temperature, 0).numpy(), atol=0.02)


def test_top_p_draws_only_from_the_nucleus(model, prompts):
    greedy = generate(model, prompts, Sampling(max_new_tokens=6, temperature=0))
    nucleus = generate(model, prompts, Sampling(max_new_tokens=6, temperature=1, top_p=1e-6))
    assert ids(nucleus) == ids(greedy)


def test_what_ships_with_a_model_does_not_change_how_it_is_drawn_from(tmp_path):
    folder = save_small_model(tmp_path / "small")
    plain = generate(lm.load(str(folder)), ["One two"], Sampling(max_new_tokens=12, temperature=0))
    store.write_json(folder / "generation_config.json", {"repetition_penalty": 5.0, "do_sample": True, "top_k": 1})
    assert ids(generate(lm.load(str(folder)), ["One two"], Sampling(max_new_tokens=12, temperature=0))) == ids(plain)


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"max_new_tokens": 0}])
def test_sampling_that_cannot_be(wrong):
    with pytest.raises(DataError, match=str(next(iter(wrong.values())))):
        Sampling(**wrong)


def test_stop_reason(model, prompts):
    cut = generate(model, prompts, Sampling(max_new_tokens=1, temperature=0))
    assert {completion.stop_reason for completion in cut} == {"length"}
    stop = model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    handle = model.network.lm_head.register_forward_hook(
        lambda _m, _i, out: out + 1e6 * torch.nn.functional.one_hot(torch.tensor(stop), out.shape[-1])
    )
    try:
        ended = generate(model, prompts, Sampling(max_new_tokens=5))
    finally:
        handle.remove()
    assert [(c.stop_reason, c.token_ids, c.answer, c.split.status) for c in ended] == [
        ("stop", [stop], "", "empty")
    ] * 4


@pytest.mark.parametrize("least_share", [0, 0.5, 1])
@pytest.mark.parametrize("budget", [1, 10, 25, 1000])
def test_batches_hold_every_position_once_within_the_budget(budget, least_share):
    lengths = [3, 9, 1, 7, 7, 2]
    groups = batches(lengths, budget, least_share)
    assert sorted(i for group in groups for i in group) == list(range(6))
    longest = [max(lengths[i] for i in group) for group in groups]
    assert all(len(group) == 1 or len(group) * most <= budget for group, most in zip(groups, longest, strict=True))
    assert all(lengths[i] >= least_share * most for group, most in zip(groups, longest, strict=True) for i in group)
    if budget == 1000:
        assert len(groups) == {0: 1, 0.5: 3, 1: 5}[least_share]


def test_bad_input(model, prompts):
    with pytest.raises(DataError, match="at least one prompt"):
        generate(model, [], Sampling())
    with pytest.raises(DataError, match="got 2 and 1"):
        generate(model, prompts[:2], Sampling(), keys=["a", "a"])
    with pytest.raises(DataError, match=r"exceed the 256 tokens of small"):
        generate(model, prompts, Sampling(max_new_tokens=250))
