"""Why the local stack cannot go on, in words for the person who started it.

Law: the message of each is whole sentences that name the cause and the remedy; it is shown as it is, without a
traceback.

    StackFailed           the stack stops with exit code 1
    ├── KafkaUnavailable  Java, Maven or the jars cannot be had: the in-process broker may take Kafka's place
    ├── ChildDied         a process that the stack needs ended by itself
    └── DiskFull          whichever process has met it
    Interrupted           Ctrl-C or SIGTERM came; everything stops, and that is no failure
"""

from __future__ import annotations


class StackFailed(Exception):
    """The local stack cannot start or go on."""


class KafkaUnavailable(StackFailed):
    """A real Kafka cannot be had on this machine."""


class ChildDied(StackFailed):
    """A process that the stack needs has ended."""


class DiskFull(StackFailed):
    """There is no space left for the data."""


class Interrupted(Exception):
    """The user asked the stack to stop."""
