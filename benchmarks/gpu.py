"""On a machine with a GPU: seconds an epoch of ``search.fit``, ``model.fit`` and PyTorch's eager loop, 50,000 MNIST images.

    python benchmarks/gpu.py [single] [hidden] [multiclass] [convolutional] [--batch-sizes 32,128,512] [--sides NAMES] [--quick]

Each side is a process of its own that takes the card's memory as it needs it; they take turns, one epoch each. An epoch is
timed by a callback between its beginning and its end, when its loss is a number in Python; PyTorch's by a synchronisation.
The first epoch, which compiles, is not in the median: what it took beyond one is the figure ``first epoch``. The data of every
side is in the card's memory but for ``model.fit``'s, which takes NumPy arrays. All three multiply in TF32, TensorFlow's default.
``ours`` is what ``search.fit`` chooses; ``ours, graph`` and ``ours, XLA`` are held to one of the two, and ``deterministic``
behind a side's name is with TensorFlow's operations held to give the same bits again. On a machine without a GPU everything
runs, and its figures are of its processor.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # else `import search` would find benchmarks/search.py

from benchmarks.figures import figure, heading, made_with

HIDDEN = {
    "single": (),
    "hidden": (64,),
    "multiclass": (256, 128),
}  # units; single and hidden tell digit 0 from the rest
FILTERS = (16, 16, "pool", 32, 32, "pool", 64)  # of convolutions of 3 x 3 with batch normalisation, ten classes
NETWORKS = (*HIDDEN, "convolutional")
SIDES = ("ours, XLA", "ours, graph", "ours", "model.fit", "PyTorch")
RATE = 0.001


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"{', '.join(NETWORKS)}; all by default")
    parser.add_argument("--batch-sizes", default="32,128,512")
    parser.add_argument("--sides", default=";".join(SIDES), help=f"some of {'; '.join(SIDES)}, with semicolons")
    parser.add_argument("--optimizer", choices=("sgd", "adam"), default="adam")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no cell begins later than this")
    parser.add_argument("--quick", action="store_true", help="1,000 images, batch size 128, 2 repeats")
    flags = parser.parse_args()
    sizes = [128] if flags.quick else [int(size) for size in flags.batch_sizes.split(",")]
    images, repeats = (1000, 2) if flags.quick else (flags.images, flags.repeats)
    names, begun = flags.sides.split(";"), time.monotonic()
    context = get_context("spawn")
    sides = {}
    for name in names:
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, name, images, flags.optimizer), daemon=True)
        process.start()
        there.close()
        sides[name] = here
    for name, pipe in list(sides.items()):
        try:
            print(f"{name}: {pipe.recv()}")
        except EOFError:  # it has said why
            del sides[name]
    heading()
    ratios: dict[str, list[float]] = {}
    for size, network in itertools.product(sizes, flags.networks or NETWORKS):
        if time.monotonic() - begun > flags.seconds:
            print(f"left out: {network}, batch {size}")
            continue
        cell = f"{network}, batch {size}"
        for pipe in sides.values():
            pipe.send((network, size, 1 + repeats))
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(1 + repeats):
            for name, pipe in list(sides.items()):
                try:
                    pipe.send("go")
                    seconds[name].append(pipe.recv())
                except (EOFError, OSError):  # it has said why
                    print(f"{name} ended in {cell} and is left out")
                    del sides[name], seconds[name]
        medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
        for name, (first, *others) in seconds.items():
            figure(f"{cell}, {name}", others, "s")
            figure(f"{cell}, {name}: first epoch", [first - medians[name]], "s more")
        for name, pipe in sides.items():
            print(f"    {cell}, {name}: {pipe.recv()}", flush=True)
        ours = [medians[name] for name in sides if name.startswith("ours")]
        for name in ("model.fit", "PyTorch"):
            if ours and name in medians:
                ratios.setdefault(name, []).append(medians[name] / min(ours))
    for name, values in ratios.items():
        figure(f"seconds of {name} / the fastest of ours, by cell", values, "times")
    for pipe in sides.values():
        pipe.send(None)
    made_with(repeats, *(["torch"] if "PyTorch" in sides else []))


class Turns:
    """Waits until an epoch is asked for, and tells its seconds."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def begin(self) -> None:
        self._pipe.recv()
        self._began = time.perf_counter()

    def end(self) -> None:
        self._pipe.send(time.perf_counter() - self._began)


def serve(pipe: Any, name: str, images: int, optimizer: str) -> None:
    """A side's process."""
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    from search.lab import data

    tasks = {network: "digits" if network in ("multiclass", "convolutional") else "zero" for network in NETWORKS}
    of_task = {task: data.training_examples(data.load(), data.TASKS[task]) for task in set(tasks.values())}
    train = pytorch if name == "PyTorch" else of_keras
    if "deterministic" in name:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    pipe.send(torch_device() if name == "PyTorch" else keras_device())
    while (message := pipe.recv()) is not None:
        network, size, epochs = message
        examples = of_task[tasks[network]]
        turns = Turns(pipe)
        pipe.send(train(name, network, examples.x[:images], examples.y[:images], size, epochs, optimizer, turns))


def keras_device() -> str:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0])["device_name"] if gpus else "no GPU"


def torch_device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def keras_model(network: str, optimizer: str, jit_compile: Any) -> Any:
    import keras

    layers: list[Any] = [keras.Input((28, 28)), keras.layers.Rescaling(1 / 255)]
    if network == "convolutional":
        layers.append(keras.layers.Reshape((28, 28, 1)))
        for filters in FILTERS:
            if filters == "pool":
                layers.append(keras.layers.MaxPooling2D(2))
            else:
                layers += [keras.layers.Conv2D(filters, 3, use_bias=False), keras.layers.BatchNormalization()]
                layers.append(keras.layers.Activation("relu"))
        layers.append(keras.layers.Flatten())
    else:
        layers += [keras.layers.Flatten(), *(keras.layers.Dense(units, "relu") for units in HIDDEN[network])]
    binary = network in ("single", "hidden")
    layers.append(keras.layers.Dense(1, "sigmoid") if binary else keras.layers.Dense(10, "softmax"))
    model = keras.Sequential(layers)
    loss = "binary_crossentropy" if binary else "sparse_categorical_crossentropy"
    made = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[optimizer](RATE)
    model.compile(made, loss, metrics=["accuracy"], jit_compile=jit_compile)
    return model


def of_keras(name: str, network: str, x: Any, y: Any, size: int, epochs: int, optimizer: str, turns: Turns) -> str:
    """``search.fit`` or ``model.fit``, an epoch at a time; returns what was learnt, and what compiled it."""
    import keras

    import search
    from search.training import program, xla

    class Epochs(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            turns.begin()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            turns.end()

    usual = xla.XLA_BREAK_EVEN
    xla.XLA_BREAK_EVEN = 0.0 if "XLA" in name else xla.NEVER if "graph" in name else usual
    program._shared.clear()
    keras.utils.set_random_seed(0)
    model = keras_model(network, optimizer, False if "graph" in name else "auto")
    fit: Callable[..., Any] = model.fit if name == "model.fit" else lambda *a, **k: search.fit(model, *a, **k)
    history = fit(x, y, size, epochs, 0, [Epochs()]).history
    kinds = sorted({kind if isinstance(kind, str) else kind[0] for kind, *_ in program._shared})
    how = "jit_compile" if name == "model.fit" and model.jit_compile else ", ".join(kinds)
    xla.XLA_BREAK_EVEN = usual
    return f"accuracy {history['accuracy'][-1]:.4f}; {how}"


def pytorch(name: str, network: str, x: Any, y: Any, size: int, epochs: int, optimizer: str, turns: Turns) -> str:
    """PyTorch's eager loop over tensors on the card, pixels scaled beforehand; its accuracy is not computed."""
    import torch
    from torch import nn

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, labels = torch.from_numpy(x).to(device).float() / 255, torch.from_numpy(y).to(device)
    binary = labels.ndim == 2
    labels, loss_of = (labels.float(), nn.BCEWithLogitsLoss()) if binary else (labels.long(), nn.CrossEntropyLoss())
    layers: list[Any] = []
    wide = 784
    if network == "convolutional":
        images, side, channels = images[:, None], 28, 1
        for filters in FILTERS:
            if filters == "pool":
                layers.append(nn.MaxPool2d(2))
                side //= 2
            else:
                layers += [nn.Conv2d(channels, int(filters), 3, bias=False), nn.BatchNorm2d(int(filters)), nn.ReLU()]
                side, channels = side - 2, int(filters)
        layers.append(nn.Flatten())
        wide = side * side * channels
    else:
        images = images.reshape(len(images), -1)
        for units in HIDDEN[network]:
            layers += [nn.Linear(wide, units), nn.ReLU()]
            wide = units
    model = nn.Sequential(*layers, nn.Linear(wide, 1 if binary else 10)).to(device)
    update = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](model.parameters(), lr=RATE)
    for _ in range(epochs):
        turns.begin()
        for indices in torch.randperm(len(images), device=device).split(size):
            update.zero_grad()
            loss = loss_of(model(images[indices]), labels[indices])
            loss.backward()
            update.step()
        last = loss.item()  # waits for the card
        turns.end()
    return f"loss of the last batch {last:.4f}"


if __name__ == "__main__":
    main()
