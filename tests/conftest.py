"""Paths and small exercises that several tests share."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import search.workers.runtime  # noqa: E402, F401


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """The first 4,000 training images of MNIST with its validation images as an .npz, so that an epoch takes milliseconds."""
    path = tmp_path_factory.mktemp("data") / "small.npz"
    with np.load(ROOT / "search" / "lab" / "mnist.npz") as mnist:
        chosen = np.r_[:4000, 50_000:60_000]
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


@pytest.fixture
def neuron(tmp_path):
    """A small exercise's script."""
    return write_exercise(tmp_path, NEURON)


def _heed_signals():
    """Tests that run under nohup or in the background hand on that these are ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def command(script, *arguments, **options):
    """Starts ``python script arguments`` the way a person does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    options.setdefault("preexec_fn", _heed_signals)
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        cwd=script.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(script, *arguments, status=0):
    """Runs ``python script arguments`` to its end, checks the exit status and returns what it printed."""
    process = command(script, *arguments)
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, f"status {process.returncode}\n{out}\n{err}"
    return out + err
