"""Plans: an interrupted training ends bit for bit where one left alone does, whatever its callbacks remember."""

import contextlib
import random

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf

from search.training import Diverged, Stopped, TrainingPlan, planned, restore_weights, returned, seed_everything
from search.training import callbacks as hooks
from search.training import fit as fitting
from search.training.best import KeepBest, restore_best
from search.training.program import _is_reset
from search.training.seeds import entropy, epoch_order
from search.workers.trial import Job, Problem
from search.workers.trial import run as run_job

L, K = keras.layers, keras.callbacks
N, EPOCHS = 48, 7
RANDOM = np.random.default_rng(1)
X = RANDOM.normal(size=(N, 4)).astype("float32")
Y = (X[:, :1] * X[:, 1:2]).astype("float32")


def network(optimizer=None):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,)), L.Dense(5, "tanh"), L.Dropout(0.2), L.Dense(1)])
    model.compile(optimizer or keras.optimizers.Adam(0.05), loss="mse")
    return model


class Counting(K.Callback):
    """Memory that nobody can save: stops after five epochs of its own."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def on_epoch_end(self, epoch, logs=None):
        self.seen += 1
        if self.seen == 5:
            self.model.stop_training = True


CALLBACKS = {
    "none": lambda folder: [],
    "early stopping": lambda folder: [K.EarlyStopping("loss", patience=2, min_delta=0.05, restore_best_weights=True)],
    "plateau": lambda folder: [K.ReduceLROnPlateau("loss", patience=2, min_delta=0.05, cooldown=1)],
    "scheduler": lambda folder: [K.LearningRateScheduler(lambda epoch, rate: rate * 0.9)],
    "csv": lambda folder: [K.CSVLogger(folder / "log.csv")],
    "own": lambda folder: [Counting()],
    "averaged": lambda folder: [K.SwapEMAWeights(swap_on_epoch=True)],
    "best": lambda folder: [KeepBest("val_loss", "min", folder / "best.npz")],
}


def train(folder, callbacks, *, stop_after=None, epochs=EPOCHS, **arguments):
    """One job, as a worker does it; returns the model, its record and its History, None where it was stopped."""
    folder.mkdir(exist_ok=True)
    left = [stop_after]

    def stopping():
        if left[0] is not None:
            left[0] -= 1
        return left[0] == 0

    plan = TrainingPlan((0, 1), folder / "state.npz", {"of": "test"}, stopping=stopping, **arguments.pop("plan", {}))
    model = network(keras.optimizers.Adam(0.05, use_ema=True) if callbacks == "averaged" else None)
    with planned(plan) as record:
        try:
            history = model.fit(
                X, Y, 16, epochs, verbose=0, callbacks=CALLBACKS[callbacks](folder), validation_data=(X, Y), **arguments
            )
        except Stopped:
            history = None
    return model, record, history


def assert_equal(one, other):
    assert one[1].history == other[1].history
    assert one[2].history == other[2].history
    assert one[2].epoch == other[2].epoch
    for mine, reference in zip(
        [*one[0].variables, *one[0].optimizer.variables],
        [*other[0].variables, *other[0].optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(mine.numpy(), reference.numpy(), err_msg=mine.path)


@pytest.mark.long
@pytest.mark.parametrize("callbacks", CALLBACKS)
def test_interrupted_after_any_epoch_it_ends_where_it_would_have_ended(tmp_path, callbacks):
    """EarlyStopping(patience=2) stopped after 7 epochs, and after 14 where it was interrupted after 5."""
    whole = train(tmp_path / "whole", callbacks)
    for epoch in range(1, EPOCHS):
        folder = tmp_path / str(epoch)
        first = train(folder, callbacks, stop_after=epoch)
        if first[2] is not None:  # it had stopped by itself
            assert_equal(first, whole)
            continue
        assert (folder / "state.npz").exists() == (callbacks != "own")
        assert_equal(train(folder, callbacks), whole)
        if callbacks == "best":
            assert (folder / "best.npz").read_bytes() == (tmp_path / "whole" / "best.npz").read_bytes()
        if callbacks == "csv":
            assert (folder / "log.csv").read_text() == (tmp_path / "whole" / "log.csv").read_text()


def test_the_best_epoch_s_network_is_kept_beside_the_last(tmp_path, monkeypatch):
    """Of a loss that falls to the end the largest is the first epoch's."""
    monkeypatch.setitem(CALLBACKS, "first", lambda folder: [KeepBest("val_loss", "max", folder / "best.npz")])
    model, record, _ = train(tmp_path, "first")
    losses = record.history["val_loss"]
    assert losses.index(max(losses)) == 0
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(losses[-1], rel=1e-5)
    assert restore_best(tmp_path / "best.npz", model)
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(losses[0], rel=1e-5)
    assert not restore_best(tmp_path / "none.npz", model)


@pytest.mark.parametrize("callbacks", ["none", "early stopping"])
def test_a_job_that_had_ended_when_it_was_killed_is_not_trained_again(tmp_path, callbacks, monkeypatch):
    whole = train(tmp_path, callbacks)
    monkeypatch.setattr(fitting._Training, "_epoch", None)
    assert_equal(train(tmp_path, callbacks), whole)


def test_rungs_end_where_one_stretch_of_the_same_milestones_does(tmp_path):
    stretch = {"milestones": (2, 5)}
    whole = train(tmp_path / "whole", "none", epochs=5, plan=stretch)
    train(tmp_path / "rung 0", "none", epochs=2, plan=stretch)
    plan = {**stretch, "resume_from": tmp_path / "rung 0" / "state.npz"}
    promoted = train(tmp_path / "rung 1", "none", epochs=5, initial_epoch=2, plan=plan)
    assert promoted[1].history == whole[1].history
    assert promoted[1].epochs == 5
    assert promoted[2].epoch == [2, 3, 4]
    for mine, reference in zip(promoted[0].variables, whole[0].variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), reference.numpy())


def test_where_training_ended_is_what_is_written_and_counted(tmp_path):
    """`stop_training` at epoch 29 of 60 left the weights of epoch 14."""
    model, record, _ = train(tmp_path, "early stopping")
    assert record.epochs == len(record.history["loss"]) < EPOCHS
    again = network()
    assert restore_weights(TrainingPlan((0, 1), tmp_path, {"of": "test"}, resume_from=tmp_path / "state.npz"), again)
    for mine, reference in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, reference)


def test_averaged_weights_are_those_that_training_ends_with(tmp_path):
    """98.35 % was reported and 91.25 % is what `model.fit` ended with."""
    model, _, _ = train(tmp_path, "averaged")
    again = network()
    assert restore_weights(TrainingPlan((0, 1), tmp_path, {"of": "test"}, resume_from=tmp_path / "state.npz"), again)
    for mine, reference in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, reference)


def test_a_second_fit_follows_the_plan_too_and_a_stop_in_it_begins_at_the_milestone(tmp_path):
    def job(folder, stop_after=None):
        folder.mkdir(exist_ok=True)
        calls = iter(range(1, 100))
        plan = TrainingPlan((4,), folder / "state.npz", {}, stopping=lambda: next(calls) == stop_after)
        model = network()
        with planned(plan) as record:
            try:
                model.fit(X, Y, epochs=2, verbose=0)
                model.layers[0].trainable = False
                model.compile("sgd", loss="mae")
                model.fit(X, Y, epochs=3, verbose=0)
            except Stopped:
                return None
        return record.history, model.get_weights()

    history, weights = job(tmp_path / "whole")
    assert len(history["loss"]) == 5
    for epoch in (1, 2, 3):
        assert job(tmp_path / str(epoch), stop_after=epoch) is None
        again, same = job(tmp_path / str(epoch))
        assert again == history
        assert all((one == other).all() for one, other in zip(same, weights, strict=True))


def test_what_is_handed_to_keras_is_recorded_and_the_same_each_time(tmp_path):
    class EveryBatch(K.Callback):
        def on_train_batch_end(self, batch, logs=None):
            """Keeps nothing, but nobody can know."""

    def job(name):
        model = network()
        with planned(TrainingPlan((4,), tmp_path / name, {})) as record:
            model.fit(X, Y, epochs=2, verbose=0, callbacks=[EveryBatch()])
        return record, model.get_weights()

    (record, weights), (_, same) = job("one"), job("another")
    assert record.epochs == 2
    assert any("EveryBatch" in note for note in record.notes)
    assert (tmp_path / "one").exists()
    assert all((one == other).all() for one, other in zip(same, weights, strict=True))


def test_outside_a_plan_and_after_an_error_fit_is_keras_s(tmp_path):
    inherited = keras.Model.fit
    plan = TrainingPlan((0,), tmp_path / "state.npz", {})
    with pytest.raises(ZeroDivisionError), planned(plan):  # noqa: PT012
        assert keras.Model.fit is not inherited
        with planned(plan):
            pass
        assert keras.Model.fit is not inherited
        raise ZeroDivisionError
    assert keras.Model.fit is inherited
    assert "fit" not in vars(keras.Model)


def test_a_loss_that_is_no_number_ends_the_trial_unless_the_user_sees_to_it(tmp_path):
    model = network(keras.optimizers.SGD(1e30))
    with planned(TrainingPlan((0,), tmp_path / "a.npz", {})), pytest.raises(Diverged, match="the loss is"):
        model.fit(X, Y, epochs=5, verbose=0)
    model = network(keras.optimizers.SGD(1e30))
    with planned(TrainingPlan((0,), tmp_path / "b.npz", {})) as record:
        model.fit(X, Y, epochs=5, verbose=0, callbacks=[K.TerminateOnNaN()])
    assert record.epochs < 5


def test_a_damaged_state_is_noted_and_the_training_begins_at_its_milestone(tmp_path):
    whole = train(tmp_path / "whole", "none")
    train(tmp_path / "cut", "none", stop_after=3)
    path = tmp_path / "cut" / "state.npz"
    path.write_bytes(path.read_bytes()[:-30])
    again = train(tmp_path / "cut", "none")
    assert_equal(again, whole)
    assert any("damaged" in note for note in again[1].notes)


def test_a_state_of_a_longer_training_is_not_taken_for_a_shorter_one(tmp_path):
    """A retraining of 50 epochs reported the figures of 100."""
    train(tmp_path / "one", "none", epochs=5)
    short = train(tmp_path / "one", "none", epochs=3)
    assert any("is of another call of fit" in note for note in short[1].notes)
    assert_equal(short, train(tmp_path / "two", "none", epochs=3))


def test_a_fit_that_draws_draws_the_same_whether_or_not_a_model_was_built_before_it(tmp_path):
    drawn = []

    class Drawing(keras_tuner.HyperModel):
        def build(self, hp):
            return network()

        def fit(self, hp, model, *args, **kwargs):
            drawn.append((random.random(), float(tf.random.uniform(()))))
            return model.fit(*args, **kwargs)

    problem = Problem("of", "test", Drawing(), (X, Y), {"verbose": 0})

    def run(name, seed, epochs, earlier=None):
        begin = 1 if earlier else 0
        run_job(problem, Job(name, {}, (0, seed), epochs, (1, 3), tmp_path / name, earlier, begin))

    run("first", 1, 1)
    run("first of another seed", 2, 1)
    run("promoted", 1, 3, tmp_path / "first")
    run("promoted elsewhere", 1, 3, tmp_path / "first")
    assert drawn[2] == drawn[3] != drawn[1]


class Adversary(keras.Model):
    """Its step updates a second optimizer and a counter that no model has."""

    def __init__(self, random=False):
        super().__init__()
        self.out, self.other = L.Dense(1), L.Dense(1)
        self.second = keras.optimizers.Adam(0.05)
        self.random = random
        self.counter = [tf.Variable(0.0)]

    def call(self, x):
        return self.out(x) + self.other(x)

    def train_step(self, data):
        x, y = data
        self.counter[0].assign_add(1.0)
        noise = tf.random.normal((1,), seed=1) if self.random else 0.0
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_mean(tf.square(self(x, training=True) - y * self.counter[0] + noise))
        for optimizer, layer in ((self.optimizer, self.out), (self.second, self.other)):
            weights = layer.trainable_variables
            optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss, "counted": self.counter[0].value()}


def adversary(folder, epochs, begin=0, stop_after=None, earlier=None, random=False, eagerly=False):
    calls = iter(range(1, 100))
    plan = TrainingPlan((5,), folder, {}, earlier, (2, 4), stopping=lambda: next(calls) == stop_after)
    keras.utils.set_random_seed(3)
    model = Adversary(random)
    model.compile(keras.optimizers.Adam(0.05), loss="mse", run_eagerly=eagerly)
    with planned(plan) as record, contextlib.suppress(Stopped):
        model.fit(X, Y, 16, epochs, verbose=0, initial_epoch=begin)
    return record


@pytest.mark.long
def test_what_a_step_changes_outside_the_model_goes_on_too(tmp_path):
    """The moments of a second optimizer and a plain variable began anew."""
    whole = adversary(tmp_path / "whole", 4)
    assert whole.history["counted"][-1] == 12
    adversary(tmp_path / "cut", 4, stop_after=3)
    assert (tmp_path / "cut").exists()
    for _ in range(2):  # the second time it had ended
        assert adversary(tmp_path / "cut", 4).history == whole.history
    adversary(tmp_path / "rung 0", 2)
    assert adversary(tmp_path / "rung 1", 4, 2, earlier=tmp_path / "rung 0").history == whole.history


@pytest.mark.long
def test_numbers_that_a_kernel_draws_are_drawn_from_the_milestone_again(tmp_path):
    whole = adversary(tmp_path / "whole", 4, random=True)
    adversary(tmp_path / "cut", 4, stop_after=2, random=True)
    assert not (tmp_path / "cut").exists()
    assert adversary(tmp_path / "cut", 4, random=True).history == whole.history


def test_what_keras_trains_with_a_step_of_the_user_s_is_never_gone_on_with_in_part(tmp_path):
    """What such a step changes nobody can know."""
    whole = adversary(tmp_path / "whole", 4, eagerly=True)
    adversary(tmp_path / "rung 0", 2, eagerly=True)
    promoted = adversary(tmp_path / "rung 1", 4, 2, earlier=tmp_path / "rung 0", eagerly=True)
    assert promoted.history["counted"] == whole.history["counted"]
    assert any("all of it is trained from the beginning" in note for note in promoted.notes)


class Counter(L.Layer):
    """Changes a variable that is not the model's."""

    def __init__(self):
        super().__init__()
        self.calls = tf.Variable(0.0)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x * (1 + 0.1 * self.calls)


class OwnDense(L.Dense):
    """Code of the user's that changes nothing outside."""


class Batches(K.Callback):
    def on_train_batch_end(self, batch, logs=None):
        """So that Keras trains it."""


def told(samples):
    """A function in Python that counts."""
    samples.append(1)
    return np.float32(len(samples))


HANDED = {
    "a callback": lambda: ({"x": X, "y": Y, "callbacks": [Batches()]}, False),
    "a data set": lambda: ({"x": tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)}, False),
    "eagerly": lambda: ({"x": X, "y": Y}, True),
}


@pytest.mark.long
@pytest.mark.parametrize("name", HANDED)
def test_what_keras_trains_with_a_layer_that_changes_other_variables_is_not_gone_on_with(name, tmp_path):
    """A promoted trial went on with its weights, and counted from nothing."""
    arguments, eagerly = HANDED[name]()

    def rung(path, epochs, begin=0, earlier=None, middle=Counter):
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((4,)), L.Dense(3), middle(), L.Dense(1)])
        model.compile("sgd", loss="mse", run_eagerly=eagerly)
        with planned(TrainingPlan((5,), path, {}, earlier)) as record:
            model.fit(**arguments, epochs=epochs, initial_epoch=begin, verbose=0, shuffle=False)
        return record

    whole = rung(tmp_path / "whole", 4)
    rung(tmp_path / "0", 2)
    promoted = rung(tmp_path / "1", 4, 2, tmp_path / "0")
    np.testing.assert_allclose(promoted.history["loss"], whole.history["loss"], rtol=1e-5)
    assert any("all of it is trained from the beginning" in note for note in promoted.notes)
    rung(tmp_path / "2", 2, middle=lambda: OwnDense(3))
    again = rung(tmp_path / "3", 4, 2, tmp_path / "2", middle=lambda: OwnDense(3))
    assert any("all of it is trained from the beginning" in note for note in again.notes) == eagerly


def test_what_a_function_in_python_keeps_begins_anew(tmp_path):
    def rung(path, epochs, begin=0, earlier=None):
        keras.utils.set_random_seed(3)
        samples = []

        class Python(L.Layer):
            def call(self, x):
                return x * tf.ensure_shape(tf.numpy_function(lambda: told(samples), [], tf.float32), ())

        model = keras.Sequential([keras.Input((4,)), Python(), L.Dense(1)])
        model.compile("sgd", loss="mse", jit_compile=False)
        with planned(TrainingPlan((5,), path, {}, earlier)) as record:
            model.fit(X, Y, epochs=epochs, initial_epoch=begin, verbose=0)
        return record.history["loss"]

    whole = rung(tmp_path / "whole", 3)
    rung(tmp_path / "0", 1)
    assert rung(tmp_path / "1", 3, 1, tmp_path / "0") == whole


def test_an_unbuilt_model_that_keras_trains_goes_on_with_its_weights(tmp_path):
    class EveryBatch(K.Callback):
        def on_train_batch_end(self, batch, logs=None):
            """So that Keras trains it."""

    def rung(name, epochs, begin=0, earlier=None):
        keras.utils.set_random_seed(3)
        model = keras.Sequential([L.Dense(5, "tanh"), L.Dense(1)])
        model.compile(keras.optimizers.SGD(0.0), loss="mse")
        with planned(TrainingPlan((5,), tmp_path / name, {}, earlier)) as record:
            if earlier is None:
                model.build((None, 4))
                model.set_weights([weight + 1 for weight in model.get_weights()])
            model.fit(X, Y, epochs=epochs, verbose=0, initial_epoch=begin, callbacks=[EveryBatch()])
        return record.history["loss"]

    (first,) = rung("0", 1)
    np.testing.assert_allclose(rung("1", 2, 1, tmp_path / "0"), [first, first], rtol=1e-5)


def test_seeds_of_all_kinds_are_apart():
    """To NumPy (0, 1) and (0, 1, 0) are one seed, and so are (2**32,) and (0, 1)."""
    seeds = [(0,), (0, 0), (0, 1), (0, 1, 0), (1,), (2**32,), (2**32, 0), (10,), (1, 0), (-1,)]
    kinds = ("order", "within batches", "process")
    assert len({entropy(kind, seed) for kind in kinds for seed in seeds}) == len(kinds) * len(seeds)
    orders = {tuple(epoch_order(50, seed)) for seed in seeds}
    assert len(orders) == len(seeds)


def test_everything_is_seeded_by_a_seed_alone():
    def drawn(*seed):
        seed_everything(seed)
        return [float(tf.random.uniform(())), float(keras.random.uniform(())), random.random(), np.random.rand()]  # noqa: NPY002

    one, other, again = drawn(0, 1), drawn(0, 2), drawn(0, 1)
    assert one == again
    assert not set(one) & set(other)


def test_the_generator_that_a_process_shares_is_seeded():
    """``tf.random.get_global_generator()``, which ``keras.utils.set_random_seed`` leaves alone."""
    drawn = []
    for seed in (1, 1, 2):
        seed_everything((seed,))
        drawn.append(tf.random.get_global_generator().normal([3]).numpy())
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[1] != drawn[2]).any()


def several(folder, kind, epochs, initial_epoch=0, past=None, built=True):
    """One trial whose ``fit`` trains two models of the same shape: folds, each with its own images, or a teacher first."""
    folder.mkdir(exist_ok=True)
    plan = TrainingPlan((0, 1), folder / "state.npz", {"of": "test"}, past and past / "state.npz", (2, 5))
    models = [network(), network()]
    with planned(plan) as record:
        if built:
            returned(models[-1 if kind == "teacher" else 0])
        if kind == "teacher":
            models[0].fit(X[:24], Y[:24], 16, 3, verbose=0)
            models[1].fit(X[24:], Y[24:], 16, epochs, verbose=0, initial_epoch=initial_epoch)
        else:
            for model, part in zip(models, (slice(24), slice(24, None)), strict=True):
                model.fit(X[part], Y[part], 16, epochs, verbose=0, initial_epoch=initial_epoch)
    assert record.notes == []
    return models


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("kind", ["folds", "teacher"])
def test_each_of_several_models_of_one_fit_goes_on_from_its_own_state(tmp_path, kind, built):
    """The first of them went on from the state of the last."""
    whole = several(tmp_path / "whole", kind, 5, built=built)
    assert not np.array_equal(whole[0].get_weights()[0], whole[1].get_weights()[0])
    several(tmp_path / "rung 0", kind, 2, built=built)
    promoted = several(tmp_path / "rung 1", kind, 5, 2, tmp_path / "rung 0", built=built)
    for one, other in zip(whole, promoted, strict=True):
        for mine, reference in zip(other.variables, one.variables, strict=True):
            np.testing.assert_array_equal(mine.numpy(), reference.numpy())


def left_alone_and_stopped(folder, model_of, epochs=6):
    """The histories of a training left alone, and of one that was stopped after three epochs and went on."""
    histories = []
    for name, stops in (("alone", [6]), ("stopped", [3, 6])):
        for stop in stops:
            stopping = iter([False] * (stop - 1) + [True] * epochs).__next__
            plan = TrainingPlan((0,), folder / name / "state.npz", {"of": "test"}, stopping=stopping)
            with planned(plan) as record, contextlib.suppress(Stopped):
                model_of().fit(X, Y, 16, epochs, verbose=0, validation_data=(X, Y))
        histories.append(record.history)
    return histories


def remembering(kind):
    """Schedules that look as if they gave the same for the same epoch and rate, and count."""
    counted = []
    if kind == "globals":

        def schedule(epoch, rate):
            globals().setdefault("_calls", counted).append(1)
            return rate / len(counted)
    elif kind == "import":

        def schedule(epoch, rate):
            import sys

            sys._calls = getattr(sys, "_calls", 0) + 1
            return rate * (0.5 if sys._calls > 3 else 1.0)
    elif kind == "nested":

        def schedule(epoch, rate):
            def count():
                counted.append(1)
                return len(counted)

            return rate / count()
    else:
        draw = random.Random(3).random

        def schedule(epoch, rate):
            return rate * draw()

    return K.LearningRateScheduler(schedule)


@pytest.mark.parametrize("kind", ["globals", "import", "nested", "draw"])
def test_a_schedule_that_may_remember_is_not_gone_on_with(kind):
    assert hooks.memory([remembering(kind)]) is None
    assert hooks.memory([K.LearningRateScheduler(lambda epoch, rate: max(rate * np.exp(-0.1), 1e-4))]) is not None
    assert hooks.memory([K.LearningRateScheduler(lambda epoch, rate: sum([rate / 2 for _ in range(2)]))]) is not None


class Anew(keras.metrics.Metric):
    """A metric of the user's, as Keras's guide has them."""

    def __init__(self):
        super().__init__(name="mine")
        self.total = self.add_weight(name="total", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(keras.ops.sum(y_pred))

    def result(self):
        return self.total

    def reset_state(self):
        self.total.assign(0.0)


class Never(Anew):
    """It adds up over all epochs."""

    def reset_state(self):
        pass


@pytest.mark.parametrize("metric", [Never, Anew])
def test_a_metric_that_is_not_reset_goes_on_from_what_it_had(tmp_path, metric):
    def model():
        keras.utils.set_random_seed(3)
        one = keras.Sequential([keras.Input((4,)), L.Dense(3, "tanh"), L.Dense(1)])
        one.compile("sgd", "mse", metrics=[metric()])
        return one

    alone, gone_on = left_alone_and_stopped(tmp_path, model)
    assert gone_on == alone


@pytest.mark.parametrize(("metric", "anew"), [(Never, False), (Anew, False), (keras.metrics.AUC, True)])
def test_whether_a_metric_is_known_to_begin_each_epoch_anew(metric, anew):
    """A ``reset_state`` of the user's is not called to see: it may do more than that."""
    one = metric()
    before = [variable.numpy() for variable in one.variables]
    assert _is_reset(one) == anew
    for variable, value in zip(one.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


class LeavesInLogs(K.Callback):
    """A callback that may be gone on with, and writes into the logs."""

    def __init__(self, what):
        super().__init__()
        self.what = what

    def on_epoch_end(self, epoch, logs=None):
        logs["left"] = self.what

    def get_state(self):
        return {"seen": np.float64(0.5)}

    def set_state(self, state):
        assert state == {"seen": 0.5}


@pytest.mark.parametrize("left", [None, np.float32(0.1), object()], ids=["a metric a class", "a number", "an object"])
def test_whatever_is_in_the_logs_an_interrupted_training_goes_on_or_begins_anew(tmp_path, left):
    """The state could not be written as JSON, and where an epoch took long the trial failed."""
    classes = np.eye(3, dtype="float32")[np.arange(N) % 3]

    def trained(state, stop_after=None):
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((4,)), L.Dense(5, "tanh"), L.Dropout(0.2), L.Dense(3, "softmax")])
        model.compile("adam", "categorical_crossentropy", metrics=[keras.metrics.F1Score()])
        stops = [stop_after]

        def stopping():
            stops[0] = None if stops[0] is None else stops[0] - 1
            return stops[0] == 0

        with planned(TrainingPlan((0, 1), state, {}, stopping=stopping)) as record, contextlib.suppress(Stopped):
            model.fit(X, classes, epochs=4, verbose=0, callbacks=[] if left is None else [LeavesInLogs(left)])
        return model, record, model.history

    whole = trained(tmp_path / "whole.npz")
    trained(tmp_path / "again.npz", stop_after=2)
    assert (tmp_path / "again.npz").exists() == (type(left) is not object)
    model, record, history = trained(tmp_path / "again.npz")
    assert record.history == whole[1].history
    assert [*map(type, history.history["f1_score"])] == [*map(type, whole[2].history["f1_score"])]
    np.testing.assert_array_equal(history.history["f1_score"], whole[2].history["f1_score"])
    np.testing.assert_array_equal(model.get_weights()[0], whole[0].get_weights()[0])
