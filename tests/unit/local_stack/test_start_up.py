"""What the stack takes from the environment, and the one sentence for each thing that prevents its start."""

import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from local_stack import cli, environment, kafka_distribution
from local_stack.data_directory import DataDirectory
from local_stack.failures import ChildDied, Interrupted, KafkaUnavailable, StackFailed
from local_stack.ports import free_port, is_free, require_free
from local_stack.processes import Child, run
from local_stack.stack import Questions


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_taken_port_is_said_with_the_setting_that_changes_it(taken_port: int) -> None:
    with pytest.raises(StackFailed) as refused:
        require_free(taken_port, what="the API", remedy="--http-port or HTTP_PORT")
    assert str(refused.value) == (
        f"Port {taken_port}, chosen for the API, is taken by another program or not allowed: "
        "choose another with --http-port or HTTP_PORT."
    )


def test_a_preferred_port_that_is_taken_gives_way_to_a_free_one(taken_port: int) -> None:
    port = free_port(taken_port)
    assert port != taken_port
    assert is_free(port)


def test_the_api_port_is_the_option_before_the_environment(taken_port: int) -> None:
    port = free_port()
    assert environment.choose_http_port({"HTTP_PORT": str(taken_port)}, port) == (port, False)
    assert environment.choose_http_port({"HTTP_PORT": str(port)}, None) == (port, False)
    with pytest.raises(StackFailed, match=f"Port {taken_port}.*HTTP_PORT"):
        environment.choose_http_port({"HTTP_PORT": str(taken_port)}, None)


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1", "8e3"])
def test_a_port_that_is_none_is_said_with_its_setting(text: str) -> None:
    with pytest.raises(StackFailed, match=f"HTTP_PORT={text} is no port"):
        environment.choose_http_port({"HTTP_PORT": text}, None)


def test_a_port_chosen_for_the_worker_is_taken_or_refused(taken_port: int) -> None:
    port = free_port()
    assert environment.find_worker_port({"WORKER_HTTP_PORT": str(port)}) == port
    assert environment.find_worker_port({}) is None
    with pytest.raises(StackFailed, match=f"Port {taken_port}.*WORKER_HTTP_PORT"):
        environment.find_worker_port({"WORKER_HTTP_PORT": str(taken_port)})
    with pytest.raises(StackFailed, match="WORKER_HTTP_PORT=http is no port"):
        environment.find_worker_port({"WORKER_HTTP_PORT": "http"})


def test_history_runs_on_the_clock_of_its_events_unless_told_otherwise() -> None:
    lasting = environment.lasting_settings
    assert lasting({}, None, replaying=True) == {"CLOCK": "event", "BASE_CURRENCY": "GBP"}
    assert lasting({}, None, replaying=False) == {"CLOCK": "system", "BASE_CURRENCY": "CNY"}
    assert lasting({"CLOCK": "system"}, None, replaying=True) == {"CLOCK": "system", "BASE_CURRENCY": "GBP"}


def test_data_goes_on_with_what_it_was_made_with_unless_told_otherwise() -> None:
    made_with = {"CLOCK": "event", "BASE_CURRENCY": "GBP", "BUSINESS_TIMEZONE": "Asia/Shanghai"}
    assert environment.lasting_settings({}, made_with, replaying=False) == made_with
    assert environment.lasting_settings({"BASE_CURRENCY": "EUR"}, made_with, replaying=False)["BASE_CURRENCY"] == "EUR"


def test_the_services_get_the_environment_unchanged_and_defaults_for_what_it_leaves_open() -> None:
    given = {"KAFKA_GROUP_ID": "mine", "AUTH": "on", "KAFKA_SECURITY_PROTOCOL": "SSL", "DATABASE_URL": "other"}
    services = environment.service_environment(
        given,
        database_url="postgresql://here",
        bootstrap_servers="127.0.0.1:1",
        own_kafka=True,
        http_port=8090,
        worker_port=8091,
        lasting={"CLOCK": "event"},
    )
    expected = {
        "KAFKA_GROUP_ID": "mine",
        "AUTH": "on",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": "8090",
        "WORKER_HTTP_PORT": "8091",
        "DATABASE_URL": "postgresql://here",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "CLOCK": "event",
    }
    assert services.items() >= expected.items()
    assert "KAFKA_SECURITY_PROTOCOL" not in services


def test_an_api_without_keys_is_not_opened_to_the_network_by_an_oversight() -> None:
    with pytest.raises(StackFailed, match="HTTP_HOST"):
        environment.require_closed({"HTTP_HOST": "0.0.0.0"})
    environment.require_closed({"HTTP_HOST": "::1"})
    environment.require_closed({})
    environment.require_closed({"AUTH": "keys,jwt"})
    with pytest.raises(StackFailed, match="AUTH=keys,jwt"):
        environment.require_closed({"AUTH": "jwt"})
    with pytest.raises(StackFailed, match="HTTP_TLS_CERT_FILE"):
        environment.require_closed({"HTTP_TLS_CERT_FILE": "certificate.pem"})


def test_one_stack_at_a_time_has_the_data_directory(tmp_path: Path) -> None:
    with (
        DataDirectory(tmp_path),
        pytest.raises(StackFailed, match=rf"process {os.getpid()}.*--data-dir"),
        DataDirectory(tmp_path),
    ):
        pass
    with DataDirectory(tmp_path):
        pass


def test_a_data_directory_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackFailed, match=r"cannot be written to.*--data-dir"), DataDirectory(tmp_path / "file"):
        pass


def test_a_full_disk_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3_000_000))
    with pytest.raises(StackFailed, match=r"3 MB left, and 500 MB are needed"), DataDirectory(tmp_path):
        pass


def test_what_was_written_is_read_again_and_damage_is_said(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as directory:
        assert directory.read("a.json") is None
        directory.write("a.json", {"one": 1})
        assert json.loads((tmp_path / "a.json").read_text()) == directory.read("a.json") == {"one": 1}
        (tmp_path / "a.json").write_text("{")
        with pytest.raises(StackFailed, match=r"a\.json is damaged: remove it"):
            directory.read("a.json")


@pytest.mark.parametrize(
    ("text", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "26-ea" 2026-03-17', 26),
        ('java version "1.8.0_401"', 8),
        ("nonsense", None),
    ],
)
def test_the_java_version_is_read_in_its_old_and_new_spelling(text: str, major: int | None) -> None:
    assert kafka_distribution.java_major_version(text) == major


def test_a_missing_or_old_java_and_a_missing_maven_are_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(KafkaUnavailable, match=r"Java 17 or newer.*none was found: install"):
        kafka_distribution.find_java({"PATH": str(tmp_path)})
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    with pytest.raises(KafkaUnavailable, match=rf"{java} is Java 11.*JAVA_HOME"):
        kafka_distribution.find_java({"PATH": str(tmp_path)})
    with pytest.raises(KafkaUnavailable, match="install Apache Maven"):
        kafka_distribution.find_maven({"PATH": str(tmp_path)})


def test_jars_that_maven_cannot_fetch_leave_nothing_in_the_cache(tmp_path: Path) -> None:
    programs = {
        "java": "echo 'openjdk version \"21\"' >&2",
        "mvn": "mkdir jars; echo '[ERROR] no such host -> [Help 1]'; exit 1",
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    cache = tmp_path / "cache"
    with pytest.raises(KafkaUnavailable, match=r"could not fetch Kafka's jars \(no such host\)"):
        kafka_distribution.find_distribution({"PATH": str(tmp_path), "TIERLINE_CACHE_DIR": str(cache)})
    assert list(cache.iterdir()) == []


def test_a_child_that_dies_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("of an earlier start\n")
    child = Child.start(
        "the worker", [sys.executable, "-c", "print('alas'); raise SystemExit(3)"], log=tmp_path / "log"
    )
    while child.running:
        time.sleep(0.01)
    with pytest.raises(ChildDied, match=r"^the worker ended with exit code 3; the end of its log .*:\n  alas$"):
        child.check()


def test_a_command_is_ended_when_the_stack_is_to_stop(tmp_path: Path) -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(Interrupted):
        run([sys.executable, "-c", "import time; time.sleep(3600)"], name="x", log=tmp_path / "log", stopping=stopping)


def test_a_failing_start_is_one_line_on_standard_error(
    tmp_path: Path, taken_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def nobody(_: str) -> list[str]:
        return []

    async def no_rates(_: str, __: date) -> dict[str, float]:
        return {}

    arguments = ["run", "--data-dir", str(tmp_path), "--no-replay", "--http-port", str(taken_port)]
    assert cli.run(arguments, {}, Questions(nobody, no_rates)) == 1
    assert capsys.readouterr().err.count("\n") == 1
