"""``verify``: right results pass, each kind of wrong one is named, also where its digest was made to fit."""

import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

from search import files
from search.errors import RequestError
from search.lab.archive import archive
from search.lab.reproduce import reproduce, verdict
from search.lab.verify import PICTURES, verify
from tests.conftest import NEURON, ROOT, run, write_exercise


@pytest.fixture(scope="module")
def done(tmp_path_factory, small_data):
    folder = tmp_path_factory.mktemp("done")
    script = write_exercise(folder, NEURON)
    run(script, "--max-epochs", 3, "--epochs", 2, "--seeds", 1, "--data", small_data)
    return folder / "results"


@pytest.fixture
def results(done, tmp_path):
    shutil.copytree(done, tmp_path / "results")
    shutil.copy(done.parent / "search_small.py", tmp_path)
    return tmp_path / "results"


@pytest.mark.long
def test_a_network_with_layers_of_the_lab_s_own_is_read_by_a_process_that_has_not_built_one(tmp_path):
    made = """
        import search.workers.runtime, keras
        from search.lab.layers import RandomShift, SmoothedCrossentropy
        layers = [RandomShift(2), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")]
        model = keras.Sequential([keras.Input((28, 28)), *layers])
        model.compile("adamw", SmoothedCrossentropy(0.05), metrics=["accuracy"])
        model.save("model.keras")
    """
    read = "from pathlib import Path; from search.lab import verify; print(type(verify._network(Path('model.keras')).layers[0]))"
    for code in (textwrap.dedent(made), read):
        out = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert out.returncode == 0, out.stderr
    assert "RandomShift" in out.stdout


def wrong(path):
    return {finding.checked: finding.wrong for finding in verify(path) if finding.wrong}


def forge(results, name, change):
    """Changes a file and its recorded digest, as someone who knows the format would."""
    path = results / "small" / name
    path.write_bytes(change(path.read_bytes()))
    run_json = results / "small" / "run.json"
    record = json.loads(run_json.read_text())
    for step in record["steps"].values():
        if name in step.get("files", {}):
            step["files"][name] = hashlib.sha256(path.read_bytes()).hexdigest()
    run_json.write_text(json.dumps(files.seal(record)))


@pytest.mark.long
def test_right_results_are_reproduced_from_a_folder_and_from_a_hand_in(results, tmp_path):
    assert wrong(results) == {}
    assert wrong(results / "small") == {}
    shutil.copytree(results / "small", results / "small.old-1")
    (results / "report.html").write_text("the lab's")
    (results / "small" / "plots" / "link.png").symlink_to("/etc/passwd")
    handed_in = archive("ÉTÉ-D'OR_Zoë", ROOT, results, tmp_path)
    findings = verify(handed_in)
    assert {finding.exercise for finding in findings} == {"small"}
    assert not [finding for finding in findings if finding.wrong]


def test_a_raised_accuracy_is_named(results):
    def change(data):
        metrics = json.loads(data)
        metrics["tuned"]["seeds"][0]["test_correct"] += 1
        return json.dumps(metrics).encode()

    forge(results, "retrain/metrics.json", change)
    assert "right are told" in wrong(results)["counts and intervals"]


def changed_metrics(*keys, value):
    """Sets one entry of ``metrics.json``."""

    def change(data):
        metrics = json.loads(data)
        part = metrics
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        return json.dumps(metrics).encode()

    return "retrain/metrics.json", change


def with_another_last_epoch(data):
    *rows, last = data.decode().splitlines()
    return "\n".join([*rows, last.replace("0.", "0.9", 1), ""]).encode()


def with_other_labels(data):
    with np.load(io.BytesIO(data)) as kept:
        parts = dict(kept)
    parts["label"] = 1 - parts["label"]
    made = io.BytesIO()
    np.savez(made, **parts)
    return made.getvalue()


FORGED = {
    "a seed's accuracy": (*changed_metrics("tuned", "seeds", 0, "test_accuracy", value=0.9999), "is another accuracy"),
    "a seed's loss": (*changed_metrics("tuned", "seeds", 0, "loss", value=1e-4), "seed 0: loss is not the history's"),
    "the best epoch's": (
        *changed_metrics("start", "seeds", 0, "best_val_accuracy", value=1.0),
        "start, seed 0: best_val_accuracy is not the history's",
    ),
    "a median": (*changed_metrics("tuned", "val_loss", value=1e-4), "medians or ranges are not those of the seeds"),
    "a range": (
        *changed_metrics("start", "range", "loss", value=[0, 1]),
        "medians or ranges are not those of the seeds",
    ),
    "the majority": (*changed_metrics("majority_accuracy", value=0.5), "the most frequent class is another"),
    "the hyper-parameters": (
        *changed_metrics("start", "hyperparameters", value={"batch_size": 64}),
        "the hyper-parameters are not those",
    ),
    "a history": ("retrain/history.csv", with_another_last_epoch, "is not the history's"),
    "the misread images": ("retrain/misread.npz", with_other_labels, "are not those of the predictions"),
}


@pytest.mark.long
@pytest.mark.parametrize("what", FORGED)
def test_what_does_not_follow_from_what_was_kept_is_named(results, what):
    """Each was called reproduced, once its digest had been made to fit."""
    name, change, said = FORGED[what]
    forge(results, name, change)
    assert said in wrong(results)["counts and intervals"]


@pytest.mark.long
def test_histories_that_changed_places_are_named(results):
    tuned, start = (results / "small" / "retrain" / name for name in ("history.csv", "start_history.csv"))
    both = {"retrain/history.csv": start.read_bytes(), "retrain/start_history.csv": tuned.read_bytes()}
    for name, data in both.items():
        forge(results, name, lambda _, data=data: data)
    assert "tuned, seed 0: loss is not the history's" in wrong(results)["counts and intervals"]


@pytest.mark.long
def test_another_number_of_weights_is_named(results):
    forge(results, *changed_metrics("tuned", "parameters", value=7))
    assert "model.keras has 785 weights, 7 are told" in wrong(results)["networks on the test images"]


@pytest.mark.long
def test_networks_of_classes_of_the_exercise_s_own_are_not_called_wrong(tmp_path, small_data):
    own = "class Own(keras.layers.Layer):\n    def call(self, x):\n        return x\n\n"
    script = write_exercise(tmp_path, own + NEURON.replace("keras.layers.Flatten(),", "keras.layers.Flatten(), Own(),"))
    run(script, "--max-epochs", 1, "--epochs", 1, "--seeds", 1, "--data", small_data)
    (found,) = [one for one in verify(tmp_path / "results") if one.checked == "networks on the test images"]
    assert (found.verdict, found.wrong) == ("not checked", "")
    assert "made of classes or functions of the exercise's own" in found.differs


def test_an_archive_with_an_impossible_time_is_refused_in_one_line(tmp_path):
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive_file:
        member = tarfile.TarInfo("run.json")
        member.pax_headers = {"mtime": "1e300"}
        archive_file.addfile(member)
    with pytest.raises(RequestError, match=r"odd\.tar cannot be read"):
        verify(path)


def test_after_one_changed_file_what_was_not_read_is_not_called_wrong(results):
    path = results / "small" / "retrain" / "metrics.json"
    path.write_text(path.read_text().replace("tuned", "tuned "))
    found = {finding.checked: finding for finding in verify(results)}
    assert "metrics.json: was changed" in found["digests"].wrong
    for checked in ("finalists", "ablation", "report"):
        assert found[checked].verdict == "not checked"
        assert not found[checked].wrong


def test_a_folder_that_was_read_elsewhere_is_named_by_its_own_path(results, tmp_path):
    trial = results / "small" / "search" / "trial_0000" / "trial.json"
    trial.write_text(json.dumps(files.seal({**json.loads(trial.read_text()), "search": {"seed": 99}})))
    metrics = results / "small" / "retrain" / "metrics.json"
    metrics.write_text(metrics.read_text().replace("tuned", "tuned "))
    differs = {finding.checked: finding.differs for finding in verify(results)}
    assert f"{trial} is of another search" in differs["proposals, promotions and best"]
    (results / "report.html").write_text("the lab's")
    handed_in = archive("DOE_John", ROOT, results, tmp_path)
    unpacked = {finding.checked: finding.differs for finding in verify(handed_in)}
    assert f"{handed_in}/DOE_John_Lab3_DLCV/results/small/retrain/metrics.json: was changed" in unpacked["digests"]
    for said in (*differs.values(), *unpacked.values()):
        assert f"{tempfile.gettempdir()}/tmp" not in said


def test_results_are_told_apart_by_where_they_are(results, monkeypatch):
    (results / "quick").mkdir()
    shutil.copytree(results / "small", results / "quick" / "small")
    assert {finding.where for finding in verify(results)} == {"results small", "results quick/small"}
    assert {finding.where for finding in verify(results / "small")} == {"small"}
    monkeypatch.chdir(results)
    assert {finding.where for finding in verify(Path("."))} == {"results small", "results quick/small"}


@pytest.mark.long
def test_another_network_is_named(results):
    retrain = results / "small" / "retrain"
    shutil.copy(retrain / "start_model.keras", retrain / "model.keras")
    assert "model.keras answers otherwise" in wrong(results)["networks on the test images"]


def test_another_best_trial_is_named(results):
    def change(data):
        best = json.loads(data)
        best["score"] = 0.999
        return json.dumps(best).encode()

    forge(results, "best.json", change)
    assert "best.json" in wrong(results)["digests"]


def test_a_trial_that_was_never_asked_for_is_named(results):
    path = results / "small" / "search" / "trial_0001" / "trial.json"
    state = json.loads(path.read_text())
    state["hyperparameters"]["values"]["learning_rate"] = 0.5
    path.write_text(json.dumps(files.seal(state)))
    assert "trial 0001 was" in wrong(results)["proposals, promotions and best"]


def test_a_sentence_that_the_numbers_do_not_say_is_named(results):
    page = results / "small" / "report.html"
    page.write_text(page.read_text().replace("<title>", "<title>Best of all: "))
    assert "Best of all" in wrong(results)["report"]


@pytest.mark.long
def test_a_page_of_other_code_is_said_to_be_one(results):
    page = results / "small" / "report.html"
    page.write_text(page.read_text().replace("<title>", "<title>Older: "))
    run_json = results / "small" / "run.json"
    record = json.loads(run_json.read_text())
    for step in record["steps"].values():
        step["program"] = "another"
    run_json.write_text(json.dumps(files.seal(record)))
    assert wrong(results)["report"].startswith("the code that wrote it is not the code that is here")


@pytest.mark.slow
def test_images_that_are_elsewhere_are_given(results, small_data, tmp_path):
    run_json = results / "small" / "run.json"
    record = json.loads(run_json.read_text())
    record["data"]["given"] = "/nowhere/else.npz"
    run_json.write_text(json.dumps(files.seal(record)))
    assert "no such file" in {found.checked: found.wrong for found in verify(results)}["networks on the test images"]
    assert not {found.checked: found.wrong for found in verify(results, str(small_data))}["networks on the test images"]
    with np.load(small_data) as kept:
        np.savez(tmp_path / "other.npz", **{**kept, "y_test": kept["y_test"][::-1]})
    found = {found.checked: found.wrong for found in verify(results, str(tmp_path / "other.npz"))}
    assert "are not those of" in found["networks on the test images"]


def test_predictions_of_other_labels_are_named(results):
    path = results / "small" / "retrain" / "predictions.npz"
    with np.load(path) as kept:
        arrays = dict(kept)
    files.write_npz(path, **{**arrays, "label": 1 - arrays["label"]})
    assert "labels are not" in wrong(results)["networks on the test images"]


def test_a_reading_of_the_test_images_that_was_taken_out_of_the_log_is_named(results):
    """The page then said that they were read once, and a retraining read them again unasked."""
    (results / "small" / "test-readings.jsonl").unlink()
    said = wrong(results)["digests"]
    assert "holds 0 readings of the test images, and run.json 1 final trainings that read them" in said
    script = results.parent / "search_small.py"
    assert "holds 0 readings" in run(script, "retrain", "--epochs", 3, "--seeds", 1, "--workers", 0, status=1)


@pytest.mark.parametrize("figure", ["test_loss", "val_loss"])
def test_a_loss_that_the_saved_network_does_not_have_is_named(results, figure):
    def lower(data):
        metrics = json.loads(data)
        metrics["tuned"]["seeds"][0][figure] /= 10
        return json.dumps(metrics).encode()

    forge(results, "retrain/metrics.json", lower)
    assert f"model.keras: its {figure} is" in wrong(results)["networks on the test images"]


def test_a_file_that_is_missing_is_named(results):
    (results / "small" / "retrain" / "predictions.npz").unlink()
    said = {found.checked: found.wrong for found in verify(results)}
    assert re.search(r"retrain/predictions.npz:? (is )?missing; expected", said["digests"])
    assert "Errno" not in "".join(said.values())


def exchange(text, a, b):
    """The text with ``a`` and ``b`` in each other's place."""
    return text.replace(a, "\0").replace(b, a).replace("\0", b)


@pytest.mark.long
def test_pictures_in_each_other_s_place_and_a_plot_that_is_another_are_named(results):
    page = results / "small" / "report.html"
    first, second = PICTURES.findall(page.read_text())[:2]
    page.write_text(exchange(page.read_text(), first, second))
    assert "is not the picture in its place" in wrong(results)["report"]
    page.write_text(exchange(page.read_text(), first, second))
    plots = results / "small" / "plots"
    shutil.copy(plots / "loss.png", plots / "accuracy.png")
    assert wrong(results)["report"] == "plots/accuracy.png is not the picture in its place on the page"
    loss = base64.b64encode((plots / "loss.png").read_bytes()).decode()
    page.write_text(page.read_text().replace(second, loss))
    assert "another picture than the numbers give in the place of plots/accuracy.png" in wrong(results)["report"]
    page.write_text(re.sub('(name="matplotlib" content=")[^"]*', r"\g<1>1.0", page.read_text()))
    assert "report" not in wrong(results)  # another version draws otherwise, and nothing else differs


def test_a_summary_that_the_numbers_do_not_say_is_named(results):
    path = results / "small" / "summary.txt"
    path.write_text(path.read_text().replace("0 failed", "9 failed"))
    assert wrong(results)["report"].startswith("summary.txt: ")


@pytest.mark.long
def test_the_network_of_the_best_epoch_is_checked(results):
    retrain = results / "small" / "retrain"

    def zero(data):
        network = keras.saving.load_model(retrain / "best_epoch_model.keras")
        network.set_weights([0 * weight for weight in network.get_weights()])
        network.save(retrain / "best_epoch_model.keras")
        return (retrain / "best_epoch_model.keras").read_bytes()

    whole = (retrain / "best_epoch_model.keras").read_bytes()
    (retrain / "best_epoch_model.keras").write_bytes(whole[:-1])
    assert "best_epoch_model.keras: was changed" in wrong(results)["digests"]
    (retrain / "best_epoch_model.keras").write_bytes(whole)
    forge(results, "retrain/best_epoch_model.keras", zero)
    found = wrong(results)
    assert "digests" not in found
    assert "best_epoch_model.keras reads" in found["networks on the test images"]


def test_a_part_that_no_step_is_recorded_to_have_written_is_named(results):
    shutil.copy(results / "small" / "sweeps" / "batch_size.csv", results / "small" / "sweeps" / "layers.csv")
    assert "no complete step is recorded that wrote sweeps/layers.csv" in wrong(results)["digests"]


def test_a_record_without_its_seal_is_damaged(results):
    path = results / "small" / "run.json"
    record = json.loads(path.read_text())
    del record["sha256"]
    path.write_text(json.dumps(record))
    assert "it was changed since its step wrote it" in wrong(results)["digests"]


def test_what_has_not_run_is_no_wrong_result(results):
    folder = results / "small"
    record = json.loads((folder / "run.json").read_text())
    record["steps"] = {"search": record["steps"]["search"]}
    (folder / "run.json").write_text(json.dumps(files.seal(record)))
    for part in ("finalists", "sweeps", "ablation", "retrain"):
        shutil.rmtree(folder / part)
    (folder / "report.html").unlink()
    found = {finding.checked: finding.verdict for finding in verify(results)}
    for checked in ("finalists", "ablation", "counts and intervals", "networks on the test images", "report"):
        assert found[checked] == "not run yet"


@pytest.mark.long
def test_a_link_in_a_folder_is_not_followed(results, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "large").write_bytes(b"0" * 1000)
    (results / "small" / "link").symlink_to(tmp_path / "elsewhere")
    files.copy_tree(results / "small", tmp_path / "copy", "state*")
    assert (tmp_path / "copy" / "trials.csv").exists()
    assert not (tmp_path / "copy" / "link").exists()
    assert wrong(results) == {}


@pytest.mark.parametrize("kind", ["bz2", "gz", "xz"])
def test_an_archive_that_is_cut_short_is_refused(tmp_path, kind):
    whole = tmp_path / f"whole.tar.{kind}"
    (tmp_path / "noise").write_bytes(np.random.default_rng(0).bytes(200_000))
    with tarfile.open(whole, f"w:{kind}") as archive:
        archive.add(tmp_path / "noise", "noise")
    cut = tmp_path / f"cut.tar.{kind}"
    for share in (0.001, 0.5, 0.9):
        cut.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
        with pytest.raises(RequestError, match="cannot be read"):
            verify(cut)


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.tar.bz2")
    with pytest.raises(RequestError, match="neither a file nor a folder"):
        verify(tmp_path / "pipe.tar.bz2")


def test_nothing_to_verify_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"holds no run\.json"):
        verify(tmp_path)
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(RequestError, match="cannot be read"):
        verify(tmp_path / "text")


@pytest.mark.long
def test_trained_again_here_every_figure_is_the_same_to_the_last_bit_and_a_raised_one_is_named(results):
    def change(data):
        metrics = json.loads(data)
        metrics["tuned"]["seeds"][0]["val_accuracy"] += 0.001
        return json.dumps(metrics).encode()

    forge(results, "retrain/metrics.json", change)
    found = {name: verdict for name, verdict, _ in reproduce(results / "small")}
    assert found.pop("tuned model trained again, val_accuracy") == "not reproduced"
    assert set(found.values()) == {"reproduced"}
    assert len(found) == 13


def test_elsewhere_the_spread_of_the_seeds_is_allowed_and_no_more():
    told = np.array([0.990, 0.992, 0.991])
    assert verdict(told, told, False)[0] == "reproduced"
    assert verdict(told, told + 0.001, False)[0] == "within noise"
    assert verdict(told, told + 0.001, True)[0] == "not reproduced"
    assert verdict(told, told + 0.003, False)[0] == "not reproduced"
    assert verdict(told, told[:2], False)[0] == "not reproduced"
    assert verdict(told[:1], told[:1] + 1e-9, False)[0] == "not reproduced"
