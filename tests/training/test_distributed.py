"""Several processes: the same run as one with a larger batch, and a clear end if one is lost."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from syndiff.errors import OptionError, UserError
from syndiff.objectives.methods import METHODS
from syndiff.training.engine import _places
from syndiff.training.processes import (
    gathered,
    is_lost_process,
    launched,
    on_rank_zero,
    pooled_means,
)
from syndiff.training.run import train
from syndiff.training.stored import Average
from syndiff.training.watch import LAST, load_state
from tests.helpers.processes import SETTINGS
from tests.helpers.reporters import Watching
from tests.helpers.tiny import write_prepared
from tests.helpers.tolerance import rounding

ROOT = Path(__file__).parents[2]
GROUPS = ("generators", "discriminators", "ema")
# A loss is a mean over networks of some thousand roundings; another mean would be wrong by 1e-2.
ROUNDED = rounding(5000)
PATIENCE = 400  # seconds, for machines that are busy with something else


@dataclass
class Ended:
    """A process's exit code and what it said."""

    code: int
    out: str
    err: str


def start(words: str, **env: str) -> subprocess.Popen[str]:
    """One process; see tests/helpers/processes.py."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.processes", *words.split()],
        cwd=ROOT,
        env=os.environ | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*processes: subprocess.Popen[str]) -> list[Ended]:
    """Wait for them."""
    said = [process.communicate(timeout=PATIENCE) for process in processes]
    return [Ended(p.returncode, *texts) for p, texts in zip(processes, said, strict=True)]


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def as_torchrun(rank: int) -> dict[str, str]:
    """What torchrun tells each of two processes on one node."""
    known = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "tests"}
    return known | {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def as_srun(rank: int) -> dict[str, str]:
    """What srun tells each of two processes on two nodes."""
    known = {"NTASKS": "2", "NTASKS_PER_NODE": "1", "NNODES": "2", "NODELIST": "127.0.0.1"}
    place = {"PROCID": str(rank), "NODEID": str(rank), "LOCALID": "0"}
    job = {"JOB_ID": "10001", "JOB_NAME": "train"}
    return {f"SLURM_{key}": value for key, value in (known | place | job).items()}


def two(words: str, tells: Callable[[int], Mapping[str, str]]) -> list[Ended]:
    """Two processes, as somebody else than Lightning starts them."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return ended(*(start(words, **where, **tells(rank)) for rank in (0, 1)))


def command(data: Path, run: Path, *options: str) -> str:
    return " ".join(["train", str(data), str(run), "--preset", "small", *options])


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Bit for bit."""
    return all(torch.equal(t, b[group][name]) for group in GROUPS for name, t in a[group].items())


def changed(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """Fraction of all parameters that differ by more than a tenth of one step of Adam's."""
    pairs = [(a[group][name], t) for group in GROUPS for name, t in b[group].items()]
    return float(torch.cat([((x - y).abs() > 1e-4).flatten() for x, y in pairs]).float().mean())


def history(run: Path) -> list[list[str]]:
    """The validations, but for the minutes."""
    lines = (run / "history.csv").read_text().splitlines()
    return [row[:1] + row[2:] for row in csv.reader(lines)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten slices of either modality, so that six steps of four are no whole number of passes."""
    subjects = {f"train{i}": "T1 T2" for i in range(1, 5)} | {"val1": "T1 T2"}
    return write_prepared(tmp_path_factory.mktemp("distributed") / "data", subjects)


@pytest.fixture(scope="module")
def killed(data: Path) -> tuple[Ended, Path]:
    """A run on two processes that loses the second one; and a copy of what it leaves."""
    run = data.parent / "killed"
    (end,) = ended(start(command(data, run, "--devices", "2")))
    return end, shutil.copytree(run, data.parent / "left")


@pytest.fixture(scope="module")
def resumed(data: Path, killed: tuple[Ended, Path]) -> Path:
    """The killed run, gone on with."""
    run = data.parent / "killed"
    ends = two(command(data, run, "--resume"), as_torchrun)
    assert [end.code for end in ends] == [0, 0], ends[0].err
    return run


@pytest.fixture(scope="module")
def pair(data: Path) -> tuple[list[Ended], Path]:
    """A run without troubles, and one that meets a slice that is bad."""
    lines = [command(data, data.parent / name) for name in ("whole", "spoilt")]
    return two(" then ".join(lines), as_torchrun), data.parent


def test_processes_have_the_same_parameters(pair: tuple[list[Ended], Path]) -> None:
    first, second = (load_state(pair[1] / f"whole/rank{rank}.pt", Average) for rank in (0, 1))
    assert first["step"] == second["step"] == 6
    assert same(first, second)
    assert first["losses"] == second["losses"]


def test_each_gradient_is_exchanged_once_per_step(pair: tuple[list[Ended], Path]) -> None:
    """But for the bucket in which the two players meet, which is sent in both turns."""
    state = load_state(pair[1] / "whole/rank0.pt", Average)
    players = ("generators", "discriminators")
    needed = state["step"] * sum(t.nbytes for p in players for t in state[p].values())
    assert needed <= state["exchanged"] < 1.2 * needed


@pytest.mark.slow
def test_parts_of_a_batch_and_compiled_networks_on_two_processes(
    data: Path, tmp_path: Path
) -> None:
    """The same run as without; gradients are exchanged once per batch, however many its parts."""
    lines = [
        command(data, tmp_path / f"of_{n}", "--max-steps", "3", "--accumulate", n) for n in "12"
    ]
    lines.append(command(data, tmp_path / "compiled", "--max-steps", "3", "--compile"))
    ends = two(" then ".join(lines), as_torchrun)
    assert [end.code for end in ends] == [0, 0], ends[0].err
    whole, parts = (load_state(tmp_path / f"of_{n}/rank0.pt", Average) for n in "12")
    assert parts["losses"][0] == pytest.approx(whole["losses"][0], rel=ROUNDED)
    assert changed(parts, whole) < 0.02
    assert same(parts, load_state(tmp_path / "of_2/rank1.pt", Average))
    assert parts["exchanged"] == whole["exchanged"]
    compiled = load_state(tmp_path / "compiled/rank0.pt", Average)
    assert compiled["losses"][0] == pytest.approx(whole["losses"][0], rel=ROUNDED)
    assert changed(compiled, whole) < 0.02
    assert same(compiled, load_state(tmp_path / "compiled/rank1.pt", Average))


@pytest.fixture(scope="module")
def eight(data: Path) -> Path:
    """A short run of every method on two processes."""
    folder = data.parent / "eight"
    lines = [
        command(data, folder / name, "--method", name, "--max-steps", "3") for name in METHODS
    ]
    ends = two(" then ".join(lines), as_torchrun)
    assert [end.code for end in ends] == [0, 0], ends[0].err
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_the_same_parameters_in_both_processes(name: str, eight: Path) -> None:
    first, second = (load_state(eight / name / f"rank{rank}.pt", Average) for rank in (0, 1))
    assert first["step"] == second["step"] == 3
    assert same(first, second)
    assert first["losses"] == second["losses"]


def one_process(data: Path, run: Path, batch_size: int, **options: Any) -> list[dict[str, float]]:
    """The reported losses."""
    losses: list[dict[str, float]] = []
    train(
        data,
        run,
        source="T1",
        target="T2",
        settings=replace(SETTINGS, batch_size=batch_size),
        preset="small",
        report=Watching(lambda state: losses.append(state.losses)),
        **options,
    )
    return losses


def test_two_processes_equal_one_with_the_doubled_batch(
    data: Path, pair: tuple[list[Ended], Path], tmp_path: Path
) -> None:
    """To rounding; Adam makes whole steps of it where a gradient is nearly 0."""
    whole = load_state(pair[1] / "whole/rank0.pt", Average)
    losses = one_process(data, tmp_path / "one", batch_size=4)
    for of_two, of_one, tolerance in zip(whole["losses"], losses, (ROUNDED, 1e-2), strict=True):
        assert of_two == pytest.approx(of_one, rel=tolerance)
    one = load_state(tmp_path / "one/checkpoints/last.pt")
    assert changed(one, whole) < 0.02
    one_process(data, tmp_path / "half", batch_size=2)
    assert changed(load_state(tmp_path / "half/checkpoints/last.pt"), whole) > 0.5


@pytest.mark.slow
def test_a_killed_process_ends_the_run_with_one_line(killed: tuple[Ended, Path]) -> None:
    end, left = killed
    assert end.code != 0
    assert "Traceback" not in end.err
    # Lightning's own watch may be quicker, once in five seconds.
    assert "1 of 2 lost another one at step 4" in end.err or "terminated with code -9" in end.err
    assert load_state(left / "checkpoints/last.pt")["step"] == 3


@pytest.mark.slow
def test_a_killed_run_resumes_as_if_nothing_had_happened(
    pair: tuple[list[Ended], Path], resumed: Path
) -> None:
    """Order, augmentation and draws are functions of seed and step; bit for bit."""
    runs = resumed, pair[1] / "whole"
    for rank in (0, 1):
        again, whole = (load_state(run / f"rank{rank}.pt") for run in runs)
        assert again["step"] == whole["step"] == 6
        assert same(again, whole)
    resumed_rows, whole_rows = (history(run) for run in runs)
    assert resumed_rows == whole_rows
    assert [row[0] for row in whole_rows] == ["step", "3", "6"]  # written by one process alone


@pytest.mark.slow
def test_a_run_goes_on_with_fewer_processes_and_larger_batches(
    data: Path, killed: tuple[Ended, Path], pair: tuple[list[Ended], Path], tmp_path: Path
) -> None:
    run = shutil.copytree(killed[1], tmp_path / "run")
    with pytest.raises(OptionError, match="batch_size × processes"):
        one_process(data, run, batch_size=2, resume=True)
    one_process(data, run, batch_size=4, resume=True)
    resumed = load_state(run / "checkpoints/last.pt")
    assert changed(resumed, load_state(pair[1] / "whole/rank0.pt", Average)) < 0.02


def test_what_one_process_meets_stops_all_at_one_step(pair: tuple[list[Ended], Path]) -> None:
    (first, second), folder = pair
    (line,) = [line for line in first.err.splitlines() if line.startswith("error:")]
    assert "training diverged at step 2" in line
    assert line.count("T1 slice") == 4  # those of both processes
    assert (first.code, second.code) == (2, 0)
    assert not (folder / "spoilt/checkpoints").exists()


def test_only_the_first_process_speaks(pair: tuple[list[Ended], Path]) -> None:
    (first, second), _ = pair
    assert first.out.count("translator:") == 2
    assert "step 6/6" in first.err
    assert second.out + second.err == ""


# --- how processes are started --------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "expected"),
    [({}, None), (as_torchrun(1), (2, 1)), (as_srun(1), (1, 2))],
    ids=["alone", "torchrun", "srun"],
)
def test_the_starter_says_how_many_there_are(
    env: dict[str, str], expected: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in os.environ if n.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert launched() == expected
    here, nodes = expected or (1, 1)
    assert _places("auto", 0) == ("auto", here, nodes)
    assert _places("cpu", nodes) == ("cpu", here, nodes)
    assert _places(str(here), 0) == ("auto", here, nodes)
    with pytest.raises(OptionError, match=f"`devices` {here} and `nodes` {nodes}, for which"):
        _places(str(here), 3)
    if expected:
        with pytest.raises(OptionError, match="torchrun or srun"):
            _places("8", 0)
    else:
        assert _places("8", 0) == ("auto", 8, 1)


@pytest.mark.slow
def test_torchrun(data: Path, pair: tuple[list[Ended], Path], tmp_path: Path) -> None:
    script = tmp_path / "syndiff"  # torchrun runs a file, as $(which syndiff) is
    script.write_text("from tests.helpers.processes import main\nraise SystemExit(main())\n")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    subprocess.run(
        [*torchrun, str(script), *command(data, tmp_path / "run").split()],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        timeout=PATIENCE,
    )
    states = [load_state(folder / "rank1.pt") for folder in (tmp_path / "run", pair[1] / "whole")]
    assert same(*states)


@pytest.mark.slow
def test_srun_on_two_nodes(data: Path, pair: tuple[list[Ended], Path], tmp_path: Path) -> None:
    first, second = two(command(data, tmp_path / "run", "--nodes", "2"), as_srun)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert second.out + second.err == ""
    states = [load_state(folder / "rank1.pt") for folder in (tmp_path / "run", pair[1] / "whole")]
    assert same(*states)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_and_saves(data: Path, tmp_path: Path) -> None:
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    run = tmp_path / "run"
    words = command(data, run, "--max-steps", "100000")
    processes = [start(words, **where, **as_torchrun(rank)) for rank in (0, 1)]
    while not (run / LAST).exists():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.5)
    processes[1].send_signal(signal.SIGTERM)
    first, second = ended(*processes)
    assert (first.code, second.code) == (130, 0)
    assert "stopped by SIGTERM at step" in first.out
    *states, last = (load_state(run / name) for name in ("rank0.pt", "rank1.pt", LAST))
    assert states[0]["step"] == states[1]["step"] == last["step"]
    assert same(*states)


# --- what they owe each other ---------------------------------------------------------------


def test_alone_everything_is_a_matter_of_course() -> None:
    assert gathered("x") == ["x"]
    done: list[int] = []
    on_rank_zero(True, lambda: done.append(1))
    on_rank_zero(False, lambda: done.append(2))
    assert done == [1]

    def fail() -> None:
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="disk is full"):
        on_rank_zero(True, fail)


def test_means_are_over_all_values_of_all_processes() -> None:
    parts = [({"a": 6.0, "pixel": 1.0}, {"a": 3, "pixel": 1}), ({"a": 0.0}, {"a": 3})]
    assert pooled_means(parts) == {"a": 1.0, "pixel": 1.0}
    assert pooled_means([({"a": float("nan")}, {"a": 1}), ({"a": 1.0}, {"a": 1})]).keys() == {"a"}


def test_only_lost_processes_are_called_lost() -> None:
    assert is_lost_process(
        RuntimeError("[gloo/transport/tcp/pair.cc:537] Connection reset by peer")
    )
    assert is_lost_process(RuntimeError("Application timeout caused pair closure"))
    assert is_lost_process(torch.distributed.DistBackendError("NCCL error: remote process exited"))
    assert not is_lost_process(RuntimeError("CUDA out of memory"))
