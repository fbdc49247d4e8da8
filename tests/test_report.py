"""The report over fabricated results folders: no TensorFlow, no training, figures known beforehand."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score

from search import files, results
from search.errors import WorkError
from search.report import (
    console,
    drawings,
    estimators,
    evidence,
    exercise_view,
    figures,
    plots,
    sentences,
    sweep_sentences,
)
from search.report import page as report_page
from search.results import read_exercise

EXERCISES: dict[str, dict[str, Any]] = {
    "single": {
        "title": "A single sigmoid neuron",
        "question": "Can one sigmoid unit tell the digit 0 from the rest, and which batch size serves it best?",
        "task": "zero",
        "classes": ["not 0", "0"],
        "start": {"batch_size": 32, "optimizer": "sgd", "learning_rate": 0.01},
        "sweeps": {"batch_size": [16, 32, 64, 128, 256, 512]},
        "parameters": 785,
        "accuracy": (0.9853, 0.9921),
        "loss": (0.0562, 0.0271),
    },
    "hidden": {
        "title": "One hidden layer",
        "question": "What do a hidden layer's units and activation add to telling the digit 0 from the rest?",
        "task": "zero",
        "classes": ["not 0", "0"],
        "start": {"units": 64, "activation": "relu", "optimizer": "sgd", "learning_rate": 0.01},
        "sweeps": {"units": [16, 32, 64, 128, 256], "activation": ["relu", "tanh", "sigmoid", "leaky_relu"]},
        "parameters": 50305,
        "accuracy": (0.9968, 0.9981),
        "loss": (0.0105, 0.00004),
    },
    "multiclass": {
        "title": "Ten classes",
        "question": "Which architecture and which optimizer read all ten digits best?",
        "task": "digits",
        "classes": [str(digit) for digit in range(10)],
        "start": {"layers": 2, "units_0": 128, "optimizer": "sgd", "learning_rate": 0.01},
        "sweeps": {"optimizer": ["sgd", "momentum", "rmsprop", "adam"]},
        "parameters": 118282,
        "accuracy": (0.9741, 0.9832),
        "loss": (0.0412, 0.0011),
    },
}
READING = {"when": "2026-01-02T03:04:00+00:00", "why": "retrain", "search": "a", "settings": {}, "data": "b"}
PROVENANCE = {
    "seed": 7,
    "started": "2026-01-01T10:00:00+00:00",
    "seconds": 41.2,
    "workers": 2,
    "versions": {
        "python": "3.11.7",
        "tensorflow": "2.21.0",
        "keras": "3.15.1",
        "keras-tuner": "1.4.8",
        "numpy": "2.4.6",
    },
    "machine": {"system": "Linux-6.1", "processor": "AMD EPYC", "cores": 2, "memory_gib": 23.5},
    "source": "5f2b" * 16,
}

SPACE = [
    {"name": "batch_size", "values": [32, 64, 128], "conditions": ""},
    {
        "name": "learning_rate",
        "values": None,
        "min_value": 0.0001,
        "max_value": 1.0,
        "sampling": "log",
        "conditions": "optimizer is adam",
    },
]


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name == "run.json" and isinstance(content, dict):
        content = files.seal(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def edit_json(path: Path, **changes: Any) -> None:
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


def fabricate(
    results: Path,
    name: str,
    *,
    steps: str = "search retrain sweeps ablation",
    seeds: int = 3,
    epochs: int = 100,
    **about: Any,
) -> Path:
    """A results folder as the exercise `name` would leave it; `about` replaces entries of EXERCISES."""
    settings = {**EXERCISES[name], **about}
    folder, random = results / name, np.random.default_rng(sorted(EXERCISES).index(name))
    command = f"python search_{name}.py"
    ran: dict[str, Any] = {}
    if "search" in steps:
        ran["search"] = {
            **PROVENANCE,
            "command": command,
            "tuner": "hyperband",
            "max_epochs": 27,
            "factor": 3,
            "trials": 0,
            "epochs_trained": 375,
            "complete": True,
            "space": SPACE,
        }
        fabricate_search(folder, settings, random)
    if "retrain" in steps:
        ran["retrain"] = {**PROVENANCE, "command": f"{command} retrain", "epochs": epochs, "seeds": seeds}
        ran["retrain"]["complete"] = True
        fabricate_retrain(folder, settings, random, seeds, epochs)
        (folder / "test-readings.jsonl").write_text(f"{json.dumps(READING)}\n")
    if "sweeps" in steps:
        for swept, values in settings["sweeps"].items():
            ran[f"sweep {swept}"] = {
                **PROVENANCE,
                "command": f"{command} sweep {swept}",
                "epochs": 10,
                "seeds": seeds,
                "from": "start",
                "values": values,
                "complete": True,
            }
            write_csv(folder / "sweeps" / f"{swept}.csv", fabricate_sweep(values, seeds, random))
    if "ablation" in steps:
        ran["ablation"] = {**PROVENANCE, "command": f"{command} ablation", "seeds": seeds, "complete": True}
        fabricate_ablation(folder, settings, random, seeds)
    exercise = {key: settings[key] for key in ("title", "question", "task", "classes", "start")}
    write_json(
        folder / "run.json",
        {
            "format": 1,
            "exercise": {"name": name, **exercise, "objective": "val_accuracy", "direction": "max"},
            "data": {
                "source": "embedded MNIST",
                "sha256": "731c" * 16,
                "train": 50000,
                "validation": 10000,
                "test": 10000,
            },
            "steps": ran,
        },
    )
    return folder


def fabricate_search(folder: Path, settings: dict[str, Any], random: np.random.Generator) -> None:
    """Hyperband with R = 27 and factor 3: promoted trials continue the better ones; two fail, some diverge."""
    rows: list[dict[str, Any]] = []
    top = settings["accuracy"][1]
    plan = [
        (3, [(27, 1), (9, 3), (3, 9), (1, 27)]),
        (2, [(12, 3), (4, 9), (1, 27)]),
        (1, [(6, 9), (2, 27)]),
        (0, [(4, 27)]),
    ]
    for bracket, rounds in plan:
        previous: list[dict[str, Any]] = []
        for number, (trials, epochs) in enumerate(rounds):
            ranked = sorted((r for r in previous if r["status"] == "COMPLETED"), key=lambda r: -r["val_accuracy"])
            current = []
            for k in range(trials):
                source = ranked[k] if number else None
                rate = source["learning_rate"] if source else round(10 ** random.uniform(-4.5, 0), 6)
                inherited = {key: source[key] for key in settings["start"]} if source else None
                chosen = inherited or {key: draw(key, value, random) for key, value in settings["start"].items()}
                chosen["learning_rate"] = rate
                skill = abs(math.log10(rate) + 2.6)
                score = top - 0.004 * skill**2 - 0.02 / (1 + epochs) - abs(random.normal(0, 0.001))
                score = float(random.choice([0.1, 0.5])) if rate > 0.5 else score
                failed = bracket == 3 and number == 0 and k in (4, 11)
                row = {
                    "trial_id": f"{len(rows):04d}",
                    "status": "FAILED" if failed else "COMPLETED",
                    "bracket": bracket,
                    "round": number,
                    "promoted_from": source["trial_id"] if source else "",
                    "initial_epoch": source["epochs"] if source else 0,
                    "epochs": 0 if failed else epochs,
                    **chosen,
                    "best_epoch": "" if failed else epochs,
                    "val_accuracy": "" if failed else round(score, 4),
                    "val_loss": "" if failed else round(4 * (1 - score), 4),
                    "accuracy": "" if failed else round(min(1, score + 0.001), 4),
                    "loss": "" if failed else round(3.5 * (1 - score), 4),
                    "seconds": round(0.2 * epochs, 2),
                    "message": "loss is NaN after epoch 1 <b>&\nstopped" if failed else "",
                }
                rows.append(row)
                current.append(row)
            previous = current
    write_csv(
        folder / "trials.csv",
        [{f"hp.{key}" if key in settings["start"] else key: value for key, value in row.items()} for row in rows],
    )
    best = max((row for row in rows if row["status"] == "COMPLETED"), key=lambda row: row["val_accuracy"])
    write_json(
        folder / "best.json",
        {
            "trial_id": best["trial_id"],
            "objective": "val_accuracy",
            "score": best["val_accuracy"],
            "best_epoch": best["best_epoch"],
            "epochs": best["epochs"],
            "hyperparameters": {key: best[key] for key in settings["start"]},
        },
    )


def draw(name: str, start: Any, random: np.random.Generator) -> Any:
    choices: dict[str, list[Any]] = {
        "optimizer": ["sgd", "adam", "rmsprop"],
        "activation": ["relu", "tanh", "sigmoid"],
        "layers": [1, 2, 3],
    }
    return random.choice(choices[name]).item() if name in choices else int(random.choice([16, 32, 64, 128, 256, 512]))


def fabricate_history(
    seed: int, loss: float, accuracy: float, epochs: int, random: np.random.Generator
) -> list[dict[str, Any]]:
    """Curves that end at the given training loss and validation accuracy; a small loss comes with overfitting."""
    epoch = np.arange(1, epochs + 1)
    training = loss + (0.45 - loss) * (epoch**-1.1 - epochs**-1.1) * np.exp(random.normal(0, 0.01, epochs))
    floor = 4 * (1 - accuracy)
    rising = 0.006 * floor * np.maximum(0, epoch - 20) if loss < 0.01 else 0 * epoch
    validation = floor + 0.4 * epoch**-1.3 + rising + random.normal(0, 0.0004, epochs)
    val_accuracy = accuracy - 0.06 * epoch**-0.8 + random.normal(0, 0.0003, epochs)
    columns = {
        "seed": np.full(epochs, seed),
        "epoch": epoch,
        "loss": training,
        "accuracy": np.minimum(1, 1 - training / 4),
        "val_loss": validation,
        "val_accuracy": val_accuracy,
    }
    return [{key: column[i].item() for key, column in columns.items()} for i in range(epochs)]


TEST_IMAGES = 10_000


def fabricate_outputs(
    labels: np.ndarray[Any, Any], classes: int, share: float, random: np.random.Generator
) -> np.ndarray[Any, Any]:
    """A network's outputs (n, k) that err on a fixed tenth of the images, more often the worse it is; mostly sure of them."""
    n = len(labels)
    wrong = random.random(n) < np.where(np.arange(n) % 10 == 0, min(1, 9 * (1 - share)), (1 - share) / 9)
    answer = np.where(wrong, (labels + random.geometric(0.35, n)) % classes, labels)
    sure = np.clip(1 - 0.3 * random.random(n) ** 6 - 1e-4, 0.55, 1)
    if classes == 2:
        return np.where(answer == 1, sure, 1 - sure)[:, None].astype(np.float32)
    outputs = np.repeat(((1 - sure) / (classes - 1))[:, None], classes, axis=1)
    outputs[np.arange(n), answer] = sure
    return outputs.astype(np.float32)


def fabricate_retrain(
    folder: Path, settings: dict[str, Any], random: np.random.Generator, seeds: int, epochs: int
) -> None:
    classes = len(settings["classes"])
    labels = (np.arange(TEST_IMAGES) % 10 == 3).astype(int) if classes == 2 else np.arange(TEST_IMAGES) % classes
    metrics: dict[str, Any] = {
        "format": 1,
        "epochs": epochs,
        "test_samples": TEST_IMAGES,
        "majority_accuracy": np.bincount(labels).max() / TEST_IMAGES,
        "test_set_read": "2026-01-01T10:05:00+00:00",
    }
    outputs = {}
    for i, (method, file) in enumerate((("start", "start_history.csv"), ("tuned", "history.csv"))):
        shares = [settings["accuracy"][i] for _ in range(seeds)]
        histories = [
            fabricate_history(k, settings["loss"][i] * (1 + 0.02 * k), shares[k], epochs, random) for k in range(seeds)
        ]
        write_csv(folder / "retrain" / file, [row for rows in histories for row in rows])
        outputs[method] = np.stack([fabricate_outputs(labels, classes, share, random) for share in shares])
        predicted = outputs[method][:, :, 0] > 0.5 if classes == 2 else outputs[method].argmax(axis=2)
        runs = []
        for k, rows in enumerate(histories):
            best = max(rows, key=lambda row: row["val_accuracy"])
            runs.append(
                {
                    "seed": k,
                    **{key: rows[-1][key] for key in results.METRICS},
                    "loss_last_ten": float(np.median([row["loss"] for row in rows[-10:]])),
                    "best_epoch": best["epoch"],
                    "best_val_loss": best["val_loss"],
                    "best_val_accuracy": best["val_accuracy"],
                    "best_test_accuracy": float((predicted[k] == labels).mean()) - 0.0005 * (1 + k),
                    "test_loss": rows[-1]["val_loss"],
                    "test_accuracy": float((predicted[k] == labels).mean()),
                    "test_correct": int((predicted[k] == labels).sum()),
                    "seconds": 4.2 + k,
                }
            )
        best_json = folder / "best.json"
        tuned = json.loads(best_json.read_text())["hyperparameters"] if best_json.exists() else settings["start"]
        metrics[method] = {
            "hyperparameters": tuned if method == "tuned" else settings["start"],
            "parameters": settings["parameters"],
            "handed_over": seeds // 2,
            "seeds": runs,
        }
    np.savez(folder / "retrain" / "predictions.npz", label=labels, **outputs)
    write_json(folder / "retrain" / "metrics.json", metrics)
    m = 24
    label = random.integers(classes, size=m)
    np.savez(
        folder / "retrain" / "misread.npz",
        images=np.clip(random.normal(60, 90, (m, 28, 28)), 0, 255).astype(np.uint8),
        index=np.arange(m),
        label=label,
        predicted=(label + 1) % classes,
        probability=np.linspace(0.9999, 0.52, m),
        networks=np.where(np.arange(m) < m // 2, seeds, max(1, seeds - 1)),
    )


def fabricate_ablation(folder: Path, settings: dict[str, Any], random: np.random.Generator, seeds: int) -> None:
    """Two steps, a hyper-parameter and then all others: the first changes nothing, the second 0.6 points."""
    start = settings["start"]
    best = json.loads((folder / "best.json").read_text())["hyperparameters"]
    first = next(name for name in start if start[name] != best[name])
    others = [name for name in start if name != first and start[name] != best[name]]
    shared = random.normal(0, 0.001, seeds)
    rows = [
        {
            "step": step,
            "hyperparameters": values,
            "parameters": settings["parameters"],
            "scores": (mean + shared + random.normal(0, 0.0001, seeds)).tolist(),
            "message": "",
        }
        for step, values, mean in (
            ([], start, 0.98),
            ([first], {**start, first: best[first]}, 0.98),
            (others, best, 0.986),
        )
    ]
    content = {"format": 1, "objective": "val_accuracy", "epochs": 10, "seeds": seeds, "path": rows}
    write_json(folder / "ablation" / "ablation.json", files.seal(content))


def fabricate_project(folder: Path, *, damaged: bool = False, objective: str = "val_loss") -> Path:
    """A folder as KerasTuner's own tuner leaves it: a best epoch's metrics a trial, one failed, one that was running."""
    write_json(folder / "oracle.json", {"ongoing_trials": {}, "seed": 3})
    random = np.random.default_rng(0)
    space = [
        {"class_name": "Choice", "config": {"name": "units", "values": [16, 32], "conditions": []}},
        {"class_name": "Boolean", "config": {"name": "norm", "default": False, "conditions": []}},
        {
            "class_name": "Float",
            "config": {"name": "rate", "min_value": 1e-4, "max_value": 1e-1, "sampling": "log", "conditions": []},
        },
    ]
    for i in range(8):
        loss, mae = round(float(random.uniform(0.1, 1)), 4), round(float(random.uniform(1, 2)), 4)
        status = {6: "FAILED", 7: "RUNNING"}.get(i, "COMPLETED")
        metrics = {
            name: {"direction": "min", "observations": [{"value": [value], "step": 4}]}
            for name, value in (("loss", 0.9 * loss), ("val_loss", loss), ("val_mae", mae))
        }
        done = status == "COMPLETED"
        score = {"val_loss": loss, "val_mae": mae, "several": loss + mae}[objective]
        values = {"units": [16, 32][i % 2], "norm": i % 3 == 0, "rate": 10.0 ** -(1 + i / 3)}
        state = {
            "trial_id": f"{i:02d}",
            "hyperparameters": {"space": space, "values": values},
            "metrics": {"metrics": metrics if done else {}},
            "score": score if done else None,
            "best_step": 4 if done else None,
            "status": status,
            "message": "Traceback\nValueError: no <b>" if status == "FAILED" else None,
        }
        write_json(folder / f"trial_{i:02d}" / "trial.json", state)
    if damaged:
        (folder / "trial_03" / "trial.json").write_text('{"trial_id": "03", ')
    return folder


@pytest.mark.parametrize(
    ("objective", "named"), [("val_loss", "validation loss"), ("val_mae", "validation mae"), ("several", "score")]
)
def test_a_stock_search_is_reported_by_the_objective_that_its_scores_are_of(
    tmp_path: Path, objective: str, named: str
) -> None:
    folder = fabricate_project(tmp_path / "shop", objective=objective)
    text = text_of(report_page.write_search_report(folder))
    states = [json.loads(path.read_text()) for path in folder.glob("trial_*/trial.json")]
    best = min((state for state in states if state["status"] == "COMPLETED"), key=lambda state: state["score"])
    assert text.startswith("Search: shop")
    assert f"for the smallest {named}" in text
    assert f"(trial {best['trial_id']}, {named} {best['score']:.4f}" in text
    assert "8 trials (8 configurations, 1 failed, 1 running)" in text
    assert "ValueError: no <b>" in text
    assert "0.0001 to 0.1, log scale" in text
    assert "False, True" in text
    assert "starting model" not in text


def test_the_objective_of_a_search_may_be_given(tmp_path: Path) -> None:
    folder = fabricate_project(tmp_path / "shop")
    search = results.read_project(folder, "val_mae", "max")
    assert search.best is not None
    assert search.best.score == max(trial.metrics["val_mae"] for trial in search.trials if trial.status == "COMPLETED")


def test_a_killed_search_with_a_damaged_trial_is_reported_without_it(tmp_path: Path) -> None:
    folder = fabricate_project(tmp_path / "shop", damaged=True)
    text = text_of(report_page.write_search_report(folder))
    assert "7 trials" in text
    assert "The search has not ended. Its best trial so far, of 5, is " in text
    assert "In bold: the best trial so far." in text
    assert "trial_03/trial.json: JSONDecodeError" in text


@pytest.mark.parametrize(
    ("observed", "best_step", "epoch"), [([5], 5, 9), (range(6), 5, 9), (range(9), 8, 9)], ids=["tuner", "stock", "lab"]
)
def test_the_best_epoch_of_a_promoted_trial_counts_from_its_first(
    tmp_path: Path, observed: Any, best_step: int, epoch: int
) -> None:
    folder = fabricate_project(tmp_path / "shop")
    observations = [{"value": [0.01 if step == best_step else 0.5], "step": step} for step in observed]
    metrics = {"val_loss": {"direction": "min", "observations": observations}}
    values = {"units": 16, "tuner/epochs": 9, "tuner/initial_epoch": 3, "tuner/trial_id": "02"}
    edit_json(
        folder / "trial_03" / "trial.json",
        hyperparameters={"space": [], "values": values},
        metrics={"metrics": metrics},
        score=0.01,
        best_step=best_step,
        history=[{"val_loss": [0.5] * 8 + [0.01]}],
    )
    assert results.read_project(folder, "val_loss", "min").trials[3].best_epoch == epoch
    assert f"0.0100 at epoch {epoch} of 9" in text_of(report_page.write_search_report(folder))


def test_epochs_and_seconds_of_a_trial_are_those_that_its_file_keeps(tmp_path: Path) -> None:
    folder = fabricate_project(tmp_path / "shop")
    edit_json(folder / "trial_03" / "trial.json", history=[{"val_loss": [0.5] * 7}], seconds=1.5)
    trials = results.read_project(folder).trials
    assert (trials[3].epochs, trials[3].seconds) == (7, 1.5)
    assert trials[2].epochs == 0
    assert math.isnan(trials[2].seconds)


def test_a_folder_without_a_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="expected a KerasTuner project folder"):
        report_page.write_search_report(tmp_path)
    for path in fabricate_project(tmp_path / "shop").glob("trial_*/trial.json"):
        path.write_text("[]")
    with pytest.raises(WorkError, match="no trial can be read; the first: trial_00"):
        report_page.write_search_report(tmp_path / "shop")


def fabricate_sweep(values: list[Any], seeds: int, random: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    shared = random.normal(0, 0.0006, seeds)
    for i, value in enumerate(values):
        for seed in range(seeds):
            accuracy = 0.985 - 0.0018 * abs(i - 1.4) ** 2 + float(shared[seed] + random.normal(0, 0.0003))
            rows.append(
                {
                    "value": value,
                    "seed": seed,
                    "loss": 0.05 + 0.02 * i + float(random.normal(0, 0.0015)),
                    "accuracy": accuracy + 0.001,
                    "val_loss": 4 * (1 - accuracy),
                    "val_accuracy": accuracy,
                    "seconds_per_epoch": 0.4 / (i + 1) + float(random.normal(0, 0.004)),
                    "parameters": 785 * value if isinstance(value, int) and value < 300 else 50305,
                }
            )
    return rows


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three exercises, run to the end, with their report."""
    results = tmp_path_factory.mktemp("lab") / "results"
    for name in EXERCISES:
        fabricate(results, name)
    report_page.write_lab_report(results)
    return results


@pytest.fixture(autouse=True)
def blank_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are made and not drawn, which takes most of a page's time, but where a test is about pictures."""
    if request.node.name not in ("test_plots_are_written_and_named", "test_same_results_give_the_same_bytes"):
        monkeypatch.setattr(plots, "png", lambda figure: b"no picture")


def text_of(page: Path) -> str:
    """A page's text as a reader sees it: no markup, entities resolved, white space as single spaces."""
    content = re.sub(r"<style>.*?</style>", "", page.read_text(encoding="utf-8"), flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", content)).split())


def with_nbsp(text: str) -> str:
    return text.replace(figures.NBSP, " ")


def test_report_states_the_figures_of_its_files(lab: Path) -> None:
    folder = lab / "single"
    text = text_of(report_page.write_report(folder))
    metrics = json.loads((folder / "retrain" / "metrics.json").read_text())
    with np.load(folder / "retrain" / "predictions.npz") as arrays:
        label = arrays["label"]
        right = {name: (arrays[name][:, :, 0] > 0.5) == label for name in ("start", "tuned")}
        scores = arrays["tuned"][:, :, 0]
    for method in ("start", "tuned"):
        for measure in ("loss", "loss_last_ten", "val_loss"):
            seeds = [seed[measure] for seed in metrics[method]["seeds"]]
            assert figures.loss(np.median(seeds)) in text
            assert f"{figures.loss(min(seeds))} to {figures.loss(max(seeds))}" in text
        tested = [seed["test_accuracy"] for seed in metrics[method]["seeds"]]
        assert with_nbsp(figures.percent(np.median(tested))) in text
        interval = estimators.accuracy_intervals(right)[0][method]
        assert with_nbsp(figures.interval(interval.low, interval.high)) in text
    area = np.median([roc_auc_score(label, score) for score in scores])
    assert "area under the ROC curve, of '0' " in text
    assert figures.loss(area) in text
    assert "training loss after 100 epochs" in text
    assert "90.00 %" in text
    assert "785" in text
    assert "which leaves out zero: the tuned model is the more accurate" in text
    for stated in (
        "python search_single.py sweep batch_size",
        "batch size 32, 64, 128",
        "0.0001 to 1, log scale optimizer is adam",
        "keras-tuner 1.4.8",
        "731c731c731c",
        "2026-01-01 10:05 UTC",
        "A single sigmoid neuron: hyper-parameter search on embedded MNIST",
        "Every step of this exercise has been run",
        "test accuracy after that epoch",
        "both were read at once, and nothing was chosen by them",
    ):
        assert stated in text


def test_plots_are_written_and_named(lab: Path) -> None:
    written = report_page.write_plots(lab / "hidden")
    names = {path.name for path in written}
    assert names == {
        *("loss.png", "accuracy.png", "confusion.png", "misread.png", "search.png", "effects.png"),
        *("reliability.png", "cost.png"),
        *("sweep_units.png", "sweep_activation.png"),
    }
    assert all(path.parent == lab / "hidden" / "plots" for path in written)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert not list(lab.rglob("*.tmp")), "a temporary file was left behind"


@pytest.mark.slow
def test_same_results_give_the_same_bytes(lab: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(lab / "single", tmp_path / "single")
    assert report_page.write_report(copy).read_bytes() == report_page.write_report(lab / "single").read_bytes()


def test_pages_are_self_contained(lab: Path) -> None:
    for page in (lab / "report.html", report_page.write_report(lab / "multiclass")):
        content = page.read_text(encoding="utf-8")
        targets = re.findall(r"""(?:src|href|srcset|action|poster)\s*=\s*["']([^"']*)""", content)
        assert targets
        assert all(target.startswith(("data:image/png;base64,", "#")) for target in targets)
        assert "<script" not in content
        assert "@import" not in content
        assert "url(" not in content
        anchors = {target[1:] for target in targets if target.startswith("#")}
        assert all(f'id="{anchor}"' in content for anchor in anchors)


def test_lab_report_covers_the_exercises_in_the_labs_order(lab: Path) -> None:
    text = text_of(lab / "report.html")
    places = [text.index(EXERCISES[name]["title"]) for name in ("single", "hidden", "multiclass")]
    assert places == sorted(places)
    assert "Loss after 100 epochs" in text
    for name in EXERCISES:
        metrics = json.loads((lab / name / "retrain" / "metrics.json").read_text())
        for method in ("start", "tuned"):
            for measure in ("loss", "test_accuracy"):
                middle = np.median([seed[measure] for seed in metrics[method]["seeds"]])
                assert with_nbsp(figures.metric(measure, middle)) in text
    for swept in ("batch size", "units", "activation", "optimizer"):
        assert f"Sweep over {swept}: " in text


def test_lab_report_names_what_is_missing_and_leaves_out_what_was_set_aside(tmp_path: Path) -> None:
    fabricate(tmp_path, "hidden", steps="")
    fabricate(tmp_path, "single", steps="").rename(tmp_path / "single.old-1")
    text = text_of(report_page.write_lab_report(tmp_path))
    assert "Not run yet: python search_single.py" in text
    assert "Not run yet: python search_multiclass.py" in text
    assert EXERCISES["single"]["title"] not in text


def test_lab_report_without_any_exercise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="make lab"):
        report_page.write_lab_report(tmp_path)


@pytest.mark.parametrize("steps", ["", "search", "sweeps", "search retrain", "search ablation"])
def test_steps_not_run_are_named_with_their_command(tmp_path: Path, steps: str) -> None:
    text = text_of(report_page.write_report(fabricate(tmp_path, "single", steps=steps)))
    for step, command in (("search", "search"), ("retrain", "retrain"), ("sweeps", "sweep NAME")):
        assert (f"Not run yet: python search_single.py {command} " in text) == (step not in steps)
    due = "search" in steps and "ablation" not in steps  # before a search there is no path to take
    assert ("Not run yet: python search_single.py ablation " in text) == due


@pytest.mark.parametrize(
    ("text", "listed", "value"),
    [
        ("True", ["True", "False"], "True"),
        ("16_8", ["8", "16_8"], "16_8"),
        ("16", ["8", "16"], "16"),
        ("1e3", ["1e3", "x"], "1e3"),
        ("True", [True, False], True),
        ("16", [8, 16], 16),
        ("1", [1.0, 2.0], 1.0),
        ("16_8", None, "16_8"),
        ("1_0.5", None, "1_0.5"),
        ("inf", None, math.inf),
        ("", ["", "relu"], ""),
    ],
)
def test_values_are_those_of_the_space_whatever_they_look_like(
    tmp_path: Path, text: str, listed: list[Any] | None, value: Any
) -> None:
    about = {"start": {"batch_size": 32}, "sweeps": {"batch_size": [32]}}
    folder = fabricate(tmp_path, "single", steps="search sweeps", **about)
    run = json.loads((folder / "run.json").read_text())
    run["steps"]["search"]["space"] = [{"name": "batch_size", "values": listed, "conditions": ""}]
    swept = run["steps"]["sweep batch_size"]
    run["steps"]["sweep batch_size"] = {
        **{k: v for k, v in swept.items() if k != "values"},
        **({"values": listed} if listed else {}),
    }
    write_json(folder / "run.json", run)
    for table, column in (("trials.csv", "hp.batch_size"), ("sweeps/batch_size.csv", "value")):
        _, rows = results.read_rows(folder / table)
        write_csv(folder / table, [{**row, column: text} for row in rows])
    exercise = read_exercise(folder)
    for found in (exercise.trials[0].hyperparameters["batch_size"], exercise.sweeps[0].values[0]):
        assert (found, type(found)) == (value, type(value))


def test_an_empty_cell_of_a_hyperparameter_that_is_there_at_times_is_no_value(tmp_path: Path) -> None:
    folder = fabricate(tmp_path, "single", steps="search", start={"batch_size": 32})
    run = json.loads((folder / "run.json").read_text())
    run["steps"]["search"]["space"] = [{"name": "batch_size", "values": [32], "conditions": "optimizer is adam"}]
    write_json(folder / "run.json", run)
    _, rows = results.read_rows(folder / "trials.csv")
    write_csv(folder / "trials.csv", [{**row, "hp.batch_size": ""} for row in rows])
    assert "batch_size" not in read_exercise(folder).trials[0].hyperparameters


@pytest.mark.parametrize("step", ["retrain", "ablation", "sweep batch_size", "search"])
@pytest.mark.parametrize("recorded", [False, True])
def test_what_no_complete_step_wrote_is_left_out_and_named(tmp_path: Path, step: str, recorded: bool) -> None:
    folder = fabricate(tmp_path, "single")
    run = json.loads((folder / "run.json").read_text())
    if recorded:
        run["steps"][step]["complete"] = False
    else:
        del run["steps"][step]
    write_json(folder / "run.json", run)
    exercise = read_exercise(folder)
    shown = {
        "retrain": exercise.final,
        "ablation": exercise.ablation,
        "sweep batch_size": exercise.sweeps,
        "search": exercise.trials,
    }
    assert bool(shown.pop(step)) == (recorded and step == "search")
    assert all(shown.values())
    text = text_of(report_page.write_report(folder)).replace("\u00a0", " ")
    file = {
        "retrain": "retrain/metrics.json",
        "ablation": "ablation/ablation.json",
        "search": "trials.csv and best.json",
    }
    if not (recorded and step == "search"):
        assert f"is recorded here: {file.get(step, 'sweeps/batch_size.csv')}." in text


def test_parts_of_another_configuration_than_today_s_best_are_named_and_made_next(tmp_path: Path) -> None:
    folder = fabricate(tmp_path, "single")
    run = json.loads((folder / "run.json").read_text())
    best = json.loads((folder / "best.json").read_text())["hyperparameters"]
    run["steps"]["sweep batch_size"] |= {"from": "best", "held": best}
    write_json(folder / "run.json", run)
    assert "was the best then" not in text_of(report_page.write_report(folder))
    edit_json(folder / "best.json", hyperparameters={**best, "batch_size": 4096})
    text = text_of(report_page.write_report(folder)).replace("\u00a0", " ")
    for name in ("retrain", "sweep batch_size", "ablation"):
        assert f"The {name} is of a configuration that was the best then and is not now" in text
    for verb in ("retrain --read-test-again", "sweep batch_size --from best", "ablation"):
        assert f"Not run yet: python search_single.py {verb} " in text


def test_an_interrupted_search_is_reported(tmp_path: Path) -> None:
    folder = fabricate(tmp_path, "single", steps="search")
    run = json.loads((folder / "run.json").read_text())
    run["steps"]["search"]["complete"] = False
    write_json(folder / "run.json", run)
    (folder / "best.json").unlink()
    text = text_of(report_page.write_report(folder))
    assert "continues the search, which stopped before its end" in text
    assert "What was found The search has not ended. Its best trial so far, of " in text
    assert "In bold" not in text
    assert "The search chose" not in text


def test_earlier_results_and_every_reading_of_the_test_images_are_said(tmp_path: Path) -> None:
    folder = fabricate(tmp_path, "single")
    assert "read by the final evaluation alone" in text_of(report_page.write_report(folder))
    run = json.loads((folder / "run.json").read_text())
    before = {"folder": "retrain.old-1", "settings": {}, "changes": ["epochs was 3 and is now 100"]}
    before["figures"] = [["start", "loss", 0.5], ["tuned", "test_accuracy", 0.875]]
    run["steps"]["retrain"]["earlier"] = [before]
    swept = next(name for name in run["steps"] if name.startswith("sweep"))
    run["steps"][swept]["earlier"] = [
        {**before, "folder": "sweeps/x.csv.old-1", "figures": [["64", "val_accuracy", 0.75]]},
        {key: value for key, value in before.items() if key != "figures"},  # of before they were kept
    ]
    write_json(folder / "run.json", run)
    with pytest.raises(WorkError, match=r"holds 1 readings of the test images, and run\.json 2 final trainings"):
        read_exercise(folder)
    (folder / "test-readings.jsonl").write_text(f"{json.dumps(READING)}\n" * 2)
    text = text_of(report_page.write_report(folder)).replace("\u00a0", " ")
    assert "An earlier retrain with other settings (epochs was 3 and is now 100), kept in retrain.old-1" in text
    assert "87.50" in text[text.index("An earlier retrain") :]
    assert "kept in sweeps/x.csv.old-1: 64 validation accuracy" in text
    assert text.count("An earlier ") == 3
    assert "read 2 times, for 1 search: 2026-01-02 03:04 UTC and 2026-01-02 03:04 UTC" in text
    assert "is of images that were read 2 times: whoever chose what to run" in text
    assert "nothing was chosen by" not in text


def test_the_remedy_names_another_results_folder(tmp_path: Path) -> None:
    folder = fabricate(tmp_path, "single", steps="search")
    run = json.loads((folder / "run.json").read_text())
    run["steps"]["search"]["command"] = "python search_single.py search --quick --results '/tmp/my runs' --workers 2"
    write_json(folder / "run.json", run)
    assert "python search_single.py retrain --quick --results '/tmp/my runs'" in text_of(
        report_page.write_report(folder)
    )


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    values = ["$\\frac{", "\"><img src='http://example.com/x'>", "relu"]
    folder = fabricate(
        tmp_path,
        "hidden",
        title=f"Hidden {hostile}",
        classes=["not <0>", "$0$"],
        start={hostile: "$x", "units": 64, "learning_rate": 0.01},
        sweeps={"activation": values},
    )
    for path in (report_page.write_report(folder), report_page.write_lab_report(tmp_path)):
        content = path.read_text(encoding="utf-8")
        assert "<script" not in content
        assert "&lt;script&gt;" in content
        assert "<img src='http" not in content
        assert "<b>&" not in content
        assert "loss is NaN after epoch 1 <b>& stopped" in text_of(path)


def test_diverged_trainings_are_said_to_have_diverged(tmp_path: Path) -> None:
    folder = fabricate(tmp_path, "single")
    metrics = json.loads((folder / "retrain" / "metrics.json").read_text())
    for key in ("loss", "val_loss", "test_loss"):
        metrics["tuned"]["seeds"][0][key] = None
    write_json(folder / "retrain" / "metrics.json", metrics)
    rows = results.read_rows(folder / "retrain" / "history.csv")[1]
    lost_rows = [{**row, "loss": "nan", "val_loss": ""} if row["seed"] == "0" else row for row in rows]
    write_csv(folder / "retrain" / "history.csv", lost_rows)
    sweep = results.read_rows(folder / "sweeps" / "batch_size.csv")[1]
    lost = {"loss": "nan", "accuracy": "nan", "val_loss": "nan", "val_accuracy": "nan"}
    write_csv(
        folder / "sweeps" / "batch_size.csv",
        [row | (lost if row["value"] == "64" and row["seed"] == "0" else {}) for row in sweep],
    )
    text = text_of(report_page.write_report(folder))
    assert ", 2 of 3 seeds" in text
    assert "Not compared, since trainings with them diverged or failed: 64 (1 of 3)" in text
    assert "The tuned model's loss is not a number from epoch 1 in 1 of 3 seeds" in text
    assert "nan" not in re.sub(r"NaN after epoch", "", text).lower().replace("finance", "").split()


def test_a_sweep_with_one_seed_claims_nothing(tmp_path: Path) -> None:
    text = text_of(report_page.write_report(fabricate(tmp_path, "single", seeds=1)))
    assert "With one seed a value this cannot be told apart from the chance of a seed" in text
    assert "With one seed a model, the interval resamples images alone" in text


def a_sweep(*groups: list[float]) -> results.Sweep:
    figures = [np.array(group) for group in groups]
    measures = dict.fromkeys(results.SWEEP_METRICS, figures)
    return results.Sweep("batch_size", [32 * 2**i for i in range(len(groups))], measures, 10, "start")


def test_a_model_without_an_accuracy_is_not_said_to_have_one(tmp_path: Path) -> None:
    """'Not a number' is said of a training that diverged."""
    folder = fabricate(tmp_path, "single")
    for name in ("history.csv", "start_history.csv"):
        _, rows = results.read_rows(folder / "retrain" / name)
        write_csv(folder / "retrain" / name, [{**row, "accuracy": "", "val_accuracy": ""} for row in rows])
    text = text_of(report_page.write_report(folder))
    assert "training loss" in text
    assert "validation accuracy from" not in text
    assert "training accuracy after" not in text
    assert "not a number" not in text[text.index("The tuned model") :]


def test_the_sweep_and_a_search_by_another_metric_are_said_to_rank_by_two(tmp_path: Path) -> None:
    exercise = read_exercise(fabricate(tmp_path, "single"))
    sweep = exercise.sweeps[0]
    exercise = with_best(exercise, **{sweep.name: sweep.values[0]})
    two = "The sweep ranks by the validation accuracy, the search by the validation loss."
    assert two not in sweep_sentences.side_by_side(exercise, sweep)
    assert two in sweep_sentences.side_by_side(replace(exercise, objective="val_loss"), sweep)


def test_values_without_an_accuracy_did_not_diverge() -> None:
    losses, nothing = [np.array([0.5]), np.array([0.4])], [np.array([np.nan])] * 2
    sweep = a_sweep([0.98], [0.97])
    measures = {**sweep.measures, "loss": losses, "val_accuracy": nothing, "accuracy": nothing}
    said = sweep_sentences.finding(replace(sweep, measures=measures))
    assert (
        said == "Sweep over batch size: its models have no accuracy among their metrics, by which values are compared."
    )


def test_losses_of_several_functions_are_not_ranked_in_a_sweep() -> None:
    """A penalty on the weights made one value's loss larger by what it is."""
    sweep = a_sweep([0.98, 0.981], [0.97, 0.972])
    assert "training loss is lowest at" in sweep_sentences.details(sweep)
    said = sweep_sentences.details(replace(sweep, one_loss=False))
    assert "The loss is another function at each value" in said
    assert "lowest" not in said


@pytest.mark.parametrize("part", ["sha256", "test_sha256"])
def test_accuracies_on_other_images_are_not_compared(tmp_path: Path, part: str) -> None:
    folders = [fabricate(tmp_path, name) for name in ("single", "hidden")]
    texts = []
    for digests in (("a", "a"), ("a", "b")):
        for folder, digest in zip(folders, digests, strict=True):
            run = json.loads((folder / "run.json").read_text())
            run["data"] |= {"test_sha256": "c", part: digest}
            write_json(folder / "run.json", run)
        texts.append(" ".join(sentences.lab_discussion([read_exercise(folder) for folder in folders])))
    assert "answer the same question on the same test images" in texts[0]
    assert "same test images" not in texts[1]


def test_what_a_budget_left_out_is_said(tmp_path: Path) -> None:
    folder = fabricate(tmp_path, "single", steps="search")
    assert sentences.left_out(read_exercise(folder)) == []
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    run["steps"]["search"] |= {"budget": 1200.0, "planned": {"max_epochs": 27, "brackets": 2}}
    left_out = [read_exercise(folder).trials[0].trial_id, "9999"]
    run["steps"]["finalists"] = {**PROVENANCE, "budget": 1200.0, "planned": {"left_out": left_out}, "complete": False}
    write_json(folder / "run.json", run)
    score = figures.metric("val_accuracy", read_exercise(folder).trials[0].metrics["val_accuracy"])
    assert [said.replace(figures.NBSP, " ") for said in sentences.left_out(read_exercise(folder))] == [
        "For a budget of 20 min 00 s the search ran 2 of Hyperband's 4 brackets.",
        f"Trial {left_out[0]}, {score.replace(figures.NBSP, ' ')} in the search, was no finalist: its retraining would not have "
        "fitted into the budget of 20 min 00 s.",
        "Trial 9999 was no finalist: its retraining would not have fitted into the budget of 20 min 00 s.",
    ]


def test_a_difference_within_the_seeds_is_not_told_apart() -> None:
    near, far = [0.982, 0.9835, 0.981], [0.952, 0.9535, 0.951]
    best = [0.981, 0.983, 0.982]
    assert "not told apart from any other value by 3 seeds on these images" in sweep_sentences.finding(
        a_sweep(best, near)
    )
    assert "Not told apart from it by 3 seeds on these images: 32. Worse: 128." in sweep_sentences.finding(
        a_sweep(best, near, far)
    )
    assert "is told apart from every other value by 3 seeds on these images" in sweep_sentences.finding(
        a_sweep(best, far)
    )


def test_the_best_value_at_the_end_of_those_tried_is_said_to_be_there() -> None:
    best, near = (0.992, 0.991, 0.993), (0.98, 0.979, 0.981)
    at_the_end, inside = a_sweep(near, near, best), a_sweep(near, best, near)
    assert "It is the largest value tried: a better one may lie beyond." in sweep_sentences.finding(at_the_end)
    assert "value tried" not in sweep_sentences.finding(inside)


def test_times_that_overlap_between_seeds_are_not_compared() -> None:
    best, near = (0.992, 0.991, 0.993), (0.9915, 0.9905, 0.9925)
    sweep = a_sweep(best, near)
    apart = {**sweep.measures, "seconds_per_epoch": [np.array([1.0, 1.1, 1.2]), np.array([0.4, 0.45, 0.5])]}
    timed = replace(sweep, measures=apart)
    assert "An epoch, once compiled, takes 0.45 ± 0.05 s at 64" in with_nbsp(sweep_sentences.details(timed))
    assert with_nbsp(sweep_sentences.measured(timed, "seconds_per_epoch", 1)) == "0.45 ± 0.05 s"  # as the table has it
    load = {**sweep.measures, "seconds_per_epoch": [np.array([1.0, 1.1, 1.2]), np.array([0.2, 0.3, 1.1])]}
    loaded = replace(sweep, measures=load)
    assert "An epoch, once compiled" not in sweep_sentences.details(loaded)
    assert "cheaper" not in sweep_sentences.finding(loaded)


def test_losses_that_are_not_one_function_are_said_not_to_compare(lab) -> None:
    final = results.read_exercise(lab / "single").final
    assert evidence.differing_losses(final) == []
    of_losses = ({"loss": "crossentropy", "label_smoothing": 0.0}, {"loss": "crossentropy", "label_smoothing": 0.05})
    methods = {
        name: replace(final.methods[name], loss_function=loss)
        for name, loss in zip(("start", "tuned"), of_losses, strict=True)
    }
    exercise = replace(results.read_exercise(lab / "single"), final=replace(final, methods=methods))
    said = sentences.answer(exercise)
    assert any("are not one function (label smoothing 0 and 0.05) and do not compare" in text for text in said)


def test_the_lab_report_says_which_losses_do_not_compare(tmp_path: Path) -> None:
    folder = fabricate(tmp_path, "multiclass")
    assert "not one function" not in text_of(report_page.write_lab_report(tmp_path))
    metrics = json.loads((folder / "retrain" / "metrics.json").read_text())
    for name, smoothing in (("start", 0.0), ("tuned", 0.05)):
        metrics[name]["loss_function"] = {"loss": "crossentropy", "label_smoothing": smoothing}
    write_json(folder / "retrain" / "metrics.json", metrics)
    text = text_of(report_page.write_lab_report(tmp_path))
    table = text[text.index("Loss after 100 epochs") : text.index("Accuracies")]
    assert "Ten classes: The two losses are not one function (label smoothing 0 and 0.05) and do not compare." in table


def test_a_sweep_over_what_the_loss_is_compares_no_losses() -> None:
    sweep = replace(a_sweep([0.98, 0.981], [0.97, 0.971]), name="label_smoothing", values=[0.0, 0.05])
    said = sweep_sentences.details(sweep)
    assert "The loss is another function at each value: the losses do not compare." in said
    assert "lowest" not in said


def test_a_configuration_that_the_exercise_gave_is_said_not_to_be_drawn(lab) -> None:
    exercise = results.read_exercise(lab / "single")
    search = {**exercise.steps["search"]}
    for handed, said in (([{"batch_size": 32}], False), ([{}, dict(exercise.best.hyperparameters)], True)):
        steps = {**exercise.steps, "search": {**search, "settings": {"first": handed}}}
        assert bool(sentences.given(replace(exercise, steps=steps))) == said
    assert sentences.given(replace(exercise, steps=steps)) == [
        "The search did not draw the best configuration: it is the one that the exercise names as known to serve, which is "
        "tried first."
    ]


def test_a_value_with_a_diverged_seed_does_not_win_by_its_survivors() -> None:
    sweep = a_sweep([0.999, math.nan, 0.999], [0.98, 0.981, 0.98], [0.97, 0.971, 0.97])
    said = sweep_sentences.finding(sweep)
    assert "is largest at 64" in said
    assert "told apart from every other value that is compared by 3 seeds" in said
    assert "Not compared, since trainings with them diverged or failed: 32 (1 of 3)" in said


def test_a_value_that_diverged_is_neither_worse_nor_the_one_with_the_lowest_loss(lab) -> None:
    sweep = a_sweep([0.98, 0.981, 0.98], [0.97, 0.971, 0.97], [0.999, 0.999, math.nan])
    losses = [np.array(losses) for losses in ([0.05] * 3, [0.06] * 3, [0.01, 0.01, math.nan])]
    sweep = replace(sweep, measures={**sweep.measures, "loss": losses})
    assert "training loss is lowest at 32 (0.0500)" in sweep_sentences.details(sweep)
    exercise = results.read_exercise(lab / "single")
    said = sweep_sentences.side_by_side(with_best(exercise, batch_size=128), sweep)
    assert "has 128, which the sweep does not compare, since trainings with it diverged or failed." in said
    assert "told apart from 128" not in said


def with_best(exercise: results.Results, **values: Any) -> results.Results:
    assert exercise.best is not None
    return replace(exercise, best=replace(exercise.best, hyperparameters=values))


def test_the_best_configuration_is_said_to_differ_from_a_sweep_s_models_only_where_it_does(lab) -> None:
    exercise = with_best(results.read_exercise(lab / "single"), batch_size=99, rate=0.1, optimizer="adam")
    sweep = a_sweep([0.981, 0.983, 0.982], [0.952, 0.9535, 0.951])
    same = replace(sweep, origin="best", held={"batch_size": 16, "rate": 0.1, "optimizer": "adam"})
    assert "did not try; its other values are those of the sweep's models." in sweep_sentences.side_by_side(
        exercise, same
    )
    other = replace(sweep, held={"batch_size": 16, "rate": 0.1, "optimizer": "sgd"})
    assert "differs from the sweep's models in 1 other value." in sweep_sentences.side_by_side(exercise, other)
    retuned = replace(other, held={**same.held, "rate": 7.0}, retuned="rate", chosen={"99": 0.1})
    assert "its other values are those of the sweep's models." in sweep_sentences.side_by_side(exercise, retuned)


def test_a_lead_of_one_image_is_said_to_be_that_and_two_seeds_do_not_tell_it_apart() -> None:
    sweep = a_sweep([0.988, 0.988], [0.989, 0.989])
    assert "It is told apart from every other value" in sweep_sentences.finding(sweep)
    known = replace(sweep, images=1000)
    assert "It is not told apart from any other value by 2 seeds" in sweep_sentences.finding(known)
    assert "is 0.10 percentage points, one image of 1,000." in sweep_sentences.details(known)
    assert "image of" not in sweep_sentences.details(replace(known, images=10_000))


def test_values_that_are_exactly_equal_are_said_to_be() -> None:
    perfect = a_sweep(*[[1.0] * 3] * 3)
    assert sweep_sentences.finding(perfect).endswith("after 10 epochs is the same at every value, 100.00\u00a0%.")
    assert "lead" not in sweep_sentences.details(perfect)
    two = sweep_sentences.finding(a_sweep([0.98, 0.982, 0.981], [0.982, 0.981, 0.98], [0.9, 0.902, 0.901]))
    assert "is largest at 32 and 64 alike, 98.10\u00a0%. They are told apart from every other value" in two
    cheaper = replace(perfect, parameters=[10.0, 20.0, 30.0], measures={**perfect.measures})
    measures = {**perfect.measures, "seconds_per_epoch": [np.full(3, 1.0)] * 3}
    cheaper = replace(perfect, values=[128, 64, 32], parameters=[30.0, 20.0, 10.0], measures=measures)
    assert "cheaper: 64 (20 weights; equal) and 32 (10 weights; equal)." in sweep_sentences.finding(cheaper)


def test_a_retuned_value_at_the_end_of_what_was_tried_is_said_to_be_there() -> None:
    sweep = replace(a_sweep([0.98], [0.97]), values=["sgd", "adam"], retuned="learning_rate")
    sweep = replace(sweep, chosen={"sgd": 0.3, "adam": 0.01}, candidates=[0.001, 0.01, 0.3])
    said = "The learning rate that was tuned for sgd, 0.3, is the largest tried: a better one may lie beyond."
    assert said in sweep_sentences.details(sweep)
    assert "tried" not in sweep_sentences.details(replace(sweep, chosen={"sgd": 0.01, "adam": 0.01}))


def test_a_value_that_its_own_test_tells_apart_is_no_tie_however_much_another_wavers() -> None:
    sweep = a_sweep([0.9915, 0.9906, 0.9924], [0.991, 0.99, 0.992], [0.99, 0.97, 0.985])
    sweep = replace(sweep, values=[512, 256, 128], parameters=[30.0, 20.0, 10.0], images=10_000)
    assert evidence.compared(sweep).worse == []  # the third value widens the error of all
    assert "cheaper" not in sweep_sentences.finding(sweep)
    unsteady = [sweep.measures["val_accuracy"][0], np.array([0.9924, 0.9906, 0.991])]
    sweep = replace(
        sweep, measures={**sweep.measures, "val_accuracy": [*unsteady, *sweep.measures["val_accuracy"][2:]]}
    )
    assert "cheaper: 256" in sweep_sentences.finding(sweep)


def test_ties_that_cost_less_are_named() -> None:
    sweep = a_sweep([0.981, 0.9835, 0.982], [0.982, 0.9825, 0.9835])
    measures = {**sweep.measures, "seconds_per_epoch": [np.full(3, 0.25), np.full(3, 1.0)]}
    sweep = replace(sweep, measures=measures, parameters=[785.0, 785.0])
    assert "As good as these seeds can tell, and cheaper: 32 (0.25" in sweep_sentences.finding(sweep)
    sweep = replace(sweep, parameters=[785.0, 12_560.0])
    said = with_nbsp(sweep_sentences.finding(sweep))
    assert "cheaper: 32 (785 weights, 0.25 ± 0.00 s an epoch; 0.05 percentage points below)" in said
    slower = {**measures, "seconds_per_epoch": [np.full(3, 1.0), np.full(3, 0.25)]}
    assert "cheaper" not in sweep_sentences.finding(replace(sweep, measures=slower))
    overlapping = {**measures, "seconds_per_epoch": [np.array([0.1, 0.1, 0.6]), np.array([0.2, 0.3, 0.3])]}
    assert "cheaper: 32 (785 weights; 0.05" in sweep_sentences.finding(replace(sweep, measures=overlapping))


def test_a_value_that_only_wavering_seeds_do_not_tell_apart_is_not_as_good() -> None:
    sweep = a_sweep([0.92, 0.75, 0.66], [0.91, 0.912, 0.911], [0.921, 0.92, 0.919])
    sweep = replace(sweep, parameters=[100.0, 200.0, 300.0])
    said = sweep_sentences.finding(sweep)
    assert "not told apart from any other value by 3 seeds" in said
    assert "cheaper" not in said
    near = replace(
        sweep,
        measures={
            **sweep.measures,
            "val_accuracy": [
                *sweep.measures["val_accuracy"][:1],
                *a_sweep([0.918, 0.917, 0.919], [0.921, 0.92, 0.919]).measures["val_accuracy"],
            ],
        },
    )
    assert "cheaper: 64 (200 weights; 0.20 percentage points below)." in sweep_sentences.finding(near)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (64, "the sweep's best value, and that of the search's best configuration"),
        (32, "the sweep does not tell the two apart"),
        (128, "64 in the sweep, which is told apart from 128 there; 128 in the search's best configuration."),
        (99, "the search's best configuration has 99, which the sweep did not try."),
    ],
)
def test_which_value_is_best_has_one_answer_from_sweep_and_search(tmp_path: Path, chosen: int, said: str) -> None:
    exercise = results.read_exercise(fabricate(tmp_path, "single", steps="search"))
    assert exercise.best is not None
    best = replace(exercise.best, hyperparameters={"batch_size": chosen})
    sweep = a_sweep([0.981, 0.983, 0.982], [0.982, 0.9835, 0.9825], [0.952, 0.9535, 0.951])
    assert said in sweep_sentences.side_by_side(replace(exercise, best=best), sweep)


def test_with_one_seed_no_value_is_said_to_be_the_one(tmp_path: Path) -> None:
    exercise = results.read_exercise(fabricate(tmp_path, "single", steps="search"))
    assert exercise.best is not None
    best = replace(exercise.best, hyperparameters={"batch_size": 99})
    said = sweep_sentences.side_by_side(replace(exercise, best=best), a_sweep([0.982], [0.983]))
    assert said.startswith(
        "Which batch size? 64 of the values swept; the sweep, with one seed a value, does not tell 32 apart from it; "
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three exercises with one seed and few epochs, as --quick runs them."""
    results = tmp_path_factory.mktemp("quick") / "results"
    for name in EXERCISES:
        fabricate(results, name, seeds=1, epochs=12)
    return results


def test_one_seed_has_no_range_and_no_mean(quick: Path) -> None:
    text = text_of(report_page.write_lab_report(quick))
    for claim in ("their range", "Small figures", "median of the last ten epochs", "on average.", "mean test accurac"):
        assert claim not in text
    assert "Each by the 95 % interval of the difference over images alone, of one seed a model: how much" in text
    for claim in ("no figure here is its alone", "over fresh seeds", "over 1 seed"):
        assert claim not in text
    assert "model.keras, is the one that the tuned model's figures are of" in text
    assert "% and 99.81 %, of one seed each" in re.sub(r"\d\d\.\d\d %, of", "99.81 %, of", text)


def test_what_a_figure_leaves_out_its_caption_does_not_say(quick: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(quick / "hidden", tmp_path / "hidden")
    text = text_of(report_page.write_report(folder))
    assert "against the trainable weights it needs and the seconds an epoch takes once compiled" in text
    for path in (folder / "sweeps").glob("*.csv"):
        write_csv(path, [{**row, "seconds_per_epoch": ""} for row in results.read_rows(path)[1]])
    text = text_of(report_page.write_report(folder))
    assert "against the trainable weights it needs. Values further left" in text
    assert "the seconds an epoch takes" not in text


def test_a_search_whose_trials_are_of_one_length_claims_no_other(tmp_path: Path) -> None:
    folder = fabricate_project(tmp_path / "shop")
    text = text_of(report_page.write_search_report(folder))
    for claim in ("trained for longer", "Darker", "The axis is cut", "continues"):
        assert claim not in text
    for path in folder.glob("trial_*/trial.json"):
        state = json.loads(path.read_text())
        values = state["hyperparameters"]["values"] | {"tuner/bracket": 0, "tuner/round": 0, "tuner/epochs": 5}
        values |= (
            {"tuner/epochs": 15, "tuner/initial_epoch": 5, "tuner/trial_id": "00"} if "01" in path.parent.name else {}
        )
        edit_json(path, hyperparameters={**state["hyperparameters"], "values": values})
    text = text_of(report_page.write_search_report(folder))
    for claim in ("trained for longer", "Darker", "continues"):
        assert claim in text
    budget = text[text.index("How the budget went") : text.index("The best trials")]
    assert "0.0 s" not in budget
    edit_json(
        folder / "trial_02" / "trial.json",
        score=90.0,
        best_step=4,
        metrics={"metrics": {"val_loss": {"direction": "min", "observations": [{"value": [90.0], "step": 4}]}}},
    )
    assert "The axis is cut to the better trials" in text_of(report_page.write_search_report(folder))


def test_the_starting_model_is_drawn_once(lab: Path) -> None:
    exercise = results.read_exercise(lab / "hidden")
    points = drawings.costs(exercise)
    assert sum(point.start for point in points) == 2  # of both sweeps
    for axes in plots.cost(points).axes:
        labels = [text.get_text() for text in axes.texts]
        assert labels.count("start") == 1
        assert not {"64", "relu"} & set(labels)


def test_equal_scores_have_a_plain_axis() -> None:
    axes = plots.search_progress([0.7] * 4, [3] * 4, [3] * 4, "val_loss", False).axes[0]
    axes.figure.canvas.draw()
    assert axes.yaxis.get_offset_text().get_text() == ""
    assert all(len(label.get_text()) <= 5 for label in axes.get_yticklabels())


def test_a_wide_space_is_printed_as_a_configuration(tmp_path: Path) -> None:
    start = {**{f"units_{i}": 64 for i in range(8)}, "learning_rate": 0.01}
    folder = fabricate(tmp_path, "hidden", steps="search", start=start)
    content = report_page.write_report(folder).read_text(encoding="utf-8")
    assert 'class="numbers many"' in content
    best = read_exercise(folder).best
    assert best is not None
    assert f'<td class="words sentence printed">{sentences.configuration(best.hyperparameters)}</td>' in content
    narrow = report_page.write_report(fabricate(tmp_path, "single", steps="search")).read_text(encoding="utf-8")
    assert 'class="numbers many"' not in narrow


def test_models_that_seeds_and_images_do_not_tell_apart(lab: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(lab / "single", tmp_path / "single")
    path = folder / "retrain" / "predictions.npz"
    with np.load(path) as arrays:
        label, start, tuned = (arrays[name] for name in ("label", "start", "tuned"))
    np.savez(path, label=label, start=start, tuned=start[::-1])
    text = text_of(report_page.write_report(folder))
    assert "which holds zero: the two models are not told apart" in text
    assert "more accurate" not in text.split("What to do next")[0].split("The two are not told apart")[0]
    np.savez(path, label=label, start=tuned, tuned=start)
    assert "tuning did not help on the test images" in text_of(report_page.write_report(folder))


def test_models_that_do_not_differ_have_no_interval(quick: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(quick / "single", tmp_path / "single")
    path = folder / "retrain" / "predictions.npz"
    with np.load(path) as arrays:
        label, start = arrays["label"], arrays["start"]
    perfect = np.where(label == 1, 0.9, 0.1)[None, :, None].astype(np.float32)
    for tuned, of_start, said in (
        (start, start, "The two models are the same: they give every test image the same output."),
        (perfect * 0.99, perfect, "Neither model misreads a test image."),
        (start * 0.999 + 0.0005, start, "The two models misread the same test images."),
    ):
        np.savez(path, label=label, start=of_start, tuned=tuned)
        text = text_of(report_page.write_lab_report(tmp_path)) + text_of(report_page.write_report(folder))
        assert text.count(said) >= 2
        assert "+0.00 to +0.00" not in text
        assert "no difference" in text


def test_the_only_trial_with_a_score_is_said_to_be_that(tmp_path: Path) -> None:
    folder = fabricate(tmp_path, "single", steps="search")
    rows = results.read_rows(folder / "trials.csv")[1]
    best = json.loads((folder / "best.json").read_text())["trial_id"]
    kept = [row for row in rows if row["status"] == "FAILED" or row["trial_id"] == best]
    write_csv(folder / "trials.csv", kept)
    text = text_of(report_page.write_report(folder))
    assert f"Of {len(kept)} trials one alone has a score: " in text
    assert (
        f"The search tried {len(kept)} configurations of its space, one seed each, of which {len(kept) - 1} failed;"
        in text
    )
    assert "The search chose" not in text
    printed = io.StringIO()
    console.print_summary(folder, Console(file=printed, width=200))
    assert ": 1 trial completed, 2 failed, " in printed.getvalue()
    assert "The best trial by validation accuracy" in printed.getvalue()


def confused(exercise: results.Results, labels: Any, *answers: Any) -> str:
    """What is said of the errors of networks that give these answers."""
    assert exercise.final is not None
    classes = len(exercise.classes)
    outputs = np.array(answers)[..., None] if classes == 2 else np.eye(classes)[np.array(answers)]
    method = replace(exercise.final.methods["tuned"], outputs=outputs.astype(np.float32))
    final = replace(exercise.final, labels=np.array(labels), methods={"start": method, "tuned": method})
    return sentences.hardest(exercise, final)


def test_a_class_without_a_test_image_is_read_neither_well_nor_ill(lab: Path) -> None:
    ten, two = (results.read_exercise(lab / name) for name in ("multiclass", "single"))
    said = confused(ten, [0, 0, 0, 1, 1], [0, 0, 0, 1, 2])
    assert "reads '1' worst (1 of 2 images right)" in said
    assert "read as '2' (1 image)." in said
    assert confused(two, [0, 0, 0], [1, 0, 0]).startswith(
        "No test image is of '0'; the tuned model takes 1 of 3 images of"
    )
    assert confused(two, [1], [0]) == "The tuned model misses 1 of 1 image of '0'; no test image is of 'not 0'."


def test_a_median_between_two_whole_numbers_is_said(lab: Path) -> None:
    two = results.read_exercise(lab / "single")
    assert "misses 0.5 (0 to 1) of 2 images of '0'" in confused(two, [1, 1, 0], [1, 1, 0], [1, 0, 0])
    assert exercise_view._epochs(estimators.summary([8, 9])) == ("8.5", "8 to 9")


def test_trainings_that_diverged_are_counted_in_words() -> None:
    lost, good = np.full(30, np.nan), np.linspace(0.3, 0.1, 30)

    def said(*losses: Any) -> str:
        method = a_method(good, good, seeds=len(losses))
        return sentences.fitting("tuned", replace(method, history={**method.history, "loss": np.array(losses)}))

    assert said(lost) == "The tuned model's loss is not a number from epoch 1 on: the training diverged."
    assert "in 1 of 3 seeds: that training diverged." in said(lost, good, good)
    assert "in 2 of 3 seeds: those trainings diverged." in said(lost, lost, good)


def a_method(val_loss: Any, loss: Any, val_accuracy: Any = 0.99, seeds: int = 3) -> results.Method:
    columns = {"loss": loss, "val_loss": val_loss, "val_accuracy": val_accuracy}
    epochs = len(val_loss)
    history = {name: np.tile(np.broadcast_to(column, epochs), (seeds, 1)) for name, column in columns.items()}
    return results.Method({}, 785, {}, history, np.zeros((seeds, 10, 1), np.float32), 0)


def test_overfitting_names_its_epoch_and_figures() -> None:
    epoch = np.arange(1.0, 101.0)
    sentence = sentences.fitting("tuned", a_method(0.1 + 0.001 * np.abs(epoch - 30), 0.3 / epoch))
    assert "overfits after epoch 30" in sentence
    assert "the lowest validation loss is 0.1025, at epoch 30, and the last 0.1655" in sentence
    assert "still improves at epoch 100" in sentences.fitting("tuned", a_method(1 / epoch, 0.3 / epoch))
    assert "has levelled off" in sentences.fitting("tuned", a_method(np.full(100, 0.1), 0.3 / epoch))


def test_a_spike_makes_no_trend() -> None:
    """The lowest loss at epoch 9 and a spike near the end: means of the last windows would fall from 0.3 to 0.1."""
    epoch = np.arange(1.0, 101.0)
    validation = np.where(epoch < 9, 0.09 - 0.001 * (epoch - 9), 0.08 + 0.0002 * (epoch - 9))
    validation[84] = 2.0
    sentence = sentences.fitting("tuned", a_method(validation, 0.3 / epoch))
    assert "still improves" not in sentence
    assert "overfits" in sentence


def test_a_few_epochs_make_no_trend() -> None:
    said = sentences.fitting("tuned", a_method(np.array([0.3, 0.1, 0.2]), np.array([0.3, 0.2, 0.1])))
    assert "trained for 3 epochs, too few to tell a trend from a spike" in said
    assert "overfits" not in said


def test_accuracy_stands_beside_loss_and_seeds_that_disagree_are_said_to() -> None:
    epoch = np.arange(1.0, 101.0)
    rising, level = a_method(0.1 + 0.001 * np.abs(epoch - 30), 0.3 / epoch), a_method(np.full(100, 0.1), 0.3 / epoch)
    assert "the validation accuracy from 99.00 % to 99.00 %" in with_nbsp(sentences.fitting("tuned", rising))
    history = {name: np.vstack([rising.history[name][:2], level.history[name][:1]]) for name in rising.history}
    mixed = sentences.fitting("tuned", replace(rising, history=history))
    assert "disagree: it overfits in 2 and has levelled off in 1 of 3" in mixed


EPOCH = np.arange(1.0, 101.0)
WAVE = np.random.default_rng(1).normal(size=100)


@pytest.mark.parametrize(
    ("validation", "training", "said"),
    [
        (
            np.linspace(0.1, 0.472, 100),
            np.linspace(0.1, 0.3, 100),
            "rises after epoch 1, and its training loss does not",
        ),
        (np.linspace(0.1023, 0.1477, 100), np.full(100, 0.1), "rises after epoch 1, and its training loss does not"),
        (0.2 - 0.0006 * EPOCH + 0.02 * WAVE, 0.3 / EPOCH, "takes no clear course"),
        (0.1 + 0.02 * np.sin(EPOCH / 6 + 0.6), 0.3 / EPOCH, "takes no clear course"),
        (0.1 + 0.02 * np.sin(EPOCH / 3 + 3), 0.3 / EPOCH, "takes no clear course"),
        (0.1 + 0.01 * WAVE, 0.3 / EPOCH, "has levelled off"),
        (0.1 + 0.3 * np.exp(-EPOCH / 10), 0.3 / EPOCH, "has levelled off"),
    ],
    ids=["both rise", "rises over a level one", "falls in noise", "swings", "swings faster", "noise", "approaches"],
)
def test_a_loss_has_levelled_off_only_where_it_lies_level(validation: Any, training: Any, said: str) -> None:
    sentence = sentences.fitting("tuned", a_method(validation, training))
    assert said in sentence
    assert ("levelled off." in sentence) == (said == "has levelled off")


def test_a_spike_at_the_last_epoch_is_no_models_headline(tmp_path: Path) -> None:
    folder = fabricate(tmp_path, "hidden")
    metrics = json.loads((folder / "retrain" / "metrics.json").read_text())
    metrics["tuned"]["seeds"][1]["loss"] = 0.0087
    write_json(folder / "retrain" / "metrics.json", metrics)
    others = [metrics["tuned"]["seeds"][k]["loss"] for k in (0, 2)]
    said = sentences.answer(results.read_exercise(folder))[0]
    assert f"{figures.loss(max(others))} ({figures.loss(min(others))} to 0.0087) for the tuned model" in said


def test_a_trials_score_is_compared_with_the_same_images_and_configuration(lab: Path) -> None:
    exercise = results.read_exercise(lab / "single")
    assert exercise.final is not None
    said = sentences.selection(exercise)
    tuned = exercise.final.methods["tuned"]
    for measure in ("val_accuracy", "best_val_accuracy"):
        assert sentences.ranged(measure, evidence.over_seeds(tuned, measure)) in said
    assert "The same configuration, trained again for 100 epochs with 3 fresh seeds" in said


def test_accuracy_below_the_majority_is_called_worthless(lab: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(lab / "single", tmp_path / "single")
    metrics = json.loads((folder / "retrain" / "metrics.json").read_text())
    for seed in metrics["tuned"]["seeds"]:
        seed["test_accuracy"] = 0.89
    write_json(folder / "retrain" / "metrics.json", metrics)
    text = text_of(report_page.write_report(folder))
    assert "90.00 % of the test images are 'not 0'" in text
    assert "the tuned model's 89.00 % is worth no more than that answer" in text


def test_fewer_epochs_than_the_lab_asks_for_are_admitted(tmp_path: Path) -> None:
    text = text_of(report_page.write_report(fabricate(tmp_path, "single", epochs=2)))
    assert "training loss after 2 epochs" in text
    assert "The lab asks for the loss at 100 epochs; this run trained 2" in text


def test_a_search_that_minimises_picks_the_smallest(tmp_path: Path) -> None:
    folder = fabricate(tmp_path, "single", steps="search")
    run = json.loads((folder / "run.json").read_text())
    run["exercise"] |= {"objective": "val_loss", "direction": "min"}
    write_json(folder / "run.json", run)
    rows = [row for row in results.read_rows(folder / "trials.csv")[1] if row["status"] == "COMPLETED"]
    lowest = min(rows, key=lambda row: float(row["val_loss"]))
    edit_json(folder / "best.json", trial_id=lowest["trial_id"], score=float(lowest["val_loss"]))
    page = report_page.write_report(folder)
    assert "for the smallest validation loss" in text_of(page)
    assert "is the smallest of" in text_of(page)
    table = page.read_text(encoding="utf-8").split("<h3>The best trials</h3>")[1]
    assert re.search(r"<tbody>\s*<tr[^>]*>\s*<td>(\w+)</td>", table).group(1) == lowest["trial_id"]  # type: ignore[union-attr]


def test_a_search_in_which_every_trial_failed(tmp_path: Path) -> None:
    folder = fabricate(tmp_path, "single", steps="search")
    rows = [row for row in results.read_rows(folder / "trials.csv")[1] if row["status"] == "FAILED"]
    write_csv(folder / "trials.csv", rows)
    (folder / "best.json").unlink()
    text = text_of(report_page.write_report(folder))
    assert "2 failed" in text
    assert "loss is NaN after epoch 1" in text


def test_random_search_has_no_budget_table(tmp_path: Path) -> None:
    folder = fabricate(tmp_path, "single", steps="search")
    rows = results.read_rows(folder / "trials.csv")[1]
    plain = {"bracket": "", "round": "", "promoted_from": "", "initial_epoch": "0"}
    write_csv(folder / "trials.csv", [{key: plain.get(key, value) for key, value in row.items()} for row in rows])
    run = json.loads((folder / "run.json").read_text())
    run["steps"]["search"] |= {"tuner": "random", "max_epochs": 27}
    write_json(folder / "run.json", run)
    text = text_of(report_page.write_report(folder))
    assert "Random search, 27 epochs a trial" in text
    assert "How the budget went" not in text


DAMAGE = {
    "run.json": "{",
    "best.json": "[]",
    "trials.csv": "trial_id,status\n0000,COMPLETED\n",
    "retrain/metrics.json": '{"format": 1, "epochs": 100}',
    "retrain/predictions.npz": "no archive",
    "retrain/history.csv": "epoch,loss,accuracy,val_loss,val_accuracy\n1,2,3\n",
    "retrain/start_history.csv": "",
    "retrain/misread.npz": "no archive",
    "ablation/ablation.json": '{"format": 1, "path": []}',
    "sweeps/batch_size.csv": "value,seed,loss,accuracy,val_loss,val_accuracy,seconds_per_epoch\n32,0,x,1,1,1,1\n",
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_a_damaged_or_missing_file_is_named_with_the_remedy(lab: Path, tmp_path: Path, name: str, how: str) -> None:
    folder = shutil.copytree(lab / "single", tmp_path / "single")
    (folder / "report.html").unlink(missing_ok=True)
    if how == "damaged":
        (folder / name).write_text(DAMAGE[name], encoding="utf-8")
    else:
        (folder / name).unlink()
    with pytest.raises(WorkError) as raised:
        report_page.write_report(folder)
    message = str(raised.value)
    assert str(folder / name) in message
    assert "expected" in message
    assert "python search_single.py" in message
    assert "\n" not in message
    assert not (folder / "report.html").exists()


def test_another_format_is_refused(lab: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(lab / "single", tmp_path / "single")
    edit_json(folder / "run.json", format=2)
    with pytest.raises(WorkError, match="format 2"):
        report_page.write_plots(folder)


def test_bad_trials_leave_the_axis_and_are_counted() -> None:
    scores = [0.10, 0.98, 0.981, 0.979, 0.982, 0.985, float("nan"), 0.983]
    figure = plots.search_progress(scores, [3] * 8, [3] * 8, "val_accuracy", True)
    axes = figure.axes[0]
    assert axes.get_ylim()[0] > 0.9
    notes = " ".join(text.get_text() for text in axes.texts)
    assert "1 trial below the axis" in notes
    assert "1 trial without a score" in notes


def test_what_an_effect_s_axis_leaves_out_is_on_it_and_the_legend_has_what_is_drawn() -> None:
    units = [5, 20, 21, 22, 23, 24, 25, 26, 27, 28]
    scores = [9.0, 0.1, 0.11, 0.12, 0.1, 0.11, 0.12, 0.1, 0.11, 0.12]
    figure = plots.effects({"units": units}, scores, [2] * 10, "val_loss", False)
    axes = figure.axes[0]
    assert axes.get_xlim()[0] < 5
    figure.draw_without_rendering()
    assert all(tick == int(tick) for tick in axes.get_xticks())
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["2 epochs", "above the axis (1 of 10)"]
    figure = plots.effects({"units": [1, 2] * 5}, scores, [2] * 10, "val_loss", False)
    assert "median" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_progress_has_whole_epochs_and_its_notes_hide_no_point() -> None:
    axes = plots.search_progress([0.1, float("nan")], [1, 1], [1, 1], "val_loss", False).axes[0]
    axes.figure.draw_without_rendering()
    assert all(tick == int(tick) for tick in axes.get_xticks())
    (note,) = axes.texts
    assert not note.get_window_extent().overlaps(axes.get_window_extent())
    assert not note.get_window_extent().overlaps(axes.xaxis.label.get_window_extent())


def test_the_report_needs_neither_tensorflow_nor_keras() -> None:
    code = "import sys, search.report; print([m for m in ('tensorflow', 'keras', 'keras_tuner') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (figures.percent(0.9921), "99.21 %"),
        (figures.loss(0.02104), "0.0210"),
        (figures.loss(0.00004), "4.0 \N{MULTIPLICATION SIGN} 10⁻⁵"),
        (figures.loss(math.nan), "not a number"),
        (figures.value(0.0012345), "0.00123"),
        (figures.duration(3845), "1 h 04 min"),
        (figures.extent("accuracy", 0.99, 0.9937), "99.00 to 99.37"),
        (figures.spread("accuracy", 0.992, 0.0005), "99.20 ± 0.05 %"),
        (figures.spread("loss", 0.00004, 0.000002), "(4.0 ± 0.2) \N{MULTIPLICATION SIGN} 10⁻⁵"),
        (figures.spread("loss", 0.0271, 0.00003), "0.02710 ± 0.00003"),
        (figures.listed(["a", "b", "c"]), "a, b and c"),
        (figures.spread("val_precision", 0.972, 0.001), "97.20 ± 0.10 %"),
        (figures.change("loss", -1e-12), "+0.0000"),
        (figures.change("loss", -0.00002), "-0.000020"),
        (figures.change("loss", -2e-8), "-2.0 \N{MULTIPLICATION SIGN} 10⁻⁸"),
        (figures.change_interval("accuracy", -0.00003, 0.0012), "-0.0030 to +0.12"),
        (" to ".join(figures.settings(0.01, 0.010004)), "0.01 to 0.010004"),
        (" to ".join(figures.settings(None, 0.01)), "none to 0.01"),
    ],
)
def test_numbers_read_as_a_person_writes_them(text: str, expected: str) -> None:
    assert with_nbsp(text) == expected


def test_images_that_are_turned_or_shifted_are_another_claim_than_images_as_they_are():
    def trial(score, **values):
        return SimpleNamespace(score=score, hyperparameters={"family": "dense", **values})

    trials = [trial(0.9, shift=0, rotation=0), trial(0.8, shift=0, rotation=10), trial(0.7, shift=2, rotation=0)]
    found = evidence.best_of_families(SimpleNamespace(trials=trials, score=lambda t: t.score, maximise=True))
    assert found == {"dense, images as they are": trials[0], "dense, augmented images": trials[1]}
    plain = [trial(0.9), trial(0.8)]
    found = evidence.best_of_families(SimpleNamespace(trials=plain, score=lambda t: t.score, maximise=True))
    assert found == {"dense": plain[0]}
