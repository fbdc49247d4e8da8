"""Trials on a real Ray cluster, several nodes on this machine's loopback: the same search as in the local pool."""

import dataclasses
import json
import os
import signal
import socket
from pathlib import Path

import keras
import numpy as np
import pytest

import search
from search.errors import WorkError
from search.workers import cluster, sending
from search.workers.trial import Job, Problem
from tests.conftest import LONG, NEURON, ROOT, command, run, write_exercise
from tests.faults import comes_true, trials

# Ray leaves the log files of the nodes it starts to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:.*/ray/session_:pytest.PytestUnraisableExceptionWarning")

BUDGET = ("search", "--max-epochs", 3)

# after each epoch: says that this process has come so far, and waits as long as the test wants, or until it is interrupted
WATCHED = """
    def fit(self, hp, model, *args, callbacks=(), **kwargs):
        import os, pathlib, signal, time
        import keras
        heard = []
        if callable(handler := signal.getsignal(signal.SIGINT)):
            signal.signal(signal.SIGINT, lambda *received: [handler(*received), heard.append(1)])
        here = pathlib.Path(__file__).parent if pathlib.Path(__file__).exists() else pathlib.Path({folder!r})

        def watched(epoch, logs):
            here.joinpath("epochs").open("a").write(f"{{os.getpid()}}\\n")
            while here.joinpath("hold").exists() and not heard:
                time.sleep(0.05)

        callback = keras.callbacks.LambdaCallback(on_epoch_end=watched)
        return super().fit(hp, model, *args, callbacks=[*callbacks, callback], **kwargs)

EXERCISE = """


@pytest.fixture
def watched(tmp_path):
    """A small exercise whose trainings can be watched and held."""
    script = write_exercise(tmp_path, NEURON)
    script.write_text(script.read_text().replace("EXERCISE = ", WATCHED.format(folder=str(tmp_path)).lstrip("\n"), 1))
    return script


@pytest.fixture(scope="module")
def nodes():
    """A cluster: a head for the driver to attach to, which trains nothing, and two nodes of one CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on the loopback alone
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT))
        pytest.importorskip("ray")
        from ray.cluster_utils import Cluster

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        head = {"num_cpus": 0, "include_dashboard": False, "ray_client_server_port": port}
        started = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            started.add_node(num_cpus=1)
        started.client = f"ray://127.0.0.1:{port}"
        yield started
        started.shutdown()


@pytest.fixture
def local_pool(searched_alone):
    """The results of the same search in the local pool."""
    return searched_alone[1]


def best(results):
    return json.loads((results / "small" / "best.json").read_text())


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition, process):
    assert comes_true(lambda: process.poll() is not None or condition())
    assert process.poll() is None, process.communicate()


# Ray gives its client's server 30 s to start, which a busy machine can exceed
@pytest.mark.parametrize("way", [pytest.param(way, marks=pytest.mark.slow) for way in ("local", "address", "client")])
def test_it_finds_the_same_as_the_local_pool_to_the_last_bit(nodes, local_pool, neuron, small_data, way):
    address = way if way == "local" else getattr(nodes, way)
    out = run(neuron, *BUDGET, "--cluster", address, "--data", small_data)
    results = neuron.parent / "results"
    assert trials(results) == trials(local_pool)
    assert best(results) == best(local_pool)
    for state in local_pool.glob("small/search/trial_*/state.npz"):
        assert (results / state.relative_to(local_pool)).read_bytes() == state.read_bytes()
    assert f"with {os.cpu_count() if way == 'local' else 2} worker" in out


@pytest.mark.slow
def test_the_whole_exercise_leaves_every_file(nodes, neuron, small_data):
    run(neuron, "--quick", "--cluster", nodes.address, "--data", small_data)
    folder = neuron.parent / "results" / "quick" / "small"
    for name in ("trials.csv", "retrain/metrics.json", "retrain/model.keras", "sweeps/batch_size.csv", "report.html"):
        assert (folder / name).stat().st_size > 0, name


@pytest.mark.slow
def test_a_node_killed_in_mid_trial_loses_nothing(nodes, local_pool, watched, small_data):
    folder = watched.parent
    victim = nodes.add_node(num_cpus=1)
    raylet = victim.all_processes["raylet"][0].process.pid
    process = command(watched, *BUDGET, "--cluster", nodes.address, "--workers", 3, "--data", small_data)
    wait_for(lambda: list(folder.glob("results/small/search/trial_*/trial.json")), process)
    (folder / "hold").touch()
    known = (folder / "epochs").read_text().count("\n")

    def in_mid_trial():
        its_own = set(map(str, children(raylet)))
        return its_own & set((folder / "epochs").read_text().splitlines()[known:])

    wait_for(in_mid_trial, process)
    for pid in (*children(raylet), raylet):
        os.kill(pid, signal.SIGKILL)
    (folder / "hold").unlink()
    out, err = process.communicate(timeout=LONG)
    nodes.remove_node(victim)
    assert process.returncode == 0, out + err
    assert not err
    assert trials(folder / "results") == trials(local_pool)
    assert best(folder / "results") == best(local_pool)


@pytest.mark.slow
def test_interrupted_it_saves_the_trials_under_way_and_goes_on(nodes, local_pool, watched, small_data):
    folder = watched.parent
    arguments = (*BUDGET, "--cluster", nodes.address, "--data", small_data)
    process = command(watched, *arguments)
    wait_for(lambda: list(folder.glob("results/small/search/trial_*/trial.json")), process)
    known = (folder / "epochs").read_text().count("\n")
    (folder / "hold").touch()
    wait_for(lambda: (folder / "epochs").read_text().count("\n") >= known + 2, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LONG)
    (folder / "hold").unlink()
    assert process.returncode == 130, out + err
    assert len(err.strip().splitlines()) == 1
    saved = list(folder.glob("results/small/search/trial_*/state.npz"))
    assert any(not state.with_name("trial.json").exists() for state in saved)
    run(watched, *arguments)
    assert trials(folder / "results") == trials(local_pool)


def searched_at_random(script, epochs, nodes, small_data):
    """The rows of four random trials on the cluster."""
    budget = ("--tuner", "random", "--trials", 4, "--max-epochs", epochs)
    run(script, "search", *budget, "--cluster", nodes.address, "--data", small_data)
    return trials(script.parent / "results")


@pytest.mark.slow
def test_a_trial_that_hangs_is_marked_after_its_retries(nodes, tmp_path, small_data):
    # only in a Ray worker: the driver builds every kind once, to learn the space
    hang = 'kind = hp.Choice("kind", ["fine", "hangs"])\nimport ray, time\n'
    hang += 'if kind == "hangs" and ray.is_initialized() and ray.get_runtime_context().get_task_id():\n    time.sleep(1000)\n'
    script = write_exercise(tmp_path, hang + NEURON, start="{'kind': 'fine'}", extra="trial_seconds=20.0")
    rows = searched_at_random(script, 1, nodes, small_data)
    assert {row["kind"]: row["status"] for row in rows} == {"fine": "COMPLETED", "hangs": "FAILED"}
    assert {row["message"] for row in rows} == {"", "the worker died (WorkerCrashedError), 3 times"}


SLOW = """
    def fit(self, hp, model, *args, callbacks=(), **kwargs):
        import time
        import keras

        pause = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: time.sleep(10 * (hp.get("kind") == "slow")))
        return super().fit(hp, model, *args, callbacks=[*callbacks, pause], **kwargs)

EXERCISE = """


@pytest.mark.slow
def test_a_trial_that_is_too_slow_is_marked_after_its_retries(nodes, tmp_path, small_data):
    """It was taken for a disk that is full: Python's TimeoutError is an OSError."""
    kind = 'hp.Choice("kind", ["fine", "slow"])\n'
    script = write_exercise(tmp_path, kind + NEURON, start="{'kind': 'fine'}", extra="trial_seconds=20.0")
    script.write_text(script.read_text().replace("EXERCISE = ", SLOW.lstrip("\n"), 1))
    rows = searched_at_random(script, 20, nodes, small_data)
    assert {row["kind"]: row["status"] for row in rows} == {"fine": "COMPLETED", "slow": "FAILED"}
    assert {row["message"] for row in rows} == {"", "it overran its time limit, 3 times"}


class Named:
    """A hypermodel of one neuron, which another process finds by name."""

    def build(self, hp):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("adam", "mse")
        return model

    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, **kwargs)


def searched(folder, **where):
    """A tuner's search of two trials, each trained twice."""

    def build(hp):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(hp.Int("units", 1, 8)), keras.layers.Dense(1)])
        model.compile("adam", "mse")
        return model

    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    tuner = search.RandomSearch(
        build, "val_loss", max_trials=2, executions_per_trial=2, directory=folder, project_name="p", seed=0, **where
    )
    tuner.search(x, x.sum(axis=1), validation_split=0.5, epochs=3, verbose=0)
    return tuner


def test_what_a_job_leaves_elsewhere_is_sent_back_and_no_file_of_the_driver_s_is_touched(tmp_path):
    x = np.ones((8, 3), "float32")
    problem = Problem("named", "data", Named(), (x, x[:, :1]), {"validation_data": (x, x[:, :1]), "verbose": 0})
    parcel = cluster.Parcel(sending.pack(problem), cluster._versions())
    keep = {"milestones": (2, 4), "keep_best": ("val_loss", "min")}
    first = Job("a", {}, (0,), 2, state=tmp_path / "search" / "trial_0" / "state.npz", **keep)
    whole = Job("b", {}, (0,), 4, state=tmp_path / "search" / "trial_1" / "state.npz", **keep)
    later = dataclasses.replace(whole, resume_from=first.state, initial_epoch=2)
    handler = signal.getsignal(signal.SIGINT)
    try:
        outcome, left = cluster._train(parcel, first, {}, {})
        assert outcome.completed, outcome.message
        assert set(left) == {"state.npz", "state.best.npz"}
        resumed, _ = cluster._train(parcel, later, {}, {"state.npz": left["state.npz"]})
        alone, _ = cluster._train(parcel, whole, {}, {})
    finally:
        signal.signal(signal.SIGINT, handler)
    assert not list(tmp_path.iterdir())
    assert resumed.history == alone.history
    assert len(resumed.epoch_seconds) == 2


@pytest.mark.slow
# KerasTuner keeps the optimizer's variables and loads them into one that has none
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer:UserWarning")
def test_a_tuner_has_the_best_weights_of_every_execution(tmp_path):
    pytest.importorskip("ray")
    there, here = searched(tmp_path / "there", cluster="local"), searched(tmp_path / "here", workers=0)
    for one, other in zip(there.get_best_models(2), here.get_best_models(2), strict=True):
        for mine, yours in zip(one.get_weights(), other.get_weights(), strict=True):
            assert np.array_equal(mine, yours)


def test_a_node_with_other_versions_is_named():
    versions = {**cluster._versions(), "tensorflow": "1.0"}
    with pytest.raises(WorkError, match=r"node .* the driver has .*'tensorflow': '1\.0'.*install the same"):
        cluster._problem(cluster.Parcel(b"", versions))


def test_a_missing_ray_is_one_line(neuron, small_data, tmp_path, monkeypatch):
    (tmp_path / "ray.py").write_text("raise ImportError('no ray')")  # beside the script, so found first
    out = run(neuron, *BUDGET, "--cluster", "local", "--data", small_data, status=2)
    first, _, out = out.partition("\n")
    assert first.startswith("Small: search, in ")
    assert out.lstrip("\n") == 'error: --cluster needs ray; install it with: pip install "keras-lab-search[cluster]"\n'


@pytest.mark.parametrize(
    ("scheme", "port"), [("", "closed"), pytest.param("ray://", "something else", marks=pytest.mark.long)]
)
def test_an_unreachable_cluster_is_one_line(neuron, small_data, scheme, port):
    pytest.importorskip("ray")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if port == "something else":
            server.listen()
        address = f"{scheme}127.0.0.1:{server.getsockname()[1]}"
        out = run(neuron, *BUDGET, "--cluster", address, "--data", small_data, status=2)
    first, _, out = out.partition("\n")
    assert first.startswith("Small: search, in ")
    assert out.lstrip("\n") == (
        f"error: --cluster {address} cannot be used (no Ray answered within 5 s); start it with `ray start`, see docs/cluster.md\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--cluster", "somewhere"), "--cluster somewhere: expected local, HOST:PORT or ray://HOST:PORT"),
        (("--cluster", ""), "--cluster '': expected local, HOST:PORT or ray://HOST:PORT"),
        (("--cluster", "local", "--workers", "0"), "--workers 0 trains in this process and --cluster elsewhere"),
    ],
)
def test_a_wrong_request_is_one_line(neuron, small_data, arguments, said):
    out = run(neuron, "search", *arguments, "--data", small_data, status=2)
    assert out.splitlines()[-1].startswith(f"error: {said}")
    assert out.count("\n") <= 2  # the command's first line, and the error
