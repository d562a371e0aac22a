"""Statistics against scipy, closed forms and published examples."""

import numpy as np
import pytest
from scipy import stats

from syndiff.evaluation import statistics as ours

# Darwin's cross- and self-fertilised maize, differences of heights in eighths of an inch
# (Fisher, The Design of Experiments, 1935, table 3).
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def test_darwins_maize_as_published():
    """Rank sums 96 and 24: W = 24, two-sided exact p = 0.0413."""
    p, exact = ours.wilcoxon(DARWIN)
    assert exact
    assert p == pytest.approx(0.0413, abs=5e-5)
    assert ours.rank_biserial(DARWIN) == pytest.approx((96 - 24) / 120)


@pytest.mark.parametrize("n", [3, 5, 8, 20])
def test_exact_p_of_agreeing_pairs_is_two_to_the_power_of_one_minus_n(n):
    differences = np.arange(1.0, n + 1)
    assert ours.wilcoxon(differences) == (pytest.approx(2.0 ** (1 - n)), True)
    assert ours.least_p(n) == pytest.approx(2.0 ** (1 - n))
    assert ours.rank_biserial(differences) == 1
    assert ours.rank_biserial(-differences) == -1


def test_ties_are_exact_for_few_people_and_approximate_for_many():
    """Three ranks of 2: all 8 signs, of which 2 are as far from the middle."""
    assert ours.wilcoxon([1.0, 1.0, 1.0]) == (pytest.approx(0.25), True)
    assert ours.wilcoxon([1.0, 1.0, -1.0]) == (pytest.approx(1.0), True)
    untied = np.array([0.5, -1.0, 2.0, 3.0, -0.2, 4.0])
    assert ours._by_all_signs(untied) == pytest.approx(
        stats.wilcoxon(untied, method="exact").pvalue
    )
    many = np.repeat([1.0, 2.0, -1.0], 10)
    p, exact = ours.wilcoxon(many)
    assert not exact
    assert p == stats.wilcoxon(many, method="asymptotic", correction=True).pvalue


def test_equal_methods_differ_in_nothing():
    assert ours.wilcoxon([0.0, 0.0]) == (1.0, True)
    assert ours.rank_biserial([0.0, 0.0]) == 0
    assert ours.bca_interval([0.0, 0.0, 0.0]) is None


def test_holm_as_in_its_definition():
    """4 × 0.01; 3 × 0.02; 2 × 0.03 = 0.06; 0.04, raised to the one before."""
    assert ours.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert ours.holm([0.9, 0.8]) == [1.0, 1.0]
    assert ours.holm([]) == []


def test_bca_is_scipys_and_holds_the_mean():
    values = np.random.default_rng(0).exponential(2.0, 15)
    low, high = ours.bca_interval(values, seed=4)
    assert low < values.mean() < high
    assert (low, high) == ours.bca_interval(values, seed=4)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(4)
    ).confidence_interval
    assert (low, high) == (expected.low, expected.high)
    assert ours.bca_interval([1.0, 2.0]) is None


def test_the_sign_of_an_effect_says_what_is_better():
    people = 8
    rng = np.random.default_rng(1)
    base = rng.uniform(20, 25, people)
    scores = {
        "psnr_db": {"ours": list(base), "worse": list(base - rng.uniform(1, 2, people))},
        "mae": {"ours": [0.1] * people, "worse": list(0.1 + rng.uniform(0.01, 0.1, people))},
    }
    found = ours.compare(scores, "ours", {"psnr_db": "higher", "mae": "lower"})
    assert [c.effect for c in found] == [-1.0, -1.0]
    assert [c.p for c in found] == pytest.approx([2 / 256] * 2)
    assert [c.p_holm for c in found] == pytest.approx([4 / 256] * 2)
    assert [c.mark for c in found] == ["*", "*"]
    psnr, mae = found
    assert psnr.interval[0] < psnr.difference < psnr.interval[1] < 0 < mae.interval[0]


def test_four_people_are_warned_that_they_cannot_reach_the_level():
    scores = {"psnr_db": {"a": [1.0, 2.0, 3.0, 4.0], "b": [2.0, 4.0, 6.0, 8.0]}}
    found = ours.compare(scores, "a", {"psnr_db": "higher"})
    assert found[0].p == pytest.approx(0.125)
    (warning,) = ours.warnings(found, "subject")
    assert "4 people cannot reach p < 0.05: two-sided p is at least 0.125" in warning
    assert "not independent" in ours.warnings(found, "slice")[0]


def test_many_comparisons_need_more_people():
    values = {str(k): [float(k * v) for v in range(1, 7)] for k in range(1, 9)}
    found = ours.compare({"psnr_db": values}, "1", {"psnr_db": "higher"})
    assert len(found) == 7
    assert "after Holm's correction for 7 comparisons" in ours.warnings(found, "subject")[0]
    one = ours.compare({"psnr_db": {k: values[k] for k in "12"}}, "1", {"psnr_db": "higher"})
    assert ours.warnings(one, "subject") == []


def test_unknown_scores_are_left_out_in_pairs():
    scores = {"ssim": {"a": [1.0, None, 3.0], "b": [0.5, 1.0, 1.0], "c": [None, None, None]}}
    (found,) = ours.compare(scores, "a", {"ssim": "higher"})
    assert (found.method, found.n, found.difference) == ("b", 2, pytest.approx(-1.25))
