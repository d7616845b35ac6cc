"""Which user PostgreSQL runs as.

PostgreSQL refuses to run as root. Root therefore starts it as an unprivileged user; where that user may not enter the
directories that lead to the data or to the program, it keeps the one right to do so, and no other.

Law: an ordinary user runs it as himself, and nothing here changes the rights of a directory that is not PostgreSQL's
own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from local_stack.failures import StackFailed
from local_stack.processes import OURSELVES, Identity

# Enters both directories and runs the program, as the server will have to
_PROBE = 'cd "$0" && "$1" --version'


def account_for(directory: Path, program: Path, *, unprivileged: str, death_signal: signal.Signals) -> Identity:
    """The identity to start the program with; the directory exists and will be given to that user."""
    if os.geteuid() != 0:
        return OURSELVES
    uid, gid = _owner_or(directory, unprivileged)
    plain = Identity(uid, gid)
    if _works(plain, directory, program):
        return plain
    setpriv = shutil.which("setpriv")
    if setpriv is not None:
        capable = Identity(
            uid,
            gid,
            (
                setpriv,
                f"--reuid={uid}",
                f"--regid={gid}",
                "--clear-groups",
                "--inh-caps=+dac_override",
                "--ambient-caps=+dac_override",
                # without it access(2), by which the server looks at its own program, ignores the capability
                "--securebits=+no_setuid_fixup",
                # a change of user forgets the signal that the child was started with
                f"--pdeathsig={death_signal.name.removeprefix('SIG')}",
                "--",
            ),
        )
        if _works(capable, directory, program):
            return capable
    raise StackFailed(
        f"PostgreSQL does not run as root, and {unprivileged!r} may not enter {directory} or {program.parent}: "
        "start the stack as an ordinary user, or put the checkout and --data-dir where everybody may enter."
    )


def _owner_or(directory: Path, unprivileged: str) -> tuple[int, int]:
    """Who owns the data, else the unprivileged user."""
    owner = directory.stat()
    if owner.st_uid != 0:
        return owner.st_uid, owner.st_gid
    try:
        entry = pwd.getpwnam(unprivileged)
    except KeyError:
        raise StackFailed(
            f"PostgreSQL does not run as root, and there is no user {unprivileged!r} to run it as: "
            "start the stack as an ordinary user."
        ) from None
    return entry.pw_uid, entry.pw_gid


def _works(identity: Identity, directory: Path, program: Path) -> bool:
    try:
        probe = subprocess.run(
            [*identity.prefix, "/bin/sh", "-c", _PROBE, str(directory), str(program)],
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            user=None if identity.prefix else identity.uid,
            group=None if identity.prefix else identity.gid,
            extra_groups=None if identity.prefix else [],
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return probe.returncode == 0
