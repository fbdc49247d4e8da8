"""Paths and small exercises that several tests share."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

os.environ.setdefault(
    "TF_ENABLE_ONEDNN_OPTS", "1"
)  # as the lab's commands have it: tests compare with some that are forks

import search.workers.runtime  # noqa: F401
from tests.preloaded import ROOT, Preloaded

LONG = 600  # seconds after which a test fails that waits for what has to come; nothing else depends on them
COMMANDS = Preloaded("search.workers.runtime")


def pytest_unconfigure():
    """Ends the server that commands are forked from."""
    COMMANDS.__exit__()


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """4,000 training and 800 validation images of MNIST as an .npz, so that an epoch takes milliseconds."""
    path = tmp_path_factory.mktemp("data") / "small.npz"
    with np.load(ROOT / "search" / "lab" / "mnist.npz") as mnist:
        chosen = np.r_[:4000, 50_000:50_800]  # a sixth is held out
        np.savez(
            path,
            x_train=mnist["x_train"][chosen],
            y_train=mnist["y_train"][chosen],
            x_test=mnist["x_test"][:2000],
            y_test=mnist["y_test"][:2000],
        )
    return path


@pytest.fixture(scope="session")
def without_tensorflow(tmp_path_factory):
    """Modules in TensorFlow's, Keras's and KerasTuner's place that end the process when they are imported."""
    folder = tmp_path_factory.mktemp("without_tensorflow")
    for module in ("tensorflow", "keras", "keras_tuner"):
        (folder / f"{module}.py").write_text(f"import os; os.write(2, b'{module} was imported\\n'); os._exit(99)\n")
    return folder


def write_exercise(folder, build, *, start="{'batch_size': 128}", extra=""):
    """Writes ``folder/search_small.py``: digit 0 or not, with the given body of ``build``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "search_small.py"
    path.write_text(
        textwrap.dedent(
            """
            from search import Exercise, HyperModel, main

            class Small(HyperModel):
                def build(self, hp):
                    import keras
            {build}

            EXERCISE = Exercise(
                name="small", title="Small", question="Does it work?", task="zero", hypermodel=Small,
                start={start}, sweeps=("batch_size",), max_epochs=9, {extra}
            )

            if __name__ == "__main__":
                main(EXERCISE)
            """
        ).format(build=textwrap.indent(textwrap.dedent(build), " " * 8), start=start, extra=extra)
    )
    return path


NEURON = """
hp.Choice("batch_size", [64, 128, 256, 512])
rate = hp.Float("learning_rate", 1e-3, 1.0, sampling="log")
layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
model = keras.Sequential([keras.Input((28, 28)), *layers])
model.compile(keras.optimizers.SGD(rate), loss="binary_crossentropy", metrics=["accuracy"])
return model
"""


@pytest.fixture(scope="session")
def searched_alone(tmp_path_factory, small_data):
    """A search that nobody disturbed, of 3 epochs with two workers: its script, its results and what it printed."""
    script = write_exercise(tmp_path_factory.mktemp("alone"), NEURON)
    out = run(script, "search", "--max-epochs", 3, "--workers", 2, "--data", small_data, fresh=True)
    return script, script.parent / "results", out


@pytest.fixture
def neuron(tmp_path):
    """A small exercise's script."""
    return write_exercise(tmp_path, NEURON)


def _heed_signals():
    """Tests that run under nohup or in the background hand on that these are ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def command(script, *arguments, fresh=False, ignored=(), **environment):
    """Starts ``python script arguments`` the way a person does, in a session of its own.

    Args:
        fresh: as a Python of its own, which imports TensorFlow, and not as a fork of one that has.
        ignored, environment: see :meth:`tests.preloaded.Preloaded.start`.
    """
    environment["PYTHONPATH"] = str(ROOT)
    if not fresh:
        return COMMANDS.start([script, *arguments], script.parent, ignored=ignored, **environment)
    assert not ignored
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        cwd=script.parent,
        env={**os.environ, "COLUMNS": "120", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_signals,
    )


def run(script, *arguments, status=0, fresh=False):
    """Runs ``python script arguments`` to its end, checks the exit status and returns what it printed."""
    process = command(script, *arguments, fresh=fresh)
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == status, f"status {process.returncode}\n{out}\n{err}"
    return out + err
