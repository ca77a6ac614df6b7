"""A sampler that is not the model under training ends the run in its first steps."""

import pytest

from probes.errors import ConventionError
from stub_vllm import STATE, step_log
from training.sampling_guard import DIFFERENCE, SamplingGuard


def told(guard, **logs):
    guard.on_log(None, STATE, None, logs=logs)


def step(guard, difference):
    told(guard, **step_log(**{DIFFERENCE: difference}))


@pytest.mark.parametrize("difference", [0.1001, 7.0, float("inf"), float("nan"), None])
def test_a_difference_above_the_limit_ends_the_run(difference):
    guard = SamplingGuard()
    step(guard, 0.02)
    with pytest.raises(ConventionError, match=f"at step 1 their log-probabilities differ by {difference} nats"):
        step(guard, difference)


def test_a_difference_that_trl_does_not_tell_of_ends_the_run():
    with pytest.raises(ConventionError, match="differ by None nats"):
        told(SamplingGuard(), **step_log())


def test_only_the_first_steps_are_looked_at_and_a_resumed_run_has_its_own():
    guard = SamplingGuard()
    for _ in range(5):
        step(guard, 0.1)
    step(guard, 7.0)
    with pytest.raises(ConventionError):
        step(SamplingGuard(), 7.0)


def test_the_summary_at_the_end_of_a_short_run_is_no_step():
    told(SamplingGuard(), train_runtime=1.0, train_loss=0.0)
