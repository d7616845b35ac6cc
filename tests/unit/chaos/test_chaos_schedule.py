"""The schedule comes from the seed alone."""

from __future__ import annotations

from itertools import pairwise

import pytest
from chaos.schedule import Kind, Lane, lane_of, plan


def test_the_same_seed_gives_the_same_faults() -> None:
    assert plan(7, seconds=300, workers=3) == plan(7, seconds=300, workers=3)
    assert plan(7, seconds=300, workers=3) != plan(8, seconds=300, workers=3)


def test_a_longer_campaign_begins_like_a_shorter_one() -> None:
    short, long = plan(7, seconds=60, workers=2), plan(7, seconds=120, workers=2)
    assert long[: len(short)] == short


@pytest.mark.parametrize("seed", range(20))
def test_faults_of_one_lane_follow_each_other(seed: int) -> None:
    faults = plan(seed, seconds=200, workers=2)
    assert faults == sorted(faults, key=lambda fault: fault.at)
    for lane in Lane:
        of_lane = [fault for fault in faults if fault.lane is lane]
        assert of_lane
        assert all(former.at + former.seconds < later.at for former, later in pairwise(of_lane))
        assert all(fault.at < 200 for fault in of_lane)


@pytest.mark.parametrize("lane", Lane)
def test_every_kind_comes_once_before_one_comes_again(lane: Lane) -> None:
    kinds = [kind for kind in Kind if lane_of(kind) is lane]
    met = [fault.kind for fault in plan(3, seconds=2_000, workers=2) if fault.lane is lane]
    for start in range(0, len(met) - len(kinds), len(kinds)):
        assert set(met[start : start + len(kinds)]) == set(kinds)


def test_ten_seeds_of_the_usual_length_meet_every_kind() -> None:
    assert {fault.kind for seed in range(1, 11) for fault in plan(seed, seconds=90, workers=2)} == set(Kind)


def test_only_some_kinds() -> None:
    wanted = [Kind.BROKER_CUT, Kind.WORKER_KILLED]
    assert {fault.kind for fault in plan(1, seconds=100, workers=2, only=wanted)} == set(wanted)


def test_a_fault_says_whom_it_befalls() -> None:
    told = {fault.kind: fault.told() for fault in plan(3, seconds=2_000, workers=1)}
    assert "worker 1" in told[Kind.WORKER_KILLED]
    assert " s, " in told[Kind.DATABASE_STALLED]
    assert told[Kind.RATES_LOADED] == "rates-loaded"
