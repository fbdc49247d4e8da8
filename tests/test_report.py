"""The report over fabricated results folders: no TensorFlow, no training, figures known beforehand."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search import results
from search.errors import WorkError
from search.report import figures, plots, sentences
from search.report import page as report_page

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
    results: Path, name: str, *, steps: str = "search retrain sweeps", seeds: int = 3, epochs: int = 100, **about: Any
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
        fabricate_retrain(folder, settings, random, seeds, epochs)
    if "sweeps" in steps:
        for swept, values in settings["sweeps"].items():
            ran[f"sweep {swept}"] = {
                **PROVENANCE,
                "command": f"{command} sweep {swept}",
                "epochs": 10,
                "seeds": seeds,
                "from": "start",
            }
            write_csv(folder / "sweeps" / f"{swept}.csv", fabricate_sweep(values, seeds, random))
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
    write_csv(folder / "trials.csv", rows)
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


def fabricate_history(loss: float, accuracy: float, epochs: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """Curves that end at the given training loss and validation accuracy; a small loss comes with overfitting."""
    epoch = np.arange(1, epochs + 1)
    training = loss + (0.45 - loss) * (epoch**-1.1 - epochs**-1.1) * np.exp(random.normal(0, 0.01, epochs))
    floor = 4 * (1 - accuracy)
    rising = 0.006 * floor * np.maximum(0, epoch - 20) if loss < 0.01 else 0 * epoch
    validation = floor + 0.4 * epoch**-1.3 + rising + random.normal(0, 0.0004, epochs)
    val_accuracy = accuracy - 0.06 * epoch**-0.8 + random.normal(0, 0.0003, epochs)
    columns = {
        "epoch": epoch,
        "loss": training,
        "accuracy": np.minimum(1, 1 - training / 4),
        "val_loss": validation,
        "val_accuracy": val_accuracy,
    }
    return [{key: column[i].item() for key, column in columns.items()} for i in range(epochs)]


def fabricate_retrain(
    folder: Path, settings: dict[str, Any], random: np.random.Generator, seeds: int, epochs: int
) -> None:
    classes = len(settings["classes"])
    totals = [9020, 980] if classes == 2 else [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    metrics: dict[str, Any] = {
        "format": 1,
        "epochs": epochs,
        "test_samples": 10000,
        "majority_accuracy": max(totals) / 10000,
        "test_set_read": "2026-01-01T10:05:00+00:00",
    }
    for i, (method, file) in enumerate((("start", "start_history.csv"), ("tuned", "history.csv"))):
        rows = fabricate_history(settings["loss"][i], settings["accuracy"][i], epochs, random)
        write_csv(folder / "retrain" / file, rows)
        confusion = np.diag(totals)
        wrong = round(10000 * (1 - settings["accuracy"][i]))
        for _ in range(wrong):
            row = int(random.integers(classes))
            column = int((row + random.geometric(0.35)) % classes)
            if column != row:
                confusion[row, row] -= 1
                confusion[row, column] += 1
        correct = int(np.trace(confusion))
        share = correct / 10000
        half = 1.96 * math.sqrt(share * (1 - share) / 10000)
        figures = {**{key: rows[-1][key] for key in results.METRICS}, "test_loss": rows[-1]["val_loss"]}
        figures |= {"test_accuracy": share, "test_correct": correct, "seconds": 4.2}
        repeats = [{"seed": 0, **figures}]
        for seed in range(1, seeds):
            test = round(share + float(random.normal(0, 0.0006)), 4)
            shaken = {key: value * (1 + float(random.normal(0, 0.02))) for key, value in figures.items()}
            repeats.append(
                {**shaken, "seed": seed, "accuracy": figures["accuracy"] - 0.0002 * seed}
                | {
                    "val_accuracy": figures["val_accuracy"] - 0.0002,
                    "test_accuracy": test,
                    "test_correct": int(test * 1e4),
                }
            )
        hyperparameters = (
            settings["start"]
            if method == "start"
            else json.loads((folder / "best.json").read_text())["hyperparameters"]
            if (folder / "best.json").exists()
            else settings["start"]
        )
        metrics[method] = {
            "hyperparameters": hyperparameters,
            "parameters": settings["parameters"],
            **repeats[0],
            "interval": [share - half, share + half],
            "confusion": confusion.tolist(),
            "seeds": repeats,
        }
    gain = metrics["tuned"]["test_correct"] - metrics["start"]["test_correct"]
    metrics["mcnemar"] = {"only_tuned_right": 23 + gain, "only_start_right": 23, "p_value": 1.2e-9}
    write_json(folder / "retrain" / "metrics.json", metrics)
    k = 24
    label = random.integers(classes, size=k)
    np.savez(
        folder / "retrain" / "misread.npz",
        images=np.clip(random.normal(60, 90, (k, 28, 28)), 0, 255).astype(np.uint8),
        index=np.arange(k),
        label=label,
        predicted=(label + 1) % classes,
        probability=np.linspace(0.9999, 0.52, k),
    )


def fabricate_sweep(values: list[Any], seeds: int, random: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for i, value in enumerate(values):
        for seed in range(seeds):
            accuracy = 0.985 - 0.0018 * abs(i - 1.4) ** 2 + float(random.normal(0, 0.0006))
            rows.append(
                {
                    "value": value,
                    "seed": seed,
                    "loss": 0.05 + 0.02 * i + float(random.normal(0, 0.0015)),
                    "accuracy": accuracy + 0.001,
                    "val_loss": 4 * (1 - accuracy),
                    "val_accuracy": accuracy,
                    "seconds_per_epoch": 0.4 / (i + 1) + float(random.normal(0, 0.004)),
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
    for method in ("start", "tuned"):
        entry = metrics[method]
        assert figures.loss(entry["loss"]) in text
        assert figures.loss(entry["val_loss"]) in text
        assert with_nbsp(figures.percent(entry["test_accuracy"])) in text
        assert with_nbsp(figures.interval(*entry["interval"])) in text
    assert "training loss after 100 epochs" in text
    assert "90.20 %" in text
    assert "785" in text
    assert "p < 0.001" in text
    assert "the tuned model's advantage is distinguishable" in text
    for stated in (
        "python search_single.py sweep batch_size",
        "batch size 32, 64, 128",
        "0.0001 to 1, log scale optimizer is adam",
        "keras-tuner 1.4.8",
        "731c731c731c",
        "2026-01-01 10:05 UTC",
    ):
        assert stated in text


def test_plots_are_written_and_named(lab: Path) -> None:
    written = report_page.write_plots(lab / "hidden")
    names = {path.name for path in written}
    assert names == {
        *("loss.png", "accuracy.png", "confusion.png", "misread.png", "search.png", "effects.png"),
        *("sweep_units.png", "sweep_activation.png"),
    }
    assert all(path.parent == lab / "hidden" / "plots" for path in written)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert not list(lab.rglob("*.tmp")), "a temporary file was left behind"


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
            assert with_nbsp(figures.loss(metrics[method]["loss"])) in text
            assert with_nbsp(figures.percent(metrics[method]["test_accuracy"])) in text
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


@pytest.mark.parametrize("steps", ["", "search", "sweeps", "search retrain"])
def test_steps_not_run_are_named_with_their_command(tmp_path: Path, steps: str) -> None:
    text = text_of(report_page.write_report(fabricate(tmp_path, "single", steps=steps)))
    for step, command in (("search", "search"), ("retrain", "retrain"), ("sweeps", "sweep NAME")):
        assert (f"Not run yet: python search_single.py {command} " in text) == (step not in steps)


def test_an_interrupted_search_is_reported(tmp_path: Path) -> None:
    folder = fabricate(tmp_path, "single", steps="search")
    run = json.loads((folder / "run.json").read_text())
    run["steps"]["search"]["complete"] = False
    write_json(folder / "run.json", run)
    (folder / "best.json").unlink()
    assert "continues the search, which stopped before its end" in text_of(report_page.write_report(folder))


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
        metrics["tuned"][key] = math.nan
        metrics["tuned"]["seeds"][0][key] = None
    metrics["mcnemar"]["p_value"] = math.nan
    write_json(folder / "retrain" / "metrics.json", metrics)
    rows = results.read_rows(folder / "retrain" / "history.csv")[1]
    write_csv(folder / "retrain" / "history.csv", [{**row, "loss": "nan", "val_loss": ""} for row in rows])
    sweep = results.read_rows(folder / "sweeps" / "batch_size.csv")[1]
    lost = {"loss": "nan", "accuracy": "nan", "val_loss": "nan", "val_accuracy": "nan"}
    write_csv(folder / "sweeps" / "batch_size.csv", [row | (lost if row["value"] == "512" else {}) for row in sweep])
    text = text_of(report_page.write_report(folder))
    assert figures.MISSING in text
    assert "1 of 3 seeds of the tuned model diverged" in text
    assert "The tuned model's loss is not a number from epoch 1" in text
    assert "Trainings that diverged are left out of the means (512)" in text
    assert "nan" not in re.sub(r"NaN after epoch", "", text).lower().replace("finance", "").split()


def test_a_sweep_with_one_seed_claims_nothing(tmp_path: Path) -> None:
    text = text_of(report_page.write_report(fabricate(tmp_path, "single", seeds=1)))
    assert "With one seed a value this cannot be told apart from the chance of a seed" in text
    assert "Each method was trained with one seed" in text


def a_sweep(*groups: list[float]) -> results.Sweep:
    figures = [np.array(group) for group in groups]
    measures = dict.fromkeys(results.SWEEP_METRICS, figures)
    return results.Sweep("batch_size", [32 * 2**i for i in range(len(groups))], measures, 10, "start")


def test_a_difference_within_the_seeds_is_not_told_apart() -> None:
    near, far = [0.982, 0.9835, 0.981], [0.952, 0.9535, 0.951]
    best = [0.981, 0.983, 0.982]
    assert "not told apart from any other value by 3 seeds" in sentences.sweep_finding(a_sweep(best, near))
    assert "Not told apart from it by 3 seeds: 32. Worse: 128." in sentences.sweep_finding(a_sweep(best, near, far))
    assert "is told apart from every other value by 3 seeds" in sentences.sweep_finding(a_sweep(best, far))
    # Two seeds a value leave two degrees of freedom: 3.5 standard errors are not enough then (t = 4.30).
    few = [np.array([0.9800, 0.9810]), np.array([0.9825, 0.9835])]
    deviation, freedom = sentences.pooled_deviation(few)
    assert freedom == 2
    assert math.isclose(deviation, 0.001 / math.sqrt(2))
    assert not sentences.told_apart(few[0], few[1], deviation, freedom)


def test_models_that_the_test_images_do_not_tell_apart(lab: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(lab / "single", tmp_path / "single")
    edit_json(
        folder / "retrain" / "metrics.json", mcnemar={"only_tuned_right": 12, "only_start_right": 9, "p_value": 0.66}
    )
    text = text_of(report_page.write_report(folder))
    assert "p = 0.66" in text
    assert "these images do not tell the two models apart" in text
    assert "advantage is distinguishable" not in text
    edit_json(
        folder / "retrain" / "metrics.json", mcnemar={"only_tuned_right": 2, "only_start_right": 19, "p_value": 2e-4}
    )
    assert "tuning did not help on the test images" in text_of(report_page.write_report(folder))


def test_overfitting_names_its_epoch_and_figures() -> None:
    epoch = np.arange(1.0, 101.0)
    validation = 0.1 + 0.001 * np.abs(epoch - 30)
    history = {"epoch": epoch, "loss": 0.3 / epoch, "val_loss": validation}
    sentence = sentences.fitting("tuned", history)
    assert "overfits after epoch 30" in sentence
    assert "0.1000 to 0.1700 at epoch 100" in sentence
    assert "0.0100 to 0.0030" in sentence
    assert "still improves at epoch 100" in sentences.fitting("tuned", history | {"val_loss": 1 / epoch})
    assert "has levelled off" in sentences.fitting("tuned", history | {"val_loss": np.full(100, 0.1)})


def test_accuracy_below_the_majority_is_called_worthless(lab: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(lab / "single", tmp_path / "single")
    metrics = json.loads((folder / "retrain" / "metrics.json").read_text())
    edit_json(folder / "retrain" / "metrics.json", tuned=metrics["tuned"] | {"test_accuracy": 0.9})
    text = text_of(report_page.write_report(folder))
    assert "90.20 % of the test images are 'not 0'" in text
    assert "the tuned model's 90.00 % is worth no more than that answer" in text


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
    "retrain/history.csv": "epoch,loss,accuracy,val_loss,val_accuracy\n1,2,3\n",
    "retrain/start_history.csv": "",
    "retrain/misread.npz": "no archive",
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
        (figures.p_value(0.00004), "p < 0.001"),
        (figures.spread("accuracy", 0.992, 0.0005), "99.20 ± 0.05 %"),
        (figures.spread("loss", 0.00004, 0.000002), "(4.0 ± 0.2) \N{MULTIPLICATION SIGN} 10⁻⁵"),
        (figures.spread("loss", 0.0271, 0.00003), "0.02710 ± 0.00003"),
        (figures.listed(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_numbers_read_as_a_person_writes_them(text: str, expected: str) -> None:
    assert with_nbsp(text) == expected
