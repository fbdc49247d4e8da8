"""The learning rate's schedule: the formula, and trainings that are promoted or interrupted, bit for bit."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from search import Exercise, HyperModel
from search.lab.layers import RandomShift, SmoothedCrossentropy
from search.lab.schedule import cosine
from search.training import Stopped, checkpoint
from search.workers.trial import Job, Problem, run

RATE, MILESTONES = 0.01, (1, 3, 6)


class Shifted(HyperModel):
    """Everything whose state has to go on: shifts, dropout, batch statistics, weight decay, moments, the rate."""

    def build(self, hp):
        hp.Choice("schedule", ["constant", "cosine"])
        model = keras.Sequential([keras.Input((8, 8)), RandomShift(1), keras.layers.Flatten(), keras.layers.Dense(6)])
        model.add(keras.layers.BatchNormalization())
        model.add(keras.layers.Dropout(0.3))
        model.add(keras.layers.Dense(3, "softmax"))
        optimizer = keras.optimizers.AdamW(RATE, weight_decay=0.1)
        model.compile(optimizer, SmoothedCrossentropy(0.1), metrics=["accuracy"])
        return model


@pytest.fixture(scope="module")
def problem():
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (90, 8, 8)).astype("uint8"), random.integers(0, 3, 90).astype("int32")
    exercise = Exercise("shifted", "Shifted", "Which?", "digits", Shifted, start={}, sweeps=())
    return Problem("shifted", "data", exercise.made(), (x, y), {"validation_data": (x[:20], y[:20])})


def _job(path, epochs=6, resume_from=None, schedule="cosine", initial_epoch=0):
    values = {"schedule": schedule, "batch_size": 32}
    return Job("job", values, (1, 2), epochs, MILESTONES, path, resume_from, initial_epoch)


def _state(problem, job):
    return checkpoint.read(job.state, job.identity(problem.name, problem.data))


def _assert_same(problem, job, other):
    ours, theirs = _state(problem, job), _state(problem, other)
    assert ours.history == theirs.history
    for value, expected in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_the_rate_falls_to_zero_before_every_milestone_and_restarts_there():
    schedule = cosine(2.0, (1, 3, 9))
    rates = [schedule(epoch, math.nan) for epoch in range(10)]
    assert rates[0] == rates[9] == pytest.approx(1.0), "a stretch of one epoch has the middle of the curve"
    for begin, end in ((1, 3), (3, 9)):
        theirs = keras.optimizers.schedules.CosineDecay(2.0, end - begin)
        expected = [float(theirs(tf.constant(epoch + 0.5))) for epoch in range(end - begin)]
        np.testing.assert_allclose(rates[begin:end], expected, rtol=1e-5)


@pytest.fixture(scope="module")
def uninterrupted(problem, tmp_path_factory):
    job = _job(tmp_path_factory.mktemp("whole") / "state.npz")
    outcome = run(problem, job)
    assert outcome.completed, outcome.message
    schedule = cosine(RATE, MILESTONES)
    np.testing.assert_allclose(outcome.history["learning_rate"], [schedule(i, 0.0) for i in range(6)], rtol=1e-6)
    return job


def test_a_promoted_trial_ends_as_one_that_was_trained_in_one_go(problem, uninterrupted, tmp_path):
    first, second = _job(tmp_path / "1.npz", 1), _job(tmp_path / "2.npz", 3, tmp_path / "1.npz", initial_epoch=1)
    third = _job(tmp_path / "3.npz", 6, tmp_path / "2.npz", initial_epoch=3)
    for job in (first, second, third):
        outcome = run(problem, job)
        assert (outcome.completed, outcome.message) == (True, "")
    _assert_same(problem, third, uninterrupted)


@pytest.mark.parametrize("epochs_at_once", [1, 2])
def test_an_interrupted_trial_ends_as_one_that_never_was(problem, uninterrupted, tmp_path, epochs_at_once):
    job = _job(tmp_path / "state.npz")
    for _ in range(6 // epochs_at_once - 1):
        asked = iter([False] * (epochs_at_once - 1) + [True])
        with pytest.raises(Stopped):
            run(problem, job, lambda asked=asked: next(asked))
    outcome = run(problem, job)
    assert (outcome.completed, outcome.message) == (True, "")
    _assert_same(problem, job, uninterrupted)


def test_a_constant_rate_stays_what_build_has_set(problem, tmp_path):
    job = _job(tmp_path / "state.npz", 3, schedule="constant")
    outcome = run(problem, job)
    assert outcome.completed
    assert "learning_rate" not in outcome.history
    assert any(np.array_equal(value, np.float32(RATE)) for value in _state(problem, job).variables)
