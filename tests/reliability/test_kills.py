"""SIGKILL at random moments: what is left is whole, and done again it is what it would have been.

docs/reliability.md holds how often each kind was run. SYNDIFF_KILLS says how many kills of each
kind there are; SYNDIFF_KILLS_LOG, where a line about each kind is written.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("SYNDIFF_KILLS", "10"))
LOG = os.environ.get("SYNDIFF_KILLS_LOG", "")
STEPS, EVERY = 12, 3  # of a run: steps, between two validations


def note(kind: str, kills: int, lost: str = "nothing") -> None:
    """A line for docs/reliability.md."""
    if LOG:
        with open(LOG, "a") as file:
            file.write(f"{kind}\t{kills} kills\tlost: {lost}\n")


@pytest.fixture(scope="module")
def small() -> None:
    """The preset `small` as small as it can be, in children, too.

    Pictures of a run take most of its time, and nobody reads them again: they are left out.
    """
    import torch

    import syndiff.training.run  # noqa: F401 - so that children need not
    from syndiff.training import history, presets, watch
    from tests.helpers.processes import SETTINGS

    torch.set_num_threads(1)
    presets.PRESETS["small"] = SETTINGS
    history.draw = lambda run: None  # type: ignore[assignment]
    watch.write_preview = lambda run, step, shown: None  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.helpers.tiny import write_prepared

    subjects = {f"train{i}": "T1 T2" for i in range(1, 5)} | {"val1": "T1 T2", "test1": "T1 T2"}
    return write_prepared(tmp_path_factory.mktemp("kills") / "data", subjects)


def contents(folder: Path, *suffixes: str) -> dict[str, str]:
    """Name → hash of every file, hidden ones included."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (not suffixes or path.name.endswith(suffixes))
    }


# --- training ---------------------------------------------------------------------------------


def training(data: Path, run: Path, *more: str) -> list[str]:
    return [
        *("train", str(data), str(run), "--preset", "small", "--max-steps", str(STEPS)),
        *("--validate-every", str(EVERY), "--devices", "cpu", *more),
    ]


def weights(run: Path) -> dict[str, object]:
    """Everything of a run that a restart could change, bit by bit."""
    from syndiff.training.stored import Average
    from syndiff.training.watch import LAST, load_state

    found: dict[str, object] = dict(contents(run / "translators"))
    best = sorted(path.relative_to(run) for path in run.glob("checkpoints/best_*.pt"))
    assert best
    for name in (Path(LAST), *best):
        state = load_state(run / name, *([Average] if name in best else []))
        for group in ("generators", "discriminators", "ema"):
            for key, tensor in state.get(group, {}).items():
                found[f"{name}/{group}/{key}"] = tensor.numpy().tobytes()
        found[f"{name}/step"] = state["step"]
    lines = (run / "history.csv").read_text().splitlines()
    found["history"] = [line.split(",")[:1] + line.split(",")[2:] for line in lines]
    return found


def launch(
    words: list[str], log: Path, processes: int, saboteur: Callable[[], None], victim: int
) -> list[int]:
    """Start a training; the exit code of each process."""
    from tests.helpers import kills

    if processes == 1:
        return [kills.end(kills.begin(words, log, saboteur))]
    port = kills.free_port()
    children = [
        kills.begin(
            words,
            log.with_name(f"{log.name}{rank}"),
            saboteur if rank == victim else kills.nobody,
            **kills.as_torchrun(rank, port),
        )
        for rank in range(2)
    ]
    return [kills.end(child) for child in children]


def saboteur_of(kind: str, rng: random.Random, lasts_s: float) -> Callable[[], None]:
    from syndiff.training.data import Batches
    from syndiff.training.watch import Watch, torch
    from tests.helpers import kills

    if kind == "moment":
        return kills.within(Batches, "__getitem__", rng.uniform(0, lasts_s))
    if kind == "checkpoint":
        return kills.half_written(torch, "save", rng.random(), rng.randint(1, 3))
    if kind == "validation":
        return kills.within(Watch, "_validate", rng.uniform(0, lasts_s / 12), rng.randint(1, 2))
    return kills.within(Watch, "export", rng.uniform(0, lasts_s / 24))


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("kind", ["moment", "checkpoint", "validation", "export"])
def test_a_training_goes_on_bit_by_bit(
    small: None, data: Path, tmp_path: Path, kind: str, processes: int
) -> None:
    """Kills of one run, one after the other, each after the last one's resumption."""
    from syndiff.training.watch import LAST
    from tests.helpers import kills

    rng = random.Random(f"{kind} {processes}")
    whole, run, log = tmp_path / "whole", tmp_path / "run", tmp_path / "log"
    started = time.monotonic()
    assert set(launch(training(data, whole), log, processes, kills.nobody, 0)) == {0}
    lasts_s = time.monotonic() - started
    expected = weights(whole)
    killed = rounds = 0
    codes: list[int] = []
    while killed < KILLS and rounds < 4 * KILLS:
        rounds += 1
        if set(codes) == {0} and kind != "export":  # done before it was killed often enough
            assert weights(run) == expected
            shutil.rmtree(run)
        more = ["--resume"] if (run / "settings.json").exists() else []
        codes = launch(
            training(data, run, *more),
            log,
            processes,
            saboteur_of(kind, rng, lasts_s),
            0 if kind != "moment" else rng.randrange(processes),
        )
        killed += kills.KILLED in codes
        assert set(codes) <= {0, 2, kills.KILLED}, log.read_text()
    more = ["--resume"] if (run / LAST).exists() or (run / "settings.json").exists() else []
    assert set(launch(training(data, run, *more), log, processes, kills.nobody, 0)) == {0}
    assert weights(run) == expected
    assert not list(run.rglob(".partial-*"))
    assert killed == KILLS
    note(f"training, {kind}, {processes} process(es), {STEPS} steps", killed)


# --- the other commands -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.helpers.translators import build

    return build().save(tmp_path_factory.mktemp("model") / "T1_to_T2")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from syndiff.phantom import write_cohort

    folder = tmp_path_factory.mktemp("scans") / "raw"
    write_cohort(folder, subjects=4, modalities=("T1", "T2"), seed=5, spacing_mm=8.0)
    return folder


def again_and_again(
    words: list[str], out: Path, tmp_path: Path, same: Callable[[Path], object]
) -> int:
    """Kill a command over the time that it takes; then it is let finish, and is as ever.

    Args:
        words: of the command.
        out: its results.
        tmp_path: for its words.
        same: what must not depend on kills.
    """
    from tests.helpers import kills

    rng, log = random.Random(words[0]), tmp_path / "log"
    started = time.monotonic()
    assert kills.end(kills.begin(words, log)) == 0, log.read_text()
    lasts_s = time.monotonic() - started
    expected = same(out)
    shutil.rmtree(out)
    killed = rounds = 0
    while killed < KILLS and rounds < 5 * KILLS:
        rounds += 1
        code = kills.end(kills.begin(words, log, kills.after(rng.uniform(0, 1.1 * lasts_s))))
        assert code in (0, kills.KILLED), log.read_text()
        if code == 0:
            assert same(out) == expected
            shutil.rmtree(out)
        killed += code == kills.KILLED
    assert kills.end(kills.begin(words, log)) == 0, log.read_text()
    assert same(out) == expected
    assert not [p for p in out.rglob(".*") if not p.name.startswith(".partial-lock-")]
    return killed


def test_prepare(scans: Path, tmp_path: Path) -> None:
    import syndiff.preparation.recipe  # noqa: F401 - so that children need not

    out = tmp_path / "data"
    words = [
        "prepare",
        str(scans),
        str(out),
        "--split",
        "train=2,val=1,test=1",
        "--size",
        "32",
        "--no-register-training",
    ]
    killed = again_and_again(words, out, tmp_path, lambda folder: contents(folder))
    note("prepare, 4 people, with registration", killed)


def images(folder: Path) -> dict[str, str]:
    """The images, each of which its side-car belongs to."""
    from syndiff.io.pairs import record_of

    for path in folder.rglob("*.nii.gz"):
        assert record_of(path) is not None
    return contents(folder, ".nii.gz")


def test_a_folder(scans: Path, model: Path, tmp_path: Path) -> None:
    import distributed  # noqa: F401 - so that children need not

    import syndiff.inference.folders  # noqa: F401

    out = tmp_path / "out"
    words = ["translate", str(model), str(scans), str(out), "--device", "cpu", "--no-check"]
    note("translate a folder, 4 scans, 1 worker", again_and_again(words, out, tmp_path, images))


def test_a_folder_by_workers(scans: Path, model: Path, tmp_path: Path) -> None:
    """Workers that lose their parent end, too."""
    from tests.helpers import kills

    out, log = tmp_path / "out", tmp_path / "log"
    words = ["translate", str(model), str(scans), str(out), "--device", "cpu", "--no-check"]
    rng = random.Random(0)
    started = time.monotonic()
    assert kills.end(kills.begin([*words, "--workers", "2"], log)) == 0, log.read_text()
    lasts_s = time.monotonic() - started
    expected = images(out)
    shutil.rmtree(out)
    killed = rounds = 0
    while killed < KILLS and rounds < 5 * KILLS:
        rounds += 1
        child = kills.begin(
            [*words, "--workers", "2"], log, kills.after(rng.uniform(0.1, 0.9) * lasts_s)
        )
        code = kills.end(child)
        killed += code == kills.KILLED
        until = time.monotonic() + 30
        while kills.alive_in_session(child) and time.monotonic() < until:
            time.sleep(0.2)
        assert kills.alive_in_session(child) == []
        if code == 0:  # done before it was killed
            shutil.rmtree(out)
    assert killed == KILLS
    assert kills.end(kills.begin(words, log)) == 0, log.read_text()
    assert images(out) == expected
    note("translate a folder, 4 scans, 2 workers: none is left", killed)


def test_evaluate(data: Path, model: Path, tmp_path: Path) -> None:
    import syndiff.evaluation.evaluate  # noqa: F401 - so that children need not

    out = tmp_path / "scores"
    words = ["evaluate", str(data), str(out), "--model", f"tiny={model}"]
    killed = again_and_again(words, out, tmp_path, lambda folder: contents(folder, ".csv"))
    note("evaluate, 1 person, 3 candidates", killed)


def test_export(model: Path, tmp_path: Path) -> None:
    import torch.export  # noqa: F401 - so that children need not

    import syndiff.export  # noqa: F401

    out = tmp_path / "exports" / "program"
    words = ["export", str(model), str(out), "--format", "torch", "--overwrite"]

    def whole(folder: Path) -> object:
        return sorted(path.name for path in folder.iterdir())

    note("export, torch", again_and_again(words, out, tmp_path, whole))
    assert [path.name for path in out.parent.iterdir()] == ["program"]
