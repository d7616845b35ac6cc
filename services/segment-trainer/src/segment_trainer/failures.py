"""Why a comparison is not possible; one sentence with what is possible instead."""


class NotPossible(Exception):
    """What was asked for cannot be computed from this file."""
