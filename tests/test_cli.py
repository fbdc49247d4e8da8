"""The command line as people use it: help, endings, what belongs to a search, what is logged, what is sealed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from search.errors import RequestError, WorkError
from search.lab import exercise as exercises
from search.lab.entry import main
from tests.conftest import NEURON, ROOT, command, run, write_exercise

SINGLE = ROOT / "search_single.py"
BUDGET = ("--max-epochs", 1, "--tuner", "random", "--trials", 2, "--workers", 1)


@pytest.fixture(scope="module")
def done(tmp_path_factory, small_data):
    """A whole exercise of the smallest budget, with events for TensorBoard."""
    folder = tmp_path_factory.mktemp("done")
    script = write_exercise(folder, NEURON)
    out = run(script, *BUDGET, "--epochs", 2, "--seeds", 1, "--seed", 5, "--data", small_data, "--tensorboard")
    return script, out


@pytest.fixture
def copy(done, tmp_path):
    """The exercise, to be changed."""
    shutil.copytree(done[0].parent, tmp_path / "copy")
    return tmp_path / "copy" / done[0].name


def results(script):
    return script.parent / "results" / "small"


@pytest.mark.parametrize(
    ("verb", "has", "has_not"),
    [
        ("search", "--tuner", "--seeds"),
        ("summary", "--csv", "--workers"),
        ("retrain", "--read-test-again", "--fresh"),
        ("sweep", "--from", "--tuner"),
        ("ablation", "--epochs", "--from"),
        ("report", "--results", "--seed"),
    ],
)
def test_help_of_a_verb_shows_its_flags(verb, has, has_not, without_tensorflow):
    process = python(without_tensorflow, SINGLE, verb, "--help")
    assert process.returncode == 0
    assert has in process.stdout
    assert has_not not in process.stdout


@pytest.mark.long
def test_test_images_are_read_last_and_once(done):
    script, out = done
    assert (
        out.index("Sweep of batch_size") < out.index("Ablation from the starting model") < out.index("Retraining for")
    )
    (reading,) = [json.loads(line) for line in (results(script) / "test-readings.jsonl").read_text().splitlines()]
    assert reading["settings"]["epochs"] == 2
    assert reading["why"] == "retrain"


def test_a_finished_exercise_says_so_without_tensorflow(copy, small_data, without_tensorflow):
    """And so within two seconds: neither TensorFlow nor a worker is started to find out."""
    process = python(
        without_tensorflow,
        copy,
        *BUDGET,
        "--epochs",
        2,
        "--seeds",
        1,
        "--seed",
        5,
        "--data",
        small_data,
        cwd=copy.parent,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    for said in (
        "The search is complete",
        "sweep batch_size: done before",
        "ablation: done before",
        "retrain: done before",
        "written before",
    ):
        assert said in process.stdout


def test_a_step_takes_data_and_seed_from_its_search(copy):
    run(copy, "sweep", "learning_rate", "--epochs", 1, "--seeds", 1, "--workers", 0)
    record = json.loads((results(copy) / "run.json").read_text())
    assert record["steps"]["sweep learning_rate"]["settings"]["seed"] == 5
    assert record["steps"]["sweep learning_rate"]["settings"]["data"] == record["steps"]["search"]["settings"]["data"]


@pytest.mark.parametrize("step", [("retrain",), ("sweep", "batch_size"), ("ablation",)])
@pytest.mark.parametrize(
    ("flags", "said"), [(("--seed", 6), "seed was 5 and is now 6"), (("--data", "keras"), "data was")]
)
def test_a_step_refuses_what_its_search_did_not_have(copy, step, flags, said, monkeypatch, tmp_path):
    folder = tmp_path / ".keras" / "datasets"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "search" / "lab" / "mnist.npz", folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert said in run(copy, *step, *flags, status=2)


def test_shifted_test_labels_are_noticed(copy, small_data, tmp_path):
    import numpy as np

    with np.load(small_data) as arrays:
        np.savez(tmp_path / "shifted.npz", **{**arrays, "y_test": (arrays["y_test"] + 1) % 10})
    assert "test_data was" in run(copy, "retrain", "--data", tmp_path / "shifted.npz", status=2)


def test_a_second_reading_of_the_test_images_is_asked_for_and_both_results_are_shown(copy):
    said = run(copy, "retrain", "--epochs", 1, "--seeds", 1, "--workers", 0, status=2)
    assert "--read-test-again" in said
    out = run(copy, "retrain", "--epochs", 1, "--seeds", 1, "--workers", 0, "--read-test-again")
    assert "epochs was 2 and is now 1" in out
    assert "retrain.old-1" in out
    assert out.index("loss at 2 epochs") < re.search("loss at 1 epoch(?!s)", out).start()
    assert len((results(copy) / "test-readings.jsonl").read_text().splitlines()) == 2


def test_fresh_leaves_the_log_and_goes_on_when_it_was_interrupted(copy, small_data):
    fresh = ("search", *BUDGET, "--seed", 5, "--data", small_data, "--fresh")
    begun = results(copy) / ".fresh.json"
    out = run(copy, *fresh)
    assert "small.old-1" in out
    assert not (results(copy) / "ablation").exists()
    assert (results(copy) / "test-readings.jsonl").exists()
    assert not begun.exists()
    begun.write_text(json.dumps(list(map(str, fresh))))  # as an interruption leaves it
    out = run(copy, *fresh)
    assert "going on with the work that it began" in out
    assert "The search is complete" in out
    assert "small.old-2" in run(copy, *fresh)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("trials.csv", "COMPLETED", "COMPLETEd"),
        ("retrain/metrics.json", '"test_correct": 1', '"test_correct": 2'),
        ("sweeps/batch_size.csv", "64,0,0.", "64,0,0.0"),
        ("run.json", '"seed": 5', '"seed": 6'),
    ],
)
def test_an_edited_figure_is_noticed_by_name(copy, name, old, new):
    path = results(copy) / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    out = run(copy, "report", status=1)
    assert str(path.relative_to(copy.parent)) in out
    assert "changed since" in out


def test_an_edited_figure_of_the_search_is_written_again(copy, small_data):
    path = results(copy) / "trials.csv"
    text = path.read_text()
    path.write_text(text.replace("COMPLETED", "FAILED", 1))
    run(copy, "search", *BUDGET, "--seed", 5, "--data", small_data)
    assert path.read_text() == text


def test_the_events_for_tensorboard_are_what_was_trained(done):
    import tensorflow
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    folder = results(done[0])
    rows = (folder / "trials.csv").read_text().splitlines()
    for row in rows[1:]:
        values = dict(zip(rows[0].split(","), row.split(","), strict=True))
        run_folder = folder / "tensorboard" / f"trial_{values['trial_id']}"
        events = EventAccumulator(str(run_folder)).Reload()
        (event,) = events.Tensors("best_epoch/val_accuracy")
        assert float(tensorflow.make_ndarray(event.tensor_proto)) == pytest.approx(
            float(values["val_accuracy"]), rel=1e-6
        )
        content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        settings = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
        assert settings["batch_size"].number_value == float(values["hp.batch_size"])


def test_main_from_python_raises_and_does_not_exit(copy, monkeypatch, capsys):
    monkeypatch.chdir(copy.parent)
    exercise = exercises.load(copy)
    with pytest.raises(RequestError, match="No such option --nonsense"):
        main(exercise, ["search", "--nonsense"])
    with pytest.raises(WorkError, match="holds no search"):
        main(exercise, ["summary", "--results", "nowhere"])
    main(exercise, ["summary", "--json"])
    assert len(json.loads(capsys.readouterr().out)["trials"]) == 2


IMPORTS = [
    "import search_small, search.workers.runtime, keras_tuner",
    "import search.workers.runtime, keras_tuner, search_small",
]


@pytest.mark.long
@pytest.mark.parametrize("imports", IMPORTS)
def test_an_exercise_s_class_is_a_kerastuner_hypermodel(imports, copy):
    line = f"{imports}; Small = search_small.Small; assert issubclass(Small, keras_tuner.HyperModel); "
    line += "assert isinstance(Small(), keras_tuner.HyperModel); assert Small().tunable"
    process = python(None, "-c", line, cwd=copy.parent)
    assert process.returncode == 0, process.stderr


def python(without_tensorflow, *arguments, flags=(), cwd=None, environment=(), **options):
    path = os.pathsep.join(map(str, [*([without_tensorflow] if without_tensorflow else []), ROOT]))
    return subprocess.run(
        [sys.executable, *flags, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "120", **dict(environment)},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


def in_one_line(process, status, *said):
    assert process.returncode == status, process.stdout + process.stderr
    assert len(process.stderr.splitlines()) == 1, process.stderr
    for fragment in said:
        assert fragment in process.stderr


def test_outside_its_environment_it_says_which_python_to_use(tmp_path):
    process = python(None, SINGLE, flags=["-S"], cwd=tmp_path)
    in_one_line(process, 2, "has no click", ".venv/bin/python search_single.py")


def test_another_backend_is_refused(tmp_path, without_tensorflow):
    process = python(without_tensorflow, SINGLE, "search", cwd=tmp_path, environment={"KERAS_BACKEND": "jax"})
    in_one_line(process, 2, "KERAS_BACKEND is 'jax'", "'tensorflow'")


def test_more_workers_than_files_may_be_open(tmp_path):
    line = f"ulimit -n 64; exec {sys.executable} {SINGLE} --quick --workers 16"
    process = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )  # fmt: skip
    in_one_line(process, 2, "16 workers", "at most 4", "ulimit -n")


@pytest.mark.long
@pytest.mark.parametrize(
    "how", ["stderr closed", *(pytest.param(how, marks=pytest.mark.slow) for how in ("a long TMPDIR", "-O -W error"))]
)
def test_it_searches_all_the_same(how, tmp_path, small_data):
    script = write_exercise(tmp_path, NEURON)
    environment = {}
    if how == "a long TMPDIR":
        folder = tmp_path.joinpath(*["x" * 40] * 4)
        folder.mkdir(parents=True)
        environment["TMPDIR"] = str(folder)
    process = python(
        None,
        script,
        *("search", *BUDGET, "--data", small_data),
        flags=["-O", "-W", "error"] if how == "-O -W error" else [],
        cwd=tmp_path,
        environment=environment,
        preexec_fn=(lambda: os.close(2)) if how == "stderr closed" else None,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert not process.stderr
    assert "Searched 2 trials" in process.stdout


@pytest.mark.long
@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("after", ["the first line", "a trial"])
def test_interrupted_it_says_how_to_go_on_in_one_line(times, after, tmp_path, small_data):
    script = write_exercise(tmp_path, NEURON)
    process = command(script, "search", "--max-epochs", "9", "--workers", "1", "--data", small_data, fresh=True)
    for line in process.stdout:
        if after == "the first line" or line.startswith("[1/"):
            break
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert len(err.splitlines()) == 1, err
    assert "run the same command again" in err
    assert "Traceback" not in out + err
