"""The command `ingest-worker`: what it takes, what it says of itself, and how it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from ingest_worker import __main__ as worker
from ingest_worker import commands, telemetry, wiring
from ingest_worker.settings import WorkerSettings
from segmentation.errors import RatesInvalid, SettingInvalid, StoreUnavailable
from segmentation.outcomes import Partition
from segmentation.settings import HouseSettings

SECRET: Final = "s3cr3t-words"
HOUSE_NAMES: Final = [name.upper() for name in HouseSettings.model_fields]
WORKER_NAMES: Final = [name.upper() for name in WorkerSettings.model_fields]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing set but the database, which nobody asks here."""
    for name in WORKER_NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://tierline:{SECRET}@127.0.0.1:1/tierline")
    return monkeypatch


def ended(*arguments: str) -> object:
    with pytest.raises(SystemExit) as exit_:
        worker.main(arguments)
    return exit_.value.code


@pytest.mark.parametrize(
    ("subcommand", "names"),
    [
        ("run", WORKER_NAMES),
        ("load-rates", HOUSE_NAMES),
        ("snapshot", HOUSE_NAMES),
        ("resume", HOUSE_NAMES),
        ("restored", HOUSE_NAMES),
        ("erase", HOUSE_NAMES),
        ("erasures", HOUSE_NAMES),
        ("reposition", HOUSE_NAMES),
    ],
)
def test_the_help_of_each_subcommand_names_its_settings(
    capsys: pytest.CaptureFixture[str], subcommand: str, names: list[str]
) -> None:
    """And no other: what it does not read cannot change anything."""
    assert ended(subcommand, "--help") == 0
    text = capsys.readouterr().out
    assert {name for name in WORKER_NAMES if f"  {name}\n" in text} == set(names)
    assert SECRET not in text


def test_the_help_lists_the_subcommands(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--help") == 0
    text = capsys.readouterr().out
    commands_there = ("run", "load-rates", "snapshot", "resume", "restored", "reposition", "check", "rebuild", "erase")
    assert all(name in text for name in commands_there)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("walk",),
        ("run", "fast"),
        ("load-rates",),
        ("load-rates", "one.csv", "two.csv"),
        ("reposition",),
        ("reposition", "--to"),
        ("reposition", "--to", "latest"),
        ("resume",),
        ("resume", "orders"),
        ("resume", "orders/"),
        ("resume", "/3"),
        ("resume", "orders/-1"),
        ("resume", "orders/٣"),
        ("resume", "orders/2147483648"),
        ("resume", "orders/0", "orders/1"),
        ("resume", "orders/0", "--all"),
        ("drop-events",),
        ("drop-events", "--before", "soon"),
        ("check", "everything"),
        ("erase",),
        ("erasures", "--apply"),
    ],
)
def test_what_is_no_command_is_said_with_the_usage(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """A reposition above all says where to: it is nothing to do by a slip."""
    assert ended(*arguments) == 2
    assert capsys.readouterr().err.startswith("usage: ingest-worker")


def test_each_subcommand_does_what_it_is_named_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def load_rates(settings: HouseSettings, file: Path) -> str:
        return f"rates of {file} for {settings.base_currency}"

    async def reposition(settings: HouseSettings) -> str:
        return f"repositioned in {settings.business_timezone}"

    async def resume(_: HouseSettings, partition: Partition | None) -> str:
        return f"resumed {partition and tuple(partition)}"

    monkeypatch.setattr(commands, "load_rates", load_rates)
    monkeypatch.setattr(commands, "reposition", reposition)
    monkeypatch.setattr(commands, "resume", resume)
    worker.main(["load-rates", "some/rates.csv"])
    worker.main(["reposition", "--to", "earliest"])
    worker.main(["resume", "logistics.orders/3"])
    worker.main(["resume", "--all"])
    assert capsys.readouterr().out.splitlines() == [
        "rates of some/rates.csv for CNY",
        "repositioned in UTC",
        "resumed ('logistics.orders', 3)",
        "resumed None",
    ]


@pytest.mark.parametrize("error", [SettingInvalid("X is 1: 2"), RatesInvalid("line 3"), StoreUnavailable("is away")])
def test_a_refusal_is_one_line_that_names_the_command(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A string as the exit code is printed on standard error, and makes it 1."""

    async def fail(_: HouseSettings) -> str:
        raise error

    monkeypatch.setattr(commands, "reposition", fail)
    assert ended("reposition", "--to", "earliest") == f"ingest-worker: {error}"


def test_a_bad_setting_is_refused_before_anything_is_begun(
    environment: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "run", pytest.fail)
    monkeypatch.setattr(telemetry, "start_logging", lambda: None)
    environment.setenv("KAFKA_BOOTSTRAP_SERVERS", "nowhere")
    code = ended("run")
    assert isinstance(code, str)
    assert code.startswith("ingest-worker: KAFKA_BOOTSTRAP_SERVERS is 'nowhere'")


def test_the_settings_that_a_subcommand_does_not_read_may_be_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator's commands need the database alone."""

    async def reposition(_: HouseSettings) -> str:
        return "done"

    monkeypatch.setattr(commands, "reposition", reposition)
    worker.main(["reposition", "--to", "earliest"])
    assert capsys.readouterr().out == "done\n"


def test_the_installed_command_refuses_with_exit_code_1_and_one_line() -> None:
    inherited = {name: value for name, value in os.environ.items() if name not in WORKER_NAMES}  # noqa: TID251
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ingest-worker")), "run"],
        check=False,
        capture_output=True,
        text=True,
        env=inherited | {"DATABASE_URL": f"mysql://{SECRET}"},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ingest-worker: DATABASE_URL is set to something else: ")
    assert done.stderr.count("\n") == 1
    assert SECRET not in done.stderr
