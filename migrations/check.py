"""Holds the migrations and `segmentation.storage.tables` together, on a PostgreSQL of its own: `make check` runs it."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from local_stack.postgres import EmbeddedPostgres

_CONFIGURATION = Path(__file__).with_name("alembic.ini")


def main() -> int:
    """Migrates an empty database and asks Alembic what it would still change; 0 where that is nothing."""
    with tempfile.TemporaryDirectory(prefix="tierline-") as directory:
        postgres = EmbeddedPostgres(Path(directory) / "postgres", fsync=False)
        postgres.start()
        try:
            environment = os.environ | {"DATABASE_URL": postgres.url}
            for command in (["upgrade", "head"], ["check"]):
                arguments = [sys.executable, "-m", "alembic", "-c", str(_CONFIGURATION), *command]
                outcome = subprocess.run(arguments, env=environment, check=False)  # noqa: S603 - our own command
                if outcome.returncode:
                    return outcome.returncode
        finally:
            postgres.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
