"""BG/NBD and Gamma-Gamma against published figures, and against customers simulated with known parameters."""

from __future__ import annotations

import numpy as np
import pytest

from segment_trainer.classics import BetaGeometric, GammaGamma, Past

CDNOW = BetaGeometric(0.243, 4.414, 0.793, 2.426)


def past(repeats: list[float], span: list[float], age: list[float]) -> Past:
    return Past(np.array(repeats), np.array(span), np.array(age), np.ones(len(age)))


def simulated(model: BetaGeometric, customers: int, *, seed: int = 5) -> Past:
    chance = np.random.default_rng(seed)
    rates = chance.gamma(model.r, 1 / model.alpha, customers)
    losses = chance.beta(model.a, model.b, customers)
    ages = chance.uniform(27, 39, customers)
    repeats, spans = np.zeros(customers), np.zeros(customers)
    for row in range(customers):
        now = chance.exponential(1 / rates[row])
        while now < ages[row]:
            repeats[row] += 1
            spans[row] = now
            if chance.random() < losses[row]:
                break
            now += chance.exponential(1 / rates[row])
    return Past(repeats, spans, ages, np.ones(customers))


def test_the_published_expectation_of_cdnow():
    """Two repeats, the last in week 30.43 of 38.86: 1.226 orders in the next 39 weeks (Fader, Hardie and Lee)."""
    assert CDNOW.orders(past([2], [30.43], [38.86]), 39)[0] == pytest.approx(1.226, abs=5e-4)


@pytest.mark.parametrize(
    ("weeks", "orders"), [(0.1429, 0.0078), (1, 0.0532), (3, 0.1506), (31.8571, 1.0405), (32, 1.0437), (78, 1.8576)]
)
def test_the_published_expectation_of_a_new_customer(weeks, orders):
    assert CDNOW.orders(past([0], [0], [0]), weeks)[0] == pytest.approx(orders, rel=5e-3)


def test_the_parameters_of_simulated_customers_are_found():
    truth = simulated(CDNOW, 12_000)
    found = BetaGeometric.fit(truth)
    assert found.r == pytest.approx(CDNOW.r, rel=0.1)
    assert found.alpha == pytest.approx(CDNOW.alpha, rel=0.15)
    # a and b alone are found poorly from weeks; the mean chance to be lost is not
    assert found.a / (found.a + found.b) == pytest.approx(CDNOW.a / (CDNOW.a + CDNOW.b), abs=0.04)


def test_the_fit_is_no_less_likely_than_the_truth():
    truth = simulated(CDNOW, 3_000)
    found = BetaGeometric.fit(truth)
    likelihoods = [model.log_likelihood(*truth[:3]).sum() for model in (found, CDNOW)]
    assert likelihoods[0] >= likelihoods[1]


def test_what_was_foretold_of_simulated_customers_is_what_comes():
    """The expectation of the orders and of silence, against many futures of customers with one past."""
    chance = np.random.default_rng(3)
    look, weeks, wanted = 20.0, 15.0, 2
    orders, silent, seen = 0, 0, 0
    for rate, loss in zip(chance.gamma(2, 1 / 10, 30_000), chance.beta(1, 4, 30_000), strict=True):
        before, after, now = 0, 0, chance.exponential(1 / rate)
        last = 0.0
        while now < look + weeks:
            if now < look:
                before, last = before + 1, now
            else:
                after += 1
            if chance.random() < loss:
                break
            now += chance.exponential(1 / rate)
        if before == wanted and 10 < last < 14:
            seen, orders, silent = seen + 1, orders + after, silent + (after == 0)
    model = BetaGeometric(2, 10, 1, 4)
    one = past([wanted], [12], [look])
    assert seen > 500
    assert orders / seen == pytest.approx(model.orders(one, weeks)[0], rel=0.12)
    assert silent / seen == pytest.approx(model.silence(one, weeks)[0], abs=0.06)


def test_without_a_repeat_nobody_is_known_to_be_lost():
    assert CDNOW.alive(past([0, 0], [0, 0], [1, 90])).tolist() == [1, 1]


@pytest.mark.parametrize("a", [1e-3, 0.3, 1.0, 1.0 + 1e-7, 2.5, 400.0, 2_900.0])
@pytest.mark.parametrize("b", [1e-3, 3.0, 2_900.0])
def test_many_orders_and_any_parameters_give_finite_figures(a, b):
    model = BetaGeometric(0.5, 5, a, b)
    many = past([0, 1, 500, 5_000], [0, 5, 90, 100], [100, 100, 100, 100])
    for figures in (model.orders(many, 52), model.alive(many), model.silence(many, 52)):
        assert np.isfinite(figures).all()
        assert (figures >= -1e-9).all()
    assert (model.silence(many, 52) <= 1).all()
    assert (model.orders(many, 52) <= 52 * (0.5 + many.repeats) / (5 + many.age) + 1e-6).all()


def test_customers_who_all_came_once_can_be_fitted():
    once = past([0] * 60, [0] * 60, list(range(1, 61)))
    assert np.isfinite(BetaGeometric.fit(once).orders(once, 52)).all()


def test_the_parameters_of_simulated_amounts_are_found():
    chance = np.random.default_rng(2)
    p, q, gamma = 6.25, 3.74, 15.44
    scale = chance.gamma(q, 1 / gamma, 20_000)
    number = chance.integers(1, 12, 20_000).astype(float)
    mean = chance.gamma(p * number, 1 / scale) / number
    found = GammaGamma.fit(number, mean)
    assert (found.p, found.q, found.gamma) == pytest.approx((p, q, gamma), rel=0.12)
    assert found.mean(number, mean).mean() == pytest.approx(p * gamma / (q - 1), rel=0.03)


def test_amounts_keep_their_currency():
    chance = np.random.default_rng(2)
    number, mean = np.full(500, 3.0), chance.lognormal(3, 1, 500)
    small, large = GammaGamma.fit(number, mean), GammaGamma.fit(number, mean * 1_000)
    assert large.mean(number, mean * 1_000) == pytest.approx(small.mean(number, mean) * 1_000, rel=1e-3)


def test_nobody_brought_anything():
    assert GammaGamma.fit(np.ones(3), np.zeros(3)).mean(np.ones(3), np.zeros(3)).tolist() == [0, 0, 0]
