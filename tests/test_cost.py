"""What trainings are foreseen to take: work counted by hand, machines made up, searches whose trials take what is known."""

import types

import keras
import numpy as np
import pytest
from keras import layers

import search_hidden
import search_multiclass
import search_single
from search import study
from search.lab import cost, forecast
from search.oracles import hyperband, random_search, space
from search.workers.trial import Outcome, build

N = 1000
EXERCISES = (search_single.EXERCISE, search_hidden.EXERCISE, search_multiclass.EXERCISE)


def compiled(*network, optimizer="sgd"):
    model = keras.Sequential(network)
    model.compile(optimizer, "mse")
    return model


def test_a_dense_layer_multiplies_every_input_with_every_unit():
    found = cost.asked(compiled(keras.Input((20,)), layers.Dense(30), layers.Dense(4)), N, 64)
    assert found.products == 3 * N * (20 * 30 + 30 * 4)
    assert found.convolutions == 0
    assert found.activations == N * (30 + 4)
    assert found.steps == 16  # the last is of fewer examples


def test_a_convolution_multiplies_its_window_at_every_place_it_comes_to():
    network = keras.Input((28, 28, 16)), layers.Conv2D(8, 5, strides=2, padding="same"), layers.Conv2D(12, 3)
    found = cost.asked(compiled(*network), N, 100)
    assert found.convolutions == 3 * N * (14 * 14 * 25 * 16 * 8 + 12 * 12 * 9 * 8 * 12)
    assert found.products == 0
    assert found.xla_updates == 0  # XLA would not train it


def test_a_model_of_which_little_is_known_is_counted_all_the_same():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner, self.named = layers.Dense(3), layers.Flatten()
            self.named.kernel = "linear"

        def call(self, inputs):
            return self.inner(self.named(inputs))

    model = Own()
    model.compile("sgd", "mse")
    assert cost.asked(model, N, 100).products == 0
    model(np.zeros((1, 5)))
    assert cost.asked(model, N, 100).products == 3 * N * 5 * 3


def test_the_optimizer_s_variables_are_updated_too():
    network = keras.Input((5,)), layers.Dense(1)
    plain, adam = (cost.asked(compiled(*network, optimizer=name), N, 100).updates for name in ("sgd", "adam"))
    assert adam - plain == 10 * 2 * (5 + 1)


def test_epochs_behind_a_milestone_at_which_xla_begins_are_its():
    model = cost.Asked(10, 1.0, 0.0, 1.0, 1.0, xla_updates=100.0, xla_passes=0.0)
    asked = dict(zip(cost.RATES, cost.work(model, 1, 9, (1, 3, 9), break_even=150.0), strict=True))
    assert (asked["graph steps"], asked["XLA steps"], asked["compilings"]) == (0, 80, 1)
    asked = dict(zip(cost.RATES, cost.work(model, 0, 3, (1, 3, 9), break_even=150.0), strict=True))
    assert (asked["graph steps"], asked["XLA steps"]) == (10, 20)


def test_epochs_whose_update_alone_goes_through_xla_spend_less_on_it():
    dense = compiled(keras.Input((5,)), layers.Dense(1), optimizer="adam")
    dropped = compiled(keras.Input((5,)), layers.Dropout(0.5), layers.Dense(1), optimizer="adam")
    assert cost.asked(dense, N, 100).xla_passes == 0 < cost.asked(dropped, N, 100).xla_passes
    model = cost.Asked(10, 1.0, 0.0, 1.0, 900.0, xla_updates=0.0, xla_passes=100.0)
    asked = dict(zip(cost.RATES, cost.work(model, 0, 3, (1, 3, 9), break_even=150.0), strict=True))
    assert asked["updates"] == pytest.approx(900.0 + 2 * 900.0 * cost.OF_ONE_PASS)
    assert (asked["graph steps"], asked["compilings"]) == (30, 0)


@pytest.mark.parametrize("seed", range(5))
def test_what_a_machine_takes_is_learned(seed):
    random = np.random.default_rng(seed)
    factors = random.uniform(0.2, 5, len(cost.RATES))
    rates = factors * np.array(list(cost.RATES.values()))

    def some():
        amounts = random.uniform(0.5, 2, len(rates)) * random.integers(0, 2, len(rates))
        return amounts / np.array(list(cost.RATES.values()))

    model = cost.CostModel()
    for _ in range(200):
        asked = some()
        if asked.any():
            model.learn(asked, float(asked @ rates))
    for _ in range(20):
        asked = some()
        assert model.seconds(asked) == pytest.approx(asked @ rates, rel=0.05)
    assert cost.CostModel(model.factors).seconds(asked) == pytest.approx(model.seconds(asked), rel=1e-3)


def test_of_kinds_that_were_not_seen_a_machine_is_as_slow_as_of_those_that_were():
    model, asked = cost.CostModel(), np.zeros(len(cost.RATES))
    asked[4] = 1e9
    before = model.seconds(asked[::-1].copy()), model.seconds(asked)
    for _ in range(5):
        model.learn(asked, 3 * before[1])
    assert model.seconds(asked) == pytest.approx(3 * before[1], rel=0.05)
    assert model.seconds(asked[::-1].copy()) == pytest.approx(3 * before[0], rel=0.15)


def oracle_of(exercise, kind, hypermodel):
    import keras_tuner

    common = {
        "objective": keras_tuner.Objective("val_accuracy", "max"),
        "seed": 3,
        "hyperparameters": space.search_space(hypermodel),
    }
    if kind == "random":
        found = random_search.RandomSearchOracle(max_trials=12, epochs=9, **common)
    else:
        found = hyperband.HyperbandOracle(max_epochs=9, **common)
    found.first = [dict(values) for values in (exercise.start, *exercise.first)]
    return found


class Simulated:
    """Workers whose trials take no time, and say that they took what they cost; the dearer score better, by and large."""

    size, ahead = 2, 2

    def __init__(self, seconds):
        self.seconds, self.random = seconds, np.random.default_rng(0)

    def submit(self, job):
        from concurrent.futures import Future

        future = Future()
        epoch = self.seconds(job) / (job.epochs - job.initial_epoch)
        score = [float(np.log(epoch) + self.random.normal())] * job.epochs
        history = dict.fromkeys(("loss", "accuracy", "val_loss", "val_accuracy"), score)
        future.set_result(Outcome(True, history, seconds=self.seconds(job)))
        return future


@pytest.mark.parametrize("kind", ["hyperband", "random"])
@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_the_time_left_is_right_from_the_first_quarter_on_and_none_at_the_end(tmp_path, exercise, kind):
    """On a machine that is slower than usual, most of all at products."""
    hypermodel = exercise.hypermodel()
    oracle = oracle_of(exercise, kind, hypermodel)
    models = {}

    def asked_of(values):
        key = str(sorted(values.items()))
        if key not in models:
            models[key] = cost.asked(build(hypermodel, values, (0,))[1], 50_000, values["batch_size"])
        return models[key]

    rates = np.array(list(cost.RATES.values())) * [2, 2, 2, 2, 3, 3, 2, 2]

    def seconds(job):
        work = cost.work(asked_of(job.hyperparameters), job.initial_epoch, job.epochs, job.milestones, 60_000.0)
        return float(work @ rates)

    machine = cost.CostModel()
    for measured in ("products", "convolutions"):  # as is measured before a search, the starting model too
        alone = np.array([1e9 if measured == one else 0.0 for one in cost.RATES])
        machine.learn(alone, float(alone @ rates))
    start = cost.work(asked_of(oracle.foreseen()[0][1][0]), 0, 1, (1,), 60_000.0) * cost.OF_EPOCHS
    machine.learn(start, float(start @ rates))
    told = forecast.SearchForecast(oracle, machine, asked_of, 60_000.0, size=1)
    before = told.left()
    left, taken = [], []

    def watch(event):
        told.ended(event.trial)
        taken.append(event.trial.metrics.get_last_value("seconds"))
        left.append(told.left())

    study.search(oracle, Simulated(seconds), tmp_path, 0, watch)
    really = np.cumsum(taken[::-1])[::-1] - taken
    quarter = len(taken) // 4
    assert left[-1] == 0
    far = [abs(told - real) / max(real, 0.1 * sum(taken)) for told, real in zip(left, really, strict=True)][quarter:]
    assert np.median(far) < 1 / 3
    assert before == pytest.approx(sum(taken), rel=1 / 3)


BESIDE = 0.1  # what a training takes beside its epochs, in the worker that has been in use longest


class FewSteps:
    """Workers that train as many steps as they are asked for, on a machine of such rates."""

    size, ahead = 2, 0

    def __init__(self, asked_of, rates):
        self.asked_of, self.rates, self.jobs = asked_of, rates, []

    def submit(self, job):
        from concurrent.futures import Future

        self.jobs.append(job)
        asks, future = self.asked_of(job.hyperparameters), Future()
        seconds = float((cost.work(asks, 1, 2, (2,), job.xla_break_even) * cost.OF_EPOCHS) @ self.rates)
        seconds *= job.kwargs["steps_per_epoch"] / asks.steps
        beside = {"seconds": 2 * seconds + BESIDE + 0.1 * len(self.jobs), "epoch_seconds": (BESIDE + seconds, seconds)}
        future.set_result(Outcome(True, {"loss": [1.0, 1.0]}, **beside))
        return future


def test_a_few_steps_teach_what_a_convolutional_network_takes_here(tmp_path):
    models = {
        "dense": cost.Asked(390, 1e11, 0.0, 2e8, 6e8, xla_updates=1e6, xla_passes=0.0),
        "large": cost.Asked(390, 3e10, 2e12, 3e9, 9e7, 0.0, 1e4),
        "short": cost.Asked(5, 3e10, 9e12, 3e9, 9e7, 0.0, 1e4),  # of fewer steps than are timed
        "small": cost.Asked(390, 2e10, 2e11, 1e9, 3e7, 0.0, 1e4),
        "middle": cost.Asked(195, 2e10, 6e11, 2e9, 3e7, 0.0, 1e4),
    }

    def asked_of(values):
        return models[values["network"]]

    rates = np.array(list(cost.RATES.values())) * [1, 1, 1, 1, 0.5, 0.1, 3, 0.7]
    session = types.SimpleNamespace(folder=tmp_path, seed=0, asked_of=asked_of)
    machine, workers = cost.CostModel(), FewSteps(asked_of, rates)
    cost.learn_from_steps(machine, session, workers, {"network": "dense"}, [{"network": name} for name in models])
    assert [job.hyperparameters["network"] for job in workers.jobs] == ["middle", "large"]
    for name in ("small", "middle", "large"):
        epochs = cost.work(models[name], 0, 9, (9,), 6e4) * cost.OF_EPOCHS
        assert machine.seconds(epochs) == pytest.approx(float(epochs @ rates), rel=0.2)
    trainings = np.eye(len(cost.RATES))[list(cost.RATES).index("trainings")]
    assert machine.seconds(trainings) == pytest.approx(0.1 + BESIDE, rel=0.2)


def test_where_all_are_trained_through_xla_the_starting_model_teaches_what_a_training_takes(tmp_path):
    """Not another: it may be one that ends its worker."""
    models = {name: cost.Asked(steps, 1e9, 0.0, 2e8, 6e8, 1e6, 0.0) for name, steps in (("small", 390), ("short", 39))}
    session = types.SimpleNamespace(folder=tmp_path, seed=0, asked_of=lambda values: models[values["network"]])
    workers = FewSteps(session.asked_of, np.array(list(cost.RATES.values())))
    foreseen = [{"network": name} for name in models]
    cost.learn_from_steps(cost.CostModel(), session, workers, {"network": "short"}, foreseen)
    assert not workers.jobs
    cost.learn_from_steps(cost.CostModel(), session, workers, {"network": "small"}, foreseen)
    assert [job.hyperparameters["network"] for job in workers.jobs] == ["small", "small"]
    assert len({job.state for job in workers.jobs}) == 2


def test_a_training_shorter_than_a_moment_is_not_taken_for_one_as_long():
    machine, steps = cost.CostModel(), np.eye(len(cost.RATES))[2] * 100
    for _ in range(100):
        machine.learn(steps, 0.01)
    assert machine.seconds(steps) == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("kind", ["hyperband", "random"])
def test_the_configurations_that_are_foreseen_are_those_that_are_drawn(tmp_path, kind):
    exercise = search_hidden.EXERCISE
    hypermodel = exercise.hypermodel()
    oracle = oracle_of(exercise, kind, hypermodel)
    foreseen = {rung.bracket: configurations for rung, configurations in oracle.foreseen()}
    study.search(oracle, Simulated(lambda job: 1.0), tmp_path, 0)
    drawn = {}
    for trial in sorted(oracle.trials.values(), key=lambda trial: int(trial.trial_id)):
        values = trial.hyperparameters.values
        if not values.get("tuner/round"):
            drawn.setdefault(values.get("tuner/bracket", 0), []).append(space.own_values(values))
    assert foreseen == drawn
    assert sum(map(len, foreseen.values())) == sum(rung.trials for rung in oracle.rungs if not rung.round)


def test_of_trainings_that_are_known_none_is_left_when_all_have_ended(tmp_path):
    from search.workers.trial import Job

    model = cost.Asked(10, 1e9, 0.0, 1e6, 1e5, 0.0, 0.0)
    told = forecast.Forecast(cost.CostModel(), lambda values: model, [{}] * 3, epochs=5, break_even=1e12, size=2)
    one = told.left() * 2 / 3
    for expected in (1, 1, 0):  # the last one alone
        job = Job("one", {}, (0,), 5, (5,), tmp_path / "state.npz")
        told.ended(job, Outcome(True, seconds=one, epoch_seconds=(one / 5,) * 5))
        assert told.left() == pytest.approx(expected * one, rel=0.01)
