"""Who asks to stop does not wait: a slow step or a validation is left, and nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from syndiff.objectives.syndiff import SynDiff
from syndiff.training import leaving, watch
from syndiff.training.leaving import Leaving, StepLeft
from syndiff.training.run import train
from syndiff.training.watch import load_state
from tests.helpers.runs import run_of, settings
from tests.helpers.tiny import write_prepared

LAST = "checkpoints/last.pt"


class Small:
    """A network with weights and buffers, and its steps."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.optimizer = torch.optim.Adam(self.network.parameters(), 0.1)
        self.leaving = Leaving()

    def step(self, number: int, leave: bool = False) -> None:
        generator = torch.Generator().manual_seed(number)
        x = torch.randn(8, 3, generator=generator)
        with self.leaving.step(self.network, self.optimizer, self.network):
            self.leaving.begin()
            self.optimizer.zero_grad()
            self.network(x).square().mean().backward()
            self.optimizer.step()
            if leave:
                self.leaving.ask()
            self.leaving.no_more()

    def state(self) -> list[torch.Tensor]:
        moments = self.optimizer.state_dict()["state"].values()
        return [*self.network.state_dict().values(), *(v for m in moments for v in m.values())]


@pytest.mark.parametrize("before", [0, 2])
def test_a_step_that_was_left_is_none(monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    monkeypatch.setattr(leaving, "SLOW_S", -1.0)  # every step is slow
    left, straight = Small(), Small()
    for number in range(before):
        left.step(number)
        straight.step(number)
    left.step(before, leave=True)
    assert left.leaving.left
    left.leaving = Leaving()
    for small in (left, straight):
        small.step(before)
        assert not small.leaving.left
    assert all(map(torch.equal, left.state(), straight.state()))


def test_a_short_step_is_finished_and_a_slow_one_not_begun() -> None:
    small = Small()
    small.step(0)
    small.step(1, leave=True)
    assert not small.leaving.left
    small.leaving.slow = True
    before = [tensor.clone() for tensor in small.state()]
    small.step(2)
    assert small.leaving.left
    assert all(map(torch.equal, small.state(), before))


def test_a_backward_pass_is_left() -> None:
    """Without Python in between, the signal would be heard when the pass is over."""
    w, out = torch.ones(300_000, requires_grad=True), Leaving()
    begun = threading.Event()

    def tells() -> None:
        begun.wait()
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda number, frame: out.ask())
    teller = threading.Thread(target=tells)
    teller.start()
    try:
        network = nn.Linear(1, 1)
        with out.step(network, torch.optim.SGD(network.parameters(), 0.1), network):
            out.begin()
            x = w
            for _ in range(300):
                x = x.sin()
            begun.set()
            x.sum().backward()
            out.no_more()
    finally:
        begun.set()
        teller.join()
        signal.signal(signal.SIGUSR1, before)
    assert out.left
    assert w.grad is None


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    subjects = {"train1": "T1 T2", "train2": "T1 T2", "val1": "T1 T2"}
    return write_prepared(tmp_path_factory.mktemp("leaving") / "data", subjects, ("T1", "T2"))


def test_a_training_stopped_anywhere_is_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a step, then in the middle of a validation, then to its end."""
    monkeypatch.setattr(leaving, "SLOW_S", -1.0)
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background
    chosen = settings(max_steps=4, validate_every=2)
    straight = run_of(data, tmp_path / "straight", settings=chosen, devices="cpu")
    run = tmp_path / "run"

    with monkeypatch.context() as patched:
        losses, calls = SynDiff.generator_losses, [0]

        def stops(self: SynDiff, *arguments: object) -> object:
            calls[0] += 1
            if calls[0] == 2:  # the discriminators are stepped already
                signal.raise_signal(signal.SIGTERM)
            return losses(self, *arguments)  # type: ignore[arg-type]

        patched.setattr(SynDiff, "generator_losses", stops)
        outcome = train(data, run, source="T1", target="T2", settings=chosen, devices="cpu")
    assert (outcome.interrupted, outcome.step) == (True, 1)

    with monkeypatch.context() as patched:
        validate = watch.validate

        def stopped(*arguments: object) -> object:
            found = validate(*arguments)  # type: ignore[arg-type]
            signal.raise_signal(signal.SIGINT)
            return found

        patched.setattr(watch, "validate", stopped)
        outcome = train(data, run, resume=True, devices="cpu")
    assert (outcome.interrupted, outcome.step) == (True, 2)

    outcome = train(data, run, resume=True, devices="cpu")
    assert (outcome.interrupted, outcome.step) == (False, 4)
    expected, found = load_state(straight / LAST), load_state(run / LAST)
    for group in ("generators", "discriminators", "ema"):
        for name, tensor in expected[group].items():
            assert torch.equal(tensor, found[group][name])
    assert found["best"] == expected["best"]
    rows = [(folder / "history.csv").read_text().splitlines() for folder in (straight, run)]
    assert [line.split(",")[0] for line in rows[1]] == ["step", "2", "4"]
    assert [line.split(",")[2:] for line in rows[0]] == [line.split(",")[2:] for line in rows[1]]
    assert signal.getsignal(signal.SIGINT) is before


def test_asking_twice_is_no_error() -> None:
    out = Leaving()
    out.ask()
    out.ask()
    network = nn.Linear(1, 1)
    with out.step(network, torch.optim.SGD(network.parameters(), 0.1), network):
        out.begin()
        raise AssertionError("it was to be left")
    assert out.left
    assert issubclass(StepLeft, BaseException)
    assert not issubclass(StepLeft, Exception)
