"""The program behind the local Kafka: a Java of this machine, and Kafka's jars, pinned by broker/pom.xml.

Laws: the jars are fetched once and kept in the user's cache, which holds a whole set under its name or none. What
cannot be had raises KafkaUnavailable, one sentence with the remedy.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from local_stack.failures import KafkaUnavailable
from local_stack.processes import last_lines, run

OLDEST_JAVA = 17
_BROKER_FILES = Path(__file__).parent / "broker"
_POM = _BROKER_FILES / "pom.xml"
LOG4J_CONFIGURATION = _BROKER_FILES / "log4j2.xml"


@dataclass(frozen=True, slots=True)
class KafkaDistribution:
    """What it takes to start a broker."""

    version: str
    #: the `java` program
    java: Path
    #: the directory of all jars
    jars: Path


def find_distribution(
    environment: Mapping[str, str],
    *,
    say: Callable[[str], None] = lambda _: None,
    stopping: threading.Event | None = None,
) -> KafkaDistribution:
    """The Java and the jars; fetches the jars with Maven if the cache has none. Raises KafkaUnavailable."""
    java = find_java(environment)
    version = pinned_version()
    # whoever changes another version in the pom gets another directory
    place = cache_directory(environment) / f"kafka-{version}-{hashlib.sha256(_POM.read_bytes()).hexdigest()[:8]}"
    if not place.is_dir():
        maven = find_maven(environment)
        say(f"Fetching Kafka {version} with Maven (45 MB, once) …")
        _fetch(maven, place, stopping)
    return KafkaDistribution(version, java, place)


def pinned_version() -> str:
    """The Kafka version that the pom pins."""
    found = re.search(r"<kafka\.version>(.+?)</kafka\.version>", _POM.read_text(encoding="utf-8"))
    if found is None:
        raise KafkaUnavailable(f"{_POM} names no kafka.version: restore it.")
    return found[1]


def cache_directory(environment: Mapping[str, str]) -> Path:
    """Where fetched jars are kept: TIERLINE_CACHE_DIR, else the user's cache directory."""
    if chosen := environment.get("TIERLINE_CACHE_DIR"):
        return Path(chosen).absolute()
    # the XDG specification: a relative path is to be ignored
    user_cache = Path(environment.get("XDG_CACHE_HOME", ""))
    if user_cache.is_absolute():
        return user_cache / "tierline"
    try:
        return Path.home() / ".cache" / "tierline"
    except RuntimeError:
        raise KafkaUnavailable("There is no home directory to keep Kafka's jars in: set TIERLINE_CACHE_DIR.") from None


def find_java(environment: Mapping[str, str]) -> Path:
    """A Java that is new enough: of JAVA_HOME, else of PATH."""
    search_path = environment.get("PATH")
    candidates = [
        environment.get("JAVA_HOME") and f"{environment['JAVA_HOME']}/bin/java",
        shutil.which("java", path=search_path),
    ]
    too_old: list[str] = []
    for candidate in filter(None, candidates):
        version = _java_version(candidate)
        if version is not None and version >= OLDEST_JAVA:
            return Path(candidate)
        too_old.append(f"{candidate} is Java {version}" if version else f"{candidate} does not run")
    found = f" ({'; '.join(too_old)})" if too_old else ""
    raise KafkaUnavailable(
        f"Kafka needs Java {OLDEST_JAVA} or newer, and none was found{found}: "
        "install a Java runtime, or point JAVA_HOME at one."
    )


def find_maven(environment: Mapping[str, str]) -> Path:
    """Maven's `mvn`: of MAVEN_HOME, else of PATH."""
    search_path = environment.get("PATH")
    if home := environment.get("MAVEN_HOME"):
        search_path = f"{home}/bin{os.pathsep}{search_path or ''}"
    maven = shutil.which("mvn", path=search_path)
    if maven is None:
        raise KafkaUnavailable(
            "Kafka's jars come through Maven, and there is no `mvn` on the PATH: install Apache Maven."
        )
    return Path(maven)


def java_major_version(text: str) -> int | None:
    """What `java -version` says, as one number.

    >>> java_major_version('openjdk version "17.0.15" 2025-04-15'), java_major_version('java version "1.8.0_401"')
    (17, 8)
    """
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(found[1]) if found else None


def _java_version(java: str) -> int | None:
    try:
        answer = subprocess.run([java, "-version"], check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return java_major_version(answer.stderr + answer.stdout)


def _fetch(maven: Path, place: Path, stopping: threading.Event | None) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=place.parent) as scratch:
            # Maven works in a directory of its own: nothing is written beside the pom
            shutil.copy(_POM, scratch)
            log = Path(scratch) / "maven.log"
            code = run(
                [
                    str(maven),
                    "-q",
                    "-B",
                    "dependency:copy-dependencies",
                    "-DincludeScope=runtime",
                    "-DoutputDirectory=jars",
                ],
                name="Maven",
                log=log,
                stopping=stopping,
                cwd=Path(scratch),
            )
            jars = Path(scratch) / "jars"
            if code != 0 or not any(jars.glob("kafka_*.jar")):
                raise KafkaUnavailable(
                    f"Maven could not fetch Kafka's jars ({_reason(log)}): check the network and Maven's settings, "
                    "and start again."
                )
            try:
                jars.rename(place)
            except OSError:
                # somebody else has put the same set there meanwhile
                if not place.is_dir():
                    raise
    except OSError as failed:
        raise KafkaUnavailable(
            f"Kafka's jars cannot be kept in {place.parent} ({failed.strerror}): "
            "set TIERLINE_CACHE_DIR to a directory with 100 MB of space."
        ) from failed


def _reason(maven_log: Path) -> str:
    """The first thing that Maven calls an error."""
    lines = last_lines(maven_log, 200).splitlines()
    errors = [line.partition("[ERROR]")[2].strip() for line in lines if "[ERROR]" in line]
    return (errors or [line.strip() for line in lines] or ["it says nothing"])[0].removesuffix(" -> [Help 1]")[:300]
