"""The benchmark: counts against closed forms and held values, the baseline's mathematics, JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from syndiff import cli
from syndiff.benchmark.ceiling import TINY_WORK, ceiling
from syndiff.benchmark.compare import SAME, changes, read_benchmark
from syndiff.benchmark.counting import Counting, Counts, count
from syndiff.benchmark.measure import Call, Measured, measure
from syndiff.benchmark.need import needed_step
from syndiff.benchmark.official_step import OfficialStep, official_sampling, plain_layers
from syndiff.benchmark.run import Options, benchmark
from syndiff.benchmark.workloads import BenchmarkSetup, OfficialRenditionStep, OurStep
from syndiff.errors import OptionError, UserError
from syndiff.networks import blocks, ncsnpp
from syndiff.objectives.base import Batch, Draw
from syndiff.objectives.syndiff import SynDiff
from syndiff.training.module import frozen
from syndiff.training.presets import preset
from tests.helpers.runs import TINY_GITHUB
from tests.helpers.tiny import TINY

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


def setup(size: int = 32, batch: int = 1) -> BenchmarkSetup:
    return BenchmarkSetup("syndiff", TINY_GITHUB, size, batch, "32", slices=3)


@pytest.fixture(scope="module")
def counted() -> list[list[Counts]]:
    """What `results` counted, in the order of its cases."""
    return []


@pytest.fixture(scope="module")
def results(counted: list[list[Counts]]) -> dict:
    def counting(*arguments: Any, **options: Any) -> list[Counts]:
        counted.append(count(*arguments, **options))
        return counted[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("syndiff.benchmark.run.count", counting)
        return benchmark(
            Options(
                what=("train", "translate", "volume"),
                size=32,
                repeats=1,
                warmup=0,
                baseline=True,
                slices=2,
                settings=TINY_GITHUB,
                work=TINY_WORK,
                device="cpu",
            )
        )


@pytest.fixture(scope="module")
def ours(results: dict, counted: list[list[Counts]]) -> list[Counts]:
    """Of our step with the gradient penalty, and of one without."""
    return counted[0][::-1]


@pytest.fixture(scope="module")
def theirs(results: dict, counted: list[list[Counts]]) -> list[Counts]:
    """The same of the official rendition."""
    return counted[1][::-1]


class Twice:
    """A convolution that is run twice and gone back through once."""

    def __init__(self) -> None:
        self.image = torch.zeros(2, 3, 8, 8)
        self.network = nn.Conv2d(3, 5, 3, padding=1, bias=False)
        self.networks = {"a": self.network}

    def counted(self, number: int) -> None:
        self.network(self.image).sum().backward()
        with torch.no_grad():
            self.network(self.image)


def test_convolutions_are_counted_as_in_the_closed_form() -> None:
    (found,) = count(Twice, [0], warm=False)
    once = 2 * (3 * 3 * 3) * 5 * (8 * 8) * 2
    assert found.forward == {"a": 2 * once}
    assert found.backward == {"a": once}  # to the weights; nobody asked for the image's gradient
    assert found.calls == {"a": 2}


def test_a_backward_pass_of_a_backward_pass_stays_with_its_network() -> None:
    class Penalised(Twice):
        def counted(self, number: int) -> None:
            image = self.image.requires_grad_(True)
            out = self.network(image).sigmoid().sum()
            (gradient,) = torch.autograd.grad(out, image, create_graph=True)
            gradient.square().sum().backward()

    (found,) = count(Penalised, [0], warm=False)
    assert set(found.forward) == set(found.backward) == {"a"}
    once = found.forward["a"]
    # The gradient; its own backward by weight and by gradient; and through the sigmoid the first
    # pass once more, to the weights and to the image, whose gradient is kept as well.
    assert found.backward["a"] == 5 * once


def test_held_memory_is_counted_until_it_is_let_go() -> None:
    counting = Counting()
    with counting:
        first = torch.zeros(1000)
        second = first + 1
        view = second[:10]
        del first
        third = view * 2
    assert counting.counts.allocations == 3
    assert counting.counts.allocated_bytes == 4 * (1000 + 1000 + 10)
    assert counting.counts.peak_bytes == 8000
    counting.restart()
    assert counting.counts.peak_bytes == 4040
    del third


@pytest.mark.slow
def test_counting_is_repeatable_and_does_not_depend_on_values(ours: list[Counts]) -> None:
    assert count(lambda: OurStep(setup(), CPU), (1,)) == ours[1:]
    real = OurStep(setup(), CPU)
    counting = Counting()
    counting.watch(real.networks)
    with counting:
        real.counted(1)
    assert counting.counts.flop_by_network == ours[1].flop_by_network
    assert counting.counts.calls == ours[1].calls


def test_each_network_is_run_as_often_as_the_method_needs(ours: list[Counts]) -> None:
    expected = {}
    for m in ("source", "target"):
        expected |= {
            f"generators.one_shot_to_{m}": 2,  # guess and round trip
            f"generators.diffusive_{m}": 1,
            f"discriminators.one_shot_{m}": 3,  # real, fake; the fake again once it has learned
            f"discriminators.diffusive_{m}": 3,
        }
    assert ours[1].calls == expected
    assert ours[0].calls == expected  # the penalty is taken on the pass over the real images


def test_the_official_step_runs_its_generators_anew(theirs: list[Counts]) -> None:
    for m in ("source", "target"):
        assert theirs[1].calls[f"generators.one_shot_to_{m}"] == 4
        assert theirs[1].calls[f"generators.diffusive_{m}"] == 2
        assert theirs[0].calls[f"discriminators.diffusive_{m}"] == 3


# Operations of a step with the gradient penalty, and of one without. They may only fall.
HELD_TINY = {"ours": (373_067_328, 364_246_528), "theirs": (714_145_856, 699_322_624)}
HELD_PAPER = 5_092_777_562_368  # with the penalty, which the paper pays at every step


def test_operations_of_a_tiny_step_are_held(ours: list[Counts], theirs: list[Counts]) -> None:
    assert (ours[0].flop, ours[1].flop) == HELD_TINY["ours"]
    assert (theirs[0].flop, theirs[1].flop) == HELD_TINY["theirs"]


def test_allocations_of_a_tiny_step_are_held(ours: list[Counts]) -> None:
    assert ours[1].allocations <= 3_322
    assert ours[1].allocated_bytes <= 33_699_013
    assert ours[0].peak_bytes <= 12_261_985  # weights, moments and averages included


def test_operations_grow_with_the_batch_alone(ours: list[Counts]) -> None:
    (larger,) = count(lambda: OurStep(setup(batch=2), CPU), (1,), warm=False)
    convolutions = [name for name in ours[1].forward if name]
    for name in convolutions:
        assert larger.forward[name] == pytest.approx(2 * ours[1].forward[name], rel=1e-3)


def test_a_plain_step_runs_what_is_needed_and_no_more(ours: list[Counts]) -> None:
    plain, penalty = needed_step(TINY_GITHUB.objective, 32)
    assert ours[1].flop == pytest.approx(plain, rel=1e-3)
    assert ours[0].flop >= plain + penalty


@pytest.mark.parametrize(
    ("player", "kind", "gflop"),
    [
        ("generators", "diffusive_target", 140.8457),
        ("generators", "one_shot_to_target", 68.4678),
        ("discriminators", "diffusive_target", 151.3685),
        ("discriminators", "one_shot_target", 6.2265),
    ],
)
def test_operations_of_the_papers_networks_are_held(player: str, kind: str, gflop: float) -> None:
    class Forward:
        def __init__(self) -> None:
            settings = preset("paper").objective
            self.network = getattr(SynDiff(settings), player)[kind]
            x, t = torch.zeros(1, 1, 256, 256), torch.zeros(1, dtype=torch.long)
            z = torch.zeros(1, settings.generator.latent_dim)
            many = [x, x, t, z] if player == "generators" else [x, x, t]
            self.inputs = many if "diffusive" in kind else [x]
            self.networks = {"": self.network}

        @torch.no_grad()
        def counted(self, number: int) -> None:
            self.network(*self.inputs)

    (found,) = count(Forward, [0], warm=False)
    assert found.flop / 1e9 == pytest.approx(gflop, abs=1e-4)


@pytest.mark.slow
def test_operations_of_the_papers_step_are_held() -> None:
    paper = BenchmarkSetup("syndiff", preset("paper"), 256, 1, "32")
    (found,) = count(lambda: OurStep(paper, CPU), [0], warm=False)
    assert found.flop == HELD_PAPER
    assert found.calls["generators.diffusive_target"] == 1
    assert found.calls["generators.one_shot_to_target"] == 2


@pytest.fixture
def official() -> tuple[OfficialStep, Batch]:
    made = setup(batch=2)
    player = OfficialStep(made.objective(CPU), TINY_GITHUB, anomaly=False)  # type: ignore[arg-type]
    for p in player.objective.parameters():  # layers that start silent would hide mistakes
        if p.dim() > 1:
            nn.init.normal_(p, 0, 0.1, generator=torch.Generator().manual_seed(p.numel()))
    return player, Batch(*made.images(CPU))


def test_discriminators_losses_are_ours(official: tuple[OfficialStep, Batch]) -> None:
    player, batch = official
    draw = Draw(3, 0)  # step 0 pays the penalty
    fakes = player.objective.generate(batch, draw)
    ours = player.objective.discriminator_losses(batch, fakes.detached(), draw)
    theirs = player.diffusive_discriminators(batch, Draw(3, 0))
    theirs |= player.one_shot_discriminators(batch)
    assert set(theirs) == {f"discriminators/{name}" for name in ours}
    for name, value in ours.items():
        torch.testing.assert_close(theirs[f"discriminators/{name}"], value)


def test_generators_losses_are_ours(official: tuple[OfficialStep, Batch]) -> None:
    player, batch = official
    draw = Draw(3, 1)
    fakes = player.objective.generate(batch, draw)
    with frozen(player.objective.discriminators):
        ours = player.objective.generator_losses(batch, fakes, draw)
    theirs = player.all_generators(batch, Draw(3, 1))
    assert set(theirs) == {f"generators/{name}" for name in ours}
    for name, value in ours.items():
        torch.testing.assert_close(theirs[f"generators/{name}"], value)


def test_discriminators_gradients_are_ours(official: tuple[OfficialStep, Batch]) -> None:
    player, batch = official
    draw = Draw(3, 0)
    D = player.objective.discriminators
    fakes = player.objective.generate(batch, draw)
    terms = player.objective.discriminator_losses(batch, fakes.detached(), draw)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    ours = {name: p.grad for name, p in D.named_parameters()}
    player.diffusive_discriminators(batch, Draw(3, 0))
    player.one_shot_discriminators(batch)
    for name, p in D.named_parameters():
        torch.testing.assert_close(p.grad, ours[name], msg=name)


def test_the_official_step_watches_for_anomalies_and_moves_all_players() -> None:
    step = OfficialRenditionStep(setup(), CPU)
    seen: list[bool] = []
    for network in step.networks.values():
        network.register_forward_hook(lambda *_: seen.append(torch.is_anomaly_enabled()))
    before = {n: p.detach().clone() for n, p in step.official.objective.named_parameters()}
    average = [v.clone() for v in step.official.ema.values()]
    step(1)
    assert seen
    assert all(seen)
    assert not torch.is_anomaly_enabled()
    moved = {n for n, p in step.official.objective.named_parameters() if not p.equal(before[n])}
    for name in step.networks:
        assert any(n.startswith(name) for n in moved), name
    assert any(not a.equal(b) for a, b in zip(average, step.official.ema.values(), strict=True))


def test_plain_layers_are_exact_and_undone() -> None:
    usual, x = ncsnpp.fir_up, torch.randn(1, 2, 8, 8)
    with plain_layers():
        assert ncsnpp.fir_up is not usual
        assert blocks.fir_up is ncsnpp.fir_up
        plain = [f(x) for f in (blocks.fir_up, blocks.fir_down, blocks.fir_filter)]
    assert ncsnpp.fir_up is usual
    for f, expected in zip(
        (blocks.fir_up, blocks.fir_down, blocks.fir_filter), plain, strict=True
    ):
        torch.testing.assert_close(f(x), expected)


def test_official_sampling_makes_images() -> None:
    objective = SynDiff(TINY)
    source = torch.rand(2, 1, 16, 16) * 2 - 1
    made = official_sampling(
        objective.generators["diffusive_target"],  # type: ignore[arg-type]
        objective.schedule,
        source,
    )
    assert made.shape == source.shape
    assert made.abs().max() <= 1
    assert not made.requires_grad


def test_calls_are_timed_in_turns() -> None:
    order: list[str] = []
    found = measure(
        [Call(lambda: order.append("a"), 1, 3), Call(lambda: order.append("b"), 0, 1)], CPU
    )
    assert "".join(order) == "aabaa"
    assert [len(m.seconds) for m in found] == [3, 1]


def test_spread_is_the_distance_of_the_quartiles() -> None:
    measured = Measured([1.0, 2.0, 3.0, 4.0, 100.0])
    assert measured.median == 3
    assert measured.spread == 2
    assert Measured([7.0]).spread == 0


def test_what_runs_out_of_memory_is_given_up_and_the_rest_goes_on() -> None:
    def greedy() -> None:
        raise torch.OutOfMemoryError

    found = measure([Call(greedy, 1, 3), Call(lambda: None, 1, 3)], CPU)
    assert found[0].failure == "out of memory"
    assert len(found[1].seconds) == 3


def test_ceiling_is_a_rate() -> None:
    rates = ceiling(CPU, "32", TINY_WORK)
    assert set(rates) == {"matmul", "convolution"}
    assert all(0 < rate < 1e15 for rate in rates.values())


def test_results_are_json_with_a_line_per_case(results: dict, tmp_path: Path) -> None:
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    names = [(line["what"], line["variant"]) for line in results["cases"]]
    assert names == [
        ("train", "ours"),
        ("train", "official"),
        ("train", "official, unwatched"),
        ("translate", "ours"),
        ("translate", "official"),
        ("volume", "ours"),
    ]
    for line in results["cases"]:
        assert set(SAME) <= set(line)
        assert line["images_per_s"] == pytest.approx(1 / line["seconds_per_image"])
        if line["what"] == "volume":
            continue
        assert line["peak_bytes"] > 0
        rate = line["flop_per_image"] * line["images_per_s"]
        best = results["ceiling"]["flop_per_s"]["32"]["matmul"]
        assert line["share_of_matmul"] == pytest.approx(rate / best)
    ours, official = results["cases"][:2]
    assert official["speedup"] == 1
    expected = official["seconds_per_image"] / ours["seconds_per_image"]
    assert ours["speedup"] == pytest.approx(expected)
    assert ours["flop_per_image"] < 0.7 * official["flop_per_image"]


@pytest.mark.parametrize(
    "what", [("translate", "volume"), pytest.param(("train",), marks=pytest.mark.slow)]
)
def test_mixed_precision_is_counted_and_timed(what: tuple[str, ...]) -> None:
    options = Options(
        what=what, size=32, repeats=1, warmup=0, precision="bf16", slices=2,
        settings=TINY_GITHUB, work=TINY_WORK, device="cpu",
    )  # fmt: skip
    cases = benchmark(options)["cases"]
    assert [(case["what"], case["precision"]) for case in cases] == [(w, "bf16") for w in what]
    assert all(case["seconds_per_image"] > 0 for case in cases)
    assert cases[0]["flop_per_image"] > 0


def test_the_mean_step_weighs_the_penalty_by_its_interval(results: dict) -> None:
    kinds = results["cases"][0]["counts"]
    assert [kind["share"] for kind in kinds] == [0.5, 0.5]  # TINY pays every second time
    mean = (kinds[0]["flop"] + kinds[1]["flop"]) / 2
    assert results["cases"][0]["flop_per_image"] == mean


def test_comparison_shows_what_changed(results: dict) -> None:
    newer = json.loads(json.dumps(results))
    line = newer["cases"][0]
    line["flop_per_image"] *= 2
    line["counts"][0]["allocations"] += 7
    line["seconds_per_image"] *= 3
    found = [c for c in changes(results, newer) if c.exact or c.percent]
    assert {(c.quantity, c.exact) for c in found} == {
        ("FLOP/image", True),
        ("allocations", True),
        ("s/image", False),
    }
    assert {round(c.percent) for c in found} >= {100, 200}
    assert not [c for c in changes(results, results) if c.exact or c.percent]
    line["size"] = 64
    newer["cases"] = [line]
    with pytest.raises(OptionError, match="no case is in both"):
        changes(results, newer)


def test_other_files_are_no_benchmarks(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match="no benchmark"):
        read_benchmark(tmp_path / "x.json")


def test_exports_are_timed_on_the_cpu_alone() -> None:
    """ "meta" stands for a device that is not the CPU, and every machine has it."""
    with pytest.raises(OptionError, match="`what` export on meta; expected `device` cpu"):
        benchmark(Options(what=("export",), repeats=0, device="meta"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--what", "trane"), "trane"),
        (("--method", "magic"), "magic"),
        (("--method", "cyclegan", "--baseline"), "--method syndiff"),
        (("--preset", "huge"), "huge"),
        (("--networks", "vast"), "vast"),
        (("--size", "100"), "multiple of 32"),
        (("--batch", "1,x"), "whole numbers"),
        (("--batch", "0"), "batch size"),
        (("--precision", "8"), "precision"),
        (("--device", "meta"), "auto, cpu, cuda"),
        (("--device", "warp"), "warp"),
        (("--compare", "nowhere.json"), "nowhere.json"),
    ],
)
def test_mistakes_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["syndiff", "benchmark", "--repeats", "0", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("error: ")
    assert words in said[0]


def test_command_prints_a_table_and_writes_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "new.json"
    words = "benchmark --what translate --method cyclegan --preset small --size 64 --repeats 0"
    words += " --device cpu"
    for extra in (("--out", str(out)), ("--compare", str(out))):
        monkeypatch.setattr(sys, "argv", ["syndiff", *words.split(), *extra])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
    said = capsys.readouterr().out
    assert "GFLOP" in said
    assert "s/image" not in said  # nothing was timed
    assert "counts that changed: 0" in said
    assert read_benchmark(out)["cases"][0]["flop_per_image"] > 0


@pytest.mark.slow
def test_gpu_script_runs_tiny_on_a_cpu(tmp_path: Path) -> None:
    environment = {"BENCHMARK_TINY": "1", "PYTHON": sys.executable, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [ROOT / "experiments" / "gpu.sh", tmp_path],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = {path.stem for path in tmp_path.glob("*.json")}
    parts = {"train", "train_baseline", "translate", "translate_baseline", "volume"}
    assert made == parts | {"train_compiled", "translate_compiled"}
    assert read_benchmark(tmp_path / "train_baseline.json")["cases"][0]["speedup"] > 0
