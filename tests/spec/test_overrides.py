"""An override counts until its expiry, over every rule

A person may give a customer a tier, a service level, or both, with a reason and a day of expiry.
From then on the effective tier is the one given, whatever is computed, until the business day of the expiry begins.
The computed tier goes on underneath, and closes days as always: when the override ends, the effective tier is what it
would have been without it.
A service level given by hand counts in place of the policy's; where the policy no longer has that level, the policy's
counts.
"""

from datetime import UTC, date, datetime
from importlib import resources

from tests.spec.tables import agrees, rows

from segmentation import policy as policies
from segmentation.assessment import Snapshot, assess
from segmentation.buckets import DayBucket
from segmentation.fields import CustomerId
from segmentation.metrics import BucketTable, roll
from segmentation.overrides import Ending, Override, OverrideRefusal, WantedOverride, judge_override
from segmentation.tiering import Tier

NOW = datetime(2035, 1, 1, tzinfo=UTC)
C_1 = CustomerId("C-1")
FIRST_ORDER = date(2026, 2, 1)
DEFAULT = resources.files("segmentation").joinpath("policies/default.toml").read_text()


def overridden(table: str, *, grace: int) -> None:
    """Columns: as_of, what is computed and done then, and what must come out of it."""
    policy = policies.parse(DEFAULT.replace("demotion_grace_days = 14", f"demotion_grace_days = {grace}"), version=1)
    figures = BucketTable.of({C_1: [(FIRST_ORDER, DayBucket(orders=1, gross_revenue=100))]})
    stands: dict[CustomerId, Snapshot] = {}
    for row in rows(table):
        as_of = date.fromisoformat(row["as_of"])
        computed = {C_1: Tier(row["computed"])} if row["computed"] else None
        (snapshot,) = assess(
            roll(figures, as_of), stands, policy, now=NOW, computed=computed, by_hand=_by_hand(row["by_hand"])
        )
        stands = {C_1: snapshot}
        _, falls_on = (None, None) if snapshot.overridden else snapshot.history.effective(as_of, grace)
        said = {
            "effective": snapshot.tier,
            "service_level": snapshot.service_level,
            "falls_on": falls_on,
            "reasons": ", ".join(reason.text("en") for reason in snapshot.service_reasons),
        }
        for name in set(row) & set(said):
            assert agrees(row[name] or "none", said[name]), f"{name} is {said[name]} as of {as_of}, not {row[name]}"
        if snapshot.overridden:
            assert snapshot.due_on <= snapshot.overridden.expires_on, "the sweep ends it by itself"


def _by_hand(cell: str) -> dict[CustomerId, Override | Ending] | None:
    if not cell:
        return None
    if cell == "ended":
        return {C_1: Ending(author=None, reason=None)}
    given, _, expires_on = cell.partition(" until ")
    tier, level = (None, given) if given in policies.parse(DEFAULT, version=1).service_levels else (Tier(given), None)
    return {
        C_1: Override(
            tier=tier,
            service_level=level,
            reason="contract",
            author="li.wei",
            expires_on=date.fromisoformat(expires_on),
            set_at=NOW,
        )
    }


def judged(table: str) -> None:
    """Columns: what is asked for as of 2026-03-01, and the field that is wrong; `none` where it is set."""
    policy = policies.parse(DEFAULT, version=1)
    for row in rows(table):
        wanted = WantedOverride(
            Tier(row["tier"]) if row["tier"] else None,
            row["service_level"] or None,
            "contract",
            "li.wei",
            date.fromisoformat(row["expires_on"]),
        )
        found = judge_override(wanted, policy, as_of=date(2026, 3, 1), now=NOW)
        wrong = found.field if isinstance(found, OverrideRefusal) else None
        assert agrees(row["wrong"], wrong), f"{wrong} is wrong with {row}"


def test_an_override_counts_at_once_and_until_its_expiry():
    """On the day of the expiry it no longer counts; nobody has to end it."""
    overridden(
        """
        as_of      | computed | by_hand            | effective | service_level
        2026-03-01 | C        |                    | C         | standard
        2026-03-02 |          | A until 2026-03-10 | A         | vip
        2026-03-09 |          |                    | A         | vip
        2026-03-10 |          |                    | C         | standard
        """,
        grace=14,
    )


def test_an_override_may_lower_a_tier():
    """Promotion at once and demotion after a grace are rules for the computed tier; a person is bound by neither."""
    overridden(
        """
        as_of      | computed | by_hand            | effective | service_level
        2026-03-01 | A        |                    | A         | vip
        2026-03-02 |          | C until 2026-03-04 | C         | standard
        2026-03-04 |          |                    | A         | vip
        """,
        grace=14,
    )


def test_the_grace_runs_on_under_an_override():
    """The last day that closed with A is 4 March, whatever was overridden: A holds until the 18th, and not longer."""
    overridden(
        """
        as_of      | computed | by_hand            | effective | falls_on
        2026-03-01 | A        |                    | A         |
        2026-03-03 |          | B until 2026-03-10 | B         |
        2026-03-05 | C        |                    | B         |
        2026-03-10 |          |                    | A         | 2026-03-19
        2026-03-18 |          |                    | A         | 2026-03-19
        2026-03-19 |          |                    | C         |
        """,
        grace=14,
    )


def test_days_under_an_override_close_with_the_computed_tier():
    """An override leaves nothing behind: no day closed with the A that was given by hand."""
    overridden(
        """
        as_of      | computed | by_hand            | effective | falls_on
        2026-03-01 | C        | A until 2026-03-05 | A         |
        2026-03-05 |          |                    | C         |
        """,
        grace=14,
    )


def test_an_override_is_ended_or_replaced_by_hand():
    """Ended, the rules decide again at once; replaced, the later one counts alone."""
    overridden(
        """
        as_of      | computed | by_hand            | effective
        2026-03-01 | C        | A until 2026-12-31 | A
        2026-03-02 |          | B until 2026-03-20 | B
        2026-03-03 |          | ended              | C
        2026-03-04 |          |                    | C
        """,
        grace=14,
    )


def test_a_service_level_given_by_hand():
    """The tier stays the rules' own; the reason says that a person decided, and until when."""
    overridden(
        """
        as_of      | computed | by_hand              | effective | service_level | reasons
        2026-03-01 | C        | vip until 2026-03-05 | C         | vip           | override vip (as_of < 2026-03-05)
        2026-03-04 | B        |                      | B         | vip           | override vip (as_of < 2026-03-05)
        2026-03-05 |          |                      | B         | stable        | tier B
        """,
        grace=14,
    )


def test_what_may_be_given():
    """A tier or a service level of the policy in force, and a day of expiry that is still to come."""
    judged(
        """
        tier    | service_level | expires_on | wrong
        A       |               | 2026-03-02 | none
        unrated |               | 2030-01-01 | none
                | vip           | 2026-03-02 | none
        B       | vip           | 2026-03-02 | none
                |               | 2026-03-02 | tier
                | gold          | 2026-03-02 | service_level
        A       |               | 2026-03-01 | expires_on
        A       |               | 2026-02-28 | expires_on
        """
    )
