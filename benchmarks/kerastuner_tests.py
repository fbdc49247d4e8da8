"""KerasTuner's own tests of its tuners, run on ours: what passes, what fails and why.

    git clone https://github.com/keras-team/keras-tuner /tmp/keras-tuner
    python benchmarks/kerastuner_tests.py /tmp/keras-tuner [--workers 2] [-k hyperband] [--stock]

Of the repository's seven files of tests of tuners, copies go to a temporary folder. There ``keras_tuner`` is a module
that is KerasTuner's in all but Hyperband, RandomSearch, GridSearch, BayesianOptimization and Tuner, which are
``search``'s wherever a test may take them from; ``search``'s other public names stand for KerasTuner's of the same name.
``--stock`` runs KerasTuner's own classes the same way, and so checks the harness.

A test is private if it reads, calls, overrides or replaces a name of KerasTuner's that its documentation does not show:
:data:`PRIVATE` says which. All others use public behaviour only, and the command's exit code is 0 if all of those passed
or were skipped. KerasTuner 1.4.8 itself passes all 106 with Keras 3.15, but for one that skips itself with Keras 3.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # else `import search` would find benchmarks/search.py

FILES = (
    "engine/tuner_test.py",
    "engine/base_tuner_test.py",
    "tuners/hyperband_test.py",
    "tuners/randomsearch_test.py",
    "tuners/gridsearch_test.py",
    "tuners/bayesian_test.py",
    "tuners/sklearn_tuner_test.py",
)
SUPPORT = ("conftest.py", "test_utils/mock_distribute.py")

# The private names that a test uses. Every other test is public.
PRIVATE = {
    "tuner_test::test_callbacks_in_fit_kwargs": "Tuner._build_and_fit_model",
    "tuner_test::test_convert_hyperparams_to_hparams": "tuner_utils.convert_hyperparams_to_hparams",
    "tuner_test::test_metric_direction_inferred_from_objective": "Oracle._set_project_dir",
    "tuner_test::test_correct_display_trial_number": "Oracle._display",
    "tuner_test::test_build_and_fit_model": "Tuner._build_and_fit_model",
    "tuner_test::test_build_and_fit_model_in_tuner": "Tuner._build_and_fit_model",
    "tuner_test::test_init_build_all_hps_in_all_conditions": "BaseTuner._populate_initial_space",
    "base_tuner_test::test_chief_should_wait_for_clients": "oracle_client.TIMEOUT",
    "hyperband_test::test_hyperband_oracle_bracket_configs": "HyperbandOracle._get_size, ...",
    "hyperband_test::test_hyperband_oracle_one_sweep_single_thread": "HyperbandOracle._brackets, ...",
    "hyperband_test::test_hyperband_oracle_one_sweep_parallel": "HyperbandOracle._brackets, ...",
    "hyperband_test::test_hyperband_save_and_restore": "HyperbandOracle._current_iteration",
    "hyperband_test::test_hyperband_load_weights": "Tuner._try_build, _get_checkpoint_fname, tuner_utils, ...",
    "hyperband_test::test_exhausted_values_during_init_bracket": "Oracle._set_project_dir",
    "gridsearch_test::test_linked_list": "gridsearch.LinkedList",
    "bayesian_test::test_scipy_not_install_error": "bayesian.scipy",
    "bayesian_test::test_sklearn_not_install_error": "bayesian.sklearn",
    "bayesian_test::test_bayesian_oracle": "Oracle._set_project_dir",
    "bayesian_test::test_bayesian_oracle_with_zero_y": "Oracle._set_project_dir",
    "bayesian_test::test_bayesian_dynamic_space": "Oracle._set_project_dir",
    "bayesian_test::test_bayesian_save_reload": "Oracle._set_project_dir",
    "bayesian_test::test_save_before_result": "Oracle._set_project_dir",
    "bayesian_test::test_bayesian_oracle_maximize": "Oracle._set_project_dir",
    "bayesian_test::test_hyperparameters_added": "Oracle._set_project_dir",
    "bayesian_test::test_step_respected": "Oracle._set_project_dir",
    "bayesian_test::test_distributed_optimization": "Oracle._set_project_dir",
    "bayesian_test::test_interleaved_distributed_optimization": "Oracle._set_project_dir",
    "sklearn_tuner_test::test_sklearn_not_install_error": "sklearn_tuner.sklearn",
}
EXPECTED = {"all": 106, "public": 78}

# The module that stands for keras_tuner in the copies. It reads its settings from the environment.
DOOR = '''
import functools, importlib, inspect, os, sys, types
import keras_tuner as stock
import keras_tuner.src

NAMES = ("Hyperband", "RandomSearch", "GridSearch", "BayesianOptimization", "Tuner")
ours = stock if os.environ["DOOR"] == "stock" else importlib.import_module("search")
missing = [name for name in NAMES if not hasattr(ours, name)]
if missing:
    raise ImportError(f"search has no {', '.join(missing)}")
classes = {getattr(stock, name): getattr(ours, name) for name in NAMES}


class Proxy(types.ModuleType):
    """A module of KerasTuner's with the tuners exchanged; what a test assigns to it reaches the module itself."""

    def __init__(self, name, module):
        super().__init__(name)
        self.__dict__.update(__path__=[], _module=module)
        sys.modules[name] = self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if not hasattr(self._module, name) and self._module is keras_tuner.src:
            return exchanged(self.__name__, name, getattr(stock, name))
        if self._module is keras_tuner.src and name in dir(stock) and not isinstance(getattr(stock, name), types.ModuleType):
            return getattr(ours, name)
        return exchanged(self.__name__, name, getattr(self._module, name))

    def __setattr__(self, name, value):
        if isinstance(value, Proxy):  # what an import of a submodule sets
            return
        setattr(self._module, name, value)

    def __reduce_ex__(self, protocol):
        raise TypeError("cannot pickle 'module' object")


def exchanged(package, name, value):
    if isinstance(value, types.ModuleType) and value.__name__.startswith("keras_tuner"):
        return sys.modules.get(f"{package}.{name}") or Proxy(f"{package}.{name}", value)
    return classes.get(value, value) if isinstance(value, type) else value


def set_default(function, name, value):
    """Makes ``value`` the default of one of the function's arguments; whether it has such an argument."""
    parameters = inspect.signature(function).parameters
    if name not in parameters:
        return False
    if parameters[name].kind is inspect.Parameter.KEYWORD_ONLY:
        function.__kwdefaults__[name] = value
    else:
        with_default = [p.name for p in parameters.values() if p.default is not p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        defaults = list(function.__defaults__)
        defaults[with_default.index(name)] = value
        function.__defaults__ = tuple(defaults)
    return True


if os.environ.get("DOOR_WORKERS"):
    workers = int(os.environ["DOOR_WORKERS"])
    for name in NAMES:
        constructors = [cls.__dict__["__init__"] for cls in getattr(ours, name).__mro__ if "__init__" in cls.__dict__]
        if not any([set_default(constructor, "workers", workers) for constructor in constructors]):
            raise TypeError(f"search.{name} has no argument workers=")

root = Proxy("door", keras_tuner.src)
for _name in list(sys.modules):
    if _name.startswith("keras_tuner.src."):
        Proxy("door." + _name.removeprefix("keras_tuner.src."), sys.modules[_name])
for _name in ("distribute.oracle_client", "distribute.oracle_chief"):
    Proxy("door." + _name, importlib.import_module("keras_tuner.src." + _name))
'''

PORTPICKER = """
import socket


def pick_unused_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
"""

# Every outcome is written at once, so that a process which dies says how far it came.
PLUGIN = """
import json, os, signal, time
import pytest


@pytest.fixture(autouse=True)
def limit():
    def late(*_):
        raise TimeoutError(f"took more than {os.environ['DOOR_LIMIT']} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(int(os.environ["DOOR_LIMIT"]))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def write(**row):
    with open(os.environ["DOOR_OUTCOMES"], "a") as file:
        file.write(json.dumps(row) + "\\n")


def pytest_collection_finish(session):
    for item in session.items:
        write(test=name(item.nodeid), outcome="not reached", reason="", seconds=0)


def pytest_collectreport(report):
    if report.failed:
        write(test=report.nodeid or "collection", outcome="error", reason=str(report.longrepr).strip().splitlines()[-1], seconds=0)


def pytest_runtest_logreport(report):
    if report.when == "call" or not report.passed:
        reason = ""
        if report.skipped:
            reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        elif report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = (crash.message if crash else str(report.longrepr)).strip()
        write(test=name(report.nodeid), outcome=report.outcome, reason=reason, seconds=report.duration)


def name(nodeid):
    path, test = nodeid.split("::", 1)
    return os.path.basename(path).removesuffix(".py") + "::" + test
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path, help="a clone of KerasTuner's repository, bare or not")
    parser.add_argument("--revision", default="HEAD", help="the tag or commit whose tests are taken (HEAD)")
    parser.add_argument("--stock", action="store_true", help="KerasTuner's own classes")
    parser.add_argument("--workers", type=int, help="what workers= is where a test does not say; ours alone")
    parser.add_argument("-k", dest="chosen", help="pytest's -k: which of the tests")
    parser.add_argument("--limit", type=int, default=120, help="seconds that one test may take (120)")
    parser.add_argument("--all", action="store_true", help="print the tests that passed too")
    flags = parser.parse_args()
    if flags.stock and flags.workers is not None:
        parser.error("--workers: KerasTuner's own classes have no workers")
    if flags.limit < 1:
        parser.error(f"--limit {flags.limit}: expected at least one second")
    with tempfile.TemporaryDirectory() as folder:
        try:
            prepare(flags.repository, flags.revision, Path(folder))
        except OSError as error:
            parser.error(f"{flags.repository}: {error}")
        started = time.perf_counter()
        rows, output = run(Path(folder), flags)
        seconds = time.perf_counter() - started
    if not rows:
        sys.exit(f"No test ran:\n{output}")
    return table(rows, seconds, flags)


def prepare(repository: Path, revision: str, folder: Path) -> None:
    """Writes the copies and what they need into the folder."""
    for name in (*FILES, *SUPPORT):
        text = source(repository, revision, name)
        (folder / Path(name).name).write_text(rewritten(text))
    (folder / "door.py").write_text(DOOR)
    (folder / "outcomes.py").write_text(PLUGIN)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "portpicker.py").write_text(PORTPICKER)


def source(repository: Path, revision: str, name: str) -> str:
    """A file of ``keras_tuner/`` in the repository."""
    show = ["git", "-C", str(repository), "show", f"{revision}:keras_tuner/{name}"]
    done = subprocess.run(show, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FileNotFoundError(done.stderr.strip().splitlines()[-1] if done.stderr else f"no keras_tuner/{name}")
    return done.stdout


def rewritten(text: str) -> str:
    """The text with its imports of keras_tuner turned to the module that stands for it."""
    text = re.sub(r"^from keras_tuner\.test_utils import", "import", text, flags=re.MULTILINE)
    text = re.sub(r"^import keras_tuner$", "import door as keras_tuner", text, flags=re.MULTILINE)
    return re.sub(r"^from keras_tuner(\.[\w.]+)? import", r"from door\1 import", text, flags=re.MULTILINE)


def run(folder: Path, flags: argparse.Namespace) -> tuple[list[dict], str]:
    """Every test's outcome, and what pytest printed."""
    outcomes = folder / "outcomes.jsonl"
    environment = os.environ | {
        "DOOR": "stock" if flags.stock else "search",
        "DOOR_WORKERS": "" if flags.workers is None else str(flags.workers),
        "DOOR_LIMIT": str(flags.limit),
        "DOOR_OUTCOMES": str(outcomes),
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-rN", "-p", "no:cacheprovider", "-p", "outcomes"]
    command += ["-k", flags.chosen] if flags.chosen else []
    command += [Path(name).name for name in FILES]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    lines = outcomes.read_text().splitlines() if outcomes.exists() else []
    by_test: dict[str, dict] = {}
    for line in lines:  # a test's last line counts, but a failure in its clean-up or set-up stays
        row = json.loads(line)
        if by_test.get(row["test"], {}).get("outcome") != "failed":
            by_test[row["test"]] = row
    if done.returncode < 0 or done.returncode > 1:
        print(f"pytest ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}", file=sys.stderr)
    return list(by_test.values()), done.stdout + done.stderr


def table(rows: list[dict], seconds: float, flags: argparse.Namespace) -> int:
    """Prints the outcomes and their counts; the exit code."""
    bad = []
    print(f"{'test':<78} {'uses':<8} {'outcome':<12} {'s':>6}  reason")
    for row in rows:
        kind = "private" if row["test"] in PRIVATE else "public"
        if kind == "public" and row["outcome"] not in ("passed", "skipped"):
            bad.append(row["test"])
        if row["outcome"] != "passed" or flags.all:
            reason = " ".join(row["reason"].split())[:160]
            note = f"[{PRIVATE[row['test']]}]" if kind == "private" else ""
            print(
                f"{row['test']:<78} {kind:<8} {row['outcome']:<12} {row['seconds']:>6.1f}  {f'{reason} {note}'.strip()}"
            )
    print()
    print(f"{'':<10} {'tests':>6} {'passed':>7} {'skipped':>8} {'failed':>7}")
    for kind in ("public", "private", "all"):
        of_kind = [row for row in rows if kind in ("all", "private" if row["test"] in PRIVATE else "public")]
        passed, skipped = (sum(row["outcome"] == outcome for row in of_kind) for outcome in ("passed", "skipped"))
        print(f"{kind:<10} {len(of_kind):>6} {passed:>7} {skipped:>8} {len(of_kind) - passed - skipped:>7}")
    public = sum(row["test"] not in PRIVATE for row in rows)
    if not flags.chosen and (len(rows), public) != (EXPECTED["all"], EXPECTED["public"]):
        print(
            f"expected {EXPECTED['all']} tests, {EXPECTED['public']} of them public: is this KerasTuner 1.4's repository?"
        )
    if bad:
        print(f"\n{len(bad)} public tests did not pass: {', '.join(bad)}")
    from benchmarks.figures import made_with

    side = "KerasTuner's classes" if flags.stock else "search's classes"
    print(f"\n{side}, {seconds:.0f} s")
    made_with(1)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
