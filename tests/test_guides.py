"""Programs after KerasTuner's guides run as users' scripts: on this package with one import changed, and on KerasTuner.

Each file of ``tests/guides`` is run as it is, in a process of its own; ``# workers`` in its constructors becomes the
argument that is tested. What it prints as ``> name: value`` is held against :data:`FACTS`.
"""

import ast
import os
import re
import socket
import subprocess
import sys

import pytest

from tests.conftest import ROOT

GUIDES = ROOT / "tests" / "guides"
LIMIT = 900  # seconds for a program

DONE = "['COMPLETED']"
FACTS = {
    "getting_started": {
        "default units": "16",
        "space at first": "['activation', 'dropout', 'lr', 'num_layers', 'units_0']",
        "trials": "3",
        "statuses": DONE,
        "metrics": "['accuracy', 'loss', 'val_accuracy', 'val_loss']",
        "best step is an epoch": "True",
        "score is the best": "True",
        "remaining": "0",
        "models": "2",
        "predicts": "(200, 10)",
        "best hyperparameters": "3",
        "retrained epochs": "1",
        "epochs outside a search": "1",
        "space of training": "['image_size', 'normalize', 'shuffle', 'units']",
        "training retrained epochs": "1",
        "reloaded trials": "3",
        "trials after the second search": "3",
        "the same best": "True",
    },
    "objectives": {
        "built in": "2 True",
        "own metric is the loss": "True",
        "objective without a name": "default_objective min",
        "models of a number": "2",
        "several": "['closeness', 'square'] True",
        "parabola": "20 True True",
        "saved": "True",
        "retrained model": "(200, 1)",
    },
    "tailor": {
        "a few": "['learning_rate'] 3 False",
        "units held": "{32}",
        "rest": "{'dropout': 'Boolean', 'learning_rate': 'Fixed', 'units': 'Int'}",
        "rate held": "{0.0001}",
        "compiled with": "mse Adam 0.001",
        "recorded": "['loss', 'sparse_categorical_crossentropy', 'val_loss', 'val_sparse_categorical_crossentropy']",
    },
    "applications": {"resnet": "1 True", "xception": "2 ['learning_rate']"},
    "failed_trials": {
        "retried": "[('COMPLETED', 5), ('FAILED', 1)] {'30 20': 4}",
        "says why": "True",
        "given up": "[('COMPLETED', 5), ('FAILED', 1)] {'30 20': 1}",
        "stopped": "True 1",
        "too many": "True True",
    },
    "custom_loop": {
        "space": "['batch_size', 'learning_rate', 'units']",
        "trials": "3",
        "the model kept is the one scored": "True",
    },
    "custom_tuner": {
        "space of returned": "True",
        "metrics of returned": "['epochs', 'loss']",
        "statuses of returned": "['COMPLETED', 'COMPLETED']",
        "predicts": "(5, 10)",
        "hooks": "4",
        "steps of reported": "[0, 1, 2]",
        "score of reported": "True",
    },
    "distributed_search": {
        "statuses": DONE,
        "epochs": "[1, 3]",
        "the best model scores as its trial": "True",
    },
    "mirrored": {"models": "1"},
    "visualise": {"cnn": "(10, 10)", "mlp": "(10, 10)"},
}
SLOW = (pytest.mark.slow,)
SIDES = [
    pytest.param("search", "workers=0,", id="search-workers-0"),
    pytest.param("search", "workers=2,", id="search-workers-2"),
    pytest.param("keras_tuner", "", id="keras_tuner"),
]
IN_EVERY_RUN = (("getting_started", "search", "workers=2,"),)
CASES = [
    pytest.param(name, *side.values, id=f"{side.id}-{name}", marks=() if (name, *side.values) in IN_EVERY_RUN else SLOW)
    for name in FACTS
    for side in SIDES
]


def write(name, module, argument, folder):
    """Writes the program into the folder, for a module and with an argument in its constructors; its path."""
    text = (GUIDES / f"{name}.py").read_text()
    text, imports = re.subn(
        r"^import search as (\w+)$",
        lambda match: f"import {module} as {match[1]}",
        text,
        flags=re.MULTILINE,
    )
    assert imports == 1
    path = folder / f"{name}.py"
    path.write_text(text.replace("# workers\n", f"{argument}\n"))
    return path


def start(path, **environment):
    """The program's process, its output in one pipe."""
    return subprocess.Popen(
        [sys.executable, path.name],
        cwd=path.parent,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(GUIDES)]),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def facts(process):
    """What the program printed as facts, once it has ended well."""
    try:
        output, _ = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    assert process.returncode == 0, output[-4000:]
    return dict(re.findall(r"^> ([^:\n]+): (.*)$", output, flags=re.MULTILINE))


@pytest.mark.long
@pytest.mark.parametrize(("name", "module", "argument"), CASES)
def test_a_guide_works_with_one_import_changed(name, module, argument, tmp_path):
    seen = facts(start(write(name, module, argument, tmp_path)))
    assert seen | FACTS[name] == seen
    if name == "distributed_search":
        assert int(seen["trials"]) >= 5  # KerasTuner's rungs for three epochs: 3 and 1, and 2
        assert int(seen["promoted"]) >= 1
    elif name == "mirrored":
        assert int(seen["trials"]) >= 2
    elif name == "visualise":
        assert_hparams(tmp_path / "logs", ast.literal_eval(seen["chosen"]), ast.literal_eval(seen["score"]))


def assert_hparams(logs, chosen, score):
    """TensorBoard has every trial's curves, its hyper-parameters and the trial's name, and nothing else."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata
    from tensorboard.util import tensor_util

    def events(folder):
        accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
        accumulator.Reload()
        return accumulator

    assert sorted(folder.name for folder in logs.iterdir()) == sorted(chosen)
    for trial, values in chosen.items():
        assert [folder.name for folder in (logs / trial).iterdir()] == ["execution0"]
        folder = logs / trial / "execution0"
        for part in ("train", "validation"):
            curves = events(folder / part)
            for tag in ("epoch_loss", "epoch_accuracy"):
                assert [event.step for event in curves.Tensors(tag)] == [0, 1]
        accuracies = [float(tensor_util.make_ndarray(e.tensor_proto)) for e in curves.Tensors("epoch_accuracy")]
        assert max(accuracies) == pytest.approx(score[trial], abs=1e-6)

        of_trial = events(folder)
        plugin = of_trial.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
        session = metadata.parse_session_start_info_plugin_data(plugin)
        assert session.group_name == trial
        written = {name: getattr(value, value.WhichOneof("kind")) for name, value in session.hparams.items()}
        assert set(written) >= {"model_type", "mlp_layers", "units_0", "dropout"}
        # KerasTuner writes them before the model is built: it lacks what only this trial's model brought
        assert written == pytest.approx({name: values[name] for name in written})
        assert metadata.SESSION_END_INFO_TAG in of_trial.summary_metadata


@pytest.mark.slow
def test_a_guide_works_on_a_cluster(tmp_path):
    pytest.importorskip("ray")
    seen = facts(start(write("distributed_search", "search", 'cluster="local",', tmp_path)))
    assert seen | FACTS["distributed_search"] == seen


@pytest.mark.slow
@pytest.mark.parametrize("module", ["search", "keras_tuner"])
def test_kerastuners_own_chief_and_workers_work_still(module, tmp_path):
    path = write("chief_and_workers", module, "", tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = {
        who: start(path, KERASTUNER_TUNER_ID=who, KERASTUNER_ORACLE_IP="127.0.0.1", KERASTUNER_ORACLE_PORT=port)
        for who in ("chief", "tuner0", "tuner1")
    }
    try:
        seen = {who: facts(process) for who, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
    assert {who: found["who"] for who, found in seen.items()} == {who: f"{who} {who}" for who in processes}
    assert seen["chief"]["trials"] == f"4 {DONE}"
    assert seen["chief"]["best"] == "['rate', 'units']"
    assert len(list((tmp_path / "results" / "shared").glob("trial_*/checkpoint.weights.h5"))) == 4
