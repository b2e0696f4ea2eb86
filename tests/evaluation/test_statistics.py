import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from graphophone.evaluation.statistics import Estimate, compare_paired, interval

floats = st.floats(-100, 100, allow_nan=False)


def test_known_interval() -> None:
    # 4.3027 is the 97.5 % point of Student's t with two degrees of freedom.
    e = interval([1.0, 2.0, 3.0])
    assert (e.mean, e.sd, e.n) == (2.0, 1.0, 3)
    assert e.high == pytest.approx(2 + 4.302652729911275 / 3**0.5)
    assert e.low == pytest.approx(2 - 4.302652729911275 / 3**0.5)


@given(st.lists(floats, min_size=2, max_size=12), st.floats(0.5, 0.99))
def test_interval_against_scipy(values: list[float], level: float) -> None:
    e = interval(values, level)
    sem = np.std(values, ddof=1) / len(values) ** 0.5
    if sem > 1e-9:
        low, high = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=sem)
        assert e.low == pytest.approx(low, abs=1e-9)
        assert e.high == pytest.approx(high, abs=1e-9)
    assert e.low is not None
    assert e.low <= e.mean <= (e.high or e.mean)


def test_one_value_has_no_spread() -> None:
    e = interval([0.5])
    assert e == Estimate(0.5, None, None, None, 1)
    assert f"{e:.1%}" == "50.0"


def test_text() -> None:
    e = Estimate(59.1, 0.84, 58.12, 60.08, 5)
    assert str(e) == "59.1 ± 0.8 [58.1, 60.1]"
    assert f"{Estimate(0.591, 0.0084, 0.5812, 0.6008, 5):.1%}" == "59.1 ± 0.8 [58.1, 60.1]"
    assert f"{e:.2f}" == "59.10 ± 0.84 [58.12, 60.08]"
    assert Estimate.from_dict(e.to_dict()) == e


@pytest.mark.parametrize("values", [[], [float("nan")], [1.0, float("inf")]])
def test_bad_values(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        interval(values)


def test_bad_level() -> None:
    with pytest.raises(ValueError, match="level"):
        interval([1.0, 2.0], level=95)


def test_paired_comparison_sees_what_unpaired_cannot() -> None:
    # The seeds differ by far more than the systems, but B is better on every one.
    a = {0: 0.50, 1: 0.60, 2: 0.70, 3: 0.80}
    b = {0: 0.52, 1: 0.61, 2: 0.72, 3: 0.81, 9: 0.1}
    c = compare_paired(a, b)
    assert c.difference.mean == pytest.approx(0.015)
    assert c.difference.n == 4
    assert (c.wins, c.losses) == (4, 0)
    assert c.decided
    assert c.p_value == pytest.approx(stats.ttest_rel(list(b.values())[:4], list(a.values())).pvalue)


def test_paired_comparison_edges() -> None:
    one = compare_paired({0: 0.1}, {0: 0.2})
    assert one.p_value is None
    assert not one.decided
    same = compare_paired({0: 0.1, 1: 0.3}, {0: 0.1, 1: 0.3})
    assert same.p_value is None
    assert not same.decided
    with pytest.raises(ValueError, match="both"):
        compare_paired({0: 0.1}, {1: 0.1})
