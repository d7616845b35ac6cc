"""Time and the ranking: snapshots that have come due, cut-offs over everyone, those who crossed them.

Laws: a tier is decided only here, by a look at everyone at one moment; the ranking says how many
applied events it covers; only customers whose tier moved are touched.

Everyone is kept in memory between two settlings (`tiering.Roster`), and brought up to date by what
the transactions since have left in `value_moves`. That is trusted only while nobody else has begun
to settle in between; whatever goes wrong, everyone is read anew.
"""

import asyncio
import itertools
import json
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation import metrics
from segmentation.fields import CustomerId
from segmentation.policy import Policy
from segmentation.storage.assessed import assess_customers, lock_customers, lock_free_customers
from segmentation.storage.engine import transaction
from segmentation.storage.foundation import Library, activate_due, load_state
from segmentation.tiering import RANK, TIERS, Ranking, Roster, Tier

_CROSSERS_AT_ONCE = 500
"""Their new tier shows with the end of their transaction, and a batch that wants one of them waits for that."""
_PARETO_STEPS = 20
_PIECE = 1024 * 1024

_ANYONE_DUE = """
    -- By the ends of the indexes: to an OR over them the planner answers by reading everyone, since of values that it
    -- does not know it expects many, and this is asked several times in each round.
    coalesce((SELECT min(due_on) FROM snapshots) <= :as_of
             OR (SELECT min(policy_version) FROM snapshots) < :policy_version
             OR (SELECT max(policy_version) FROM snapshots) > :policy_version, false)
"""
_DUE = text("""
    -- In the order of the indexes, for the same reason.
    (SELECT customer_id FROM snapshots WHERE due_on <= :as_of ORDER BY due_on LIMIT :limit)
    UNION
    (SELECT customer_id FROM snapshots WHERE policy_version < :policy_version ORDER BY policy_version LIMIT :limit)
    UNION
    (SELECT customer_id FROM snapshots WHERE policy_version > :policy_version ORDER BY policy_version LIMIT :limit)
    LIMIT :limit
""")
_STANDS = text("SELECT customer_id FROM snapshots WHERE customer_id = ANY(CAST(:customer_ids AS text[]))")
_TO_SCORE = text("""
    -- Whom another model has looked at, and whom this one has on an earlier day. No ranking waits for them.
    -- In the order of their indexes, so that it is these that are read, however many there seem to be.
    (SELECT customer_id FROM snapshots WHERE policy_version = :policy_version AND model_version < :model_version
     ORDER BY model_version LIMIT :limit)
    UNION
    (SELECT customer_id FROM snapshots WHERE policy_version = :policy_version AND model_version > :model_version
     ORDER BY model_version LIMIT :limit)
    UNION
    (SELECT customer_id FROM snapshots WHERE churn_probability IS NOT NULL AND as_of < :as_of
     ORDER BY as_of LIMIT :limit)
    LIMIT :limit
""")
_STANDING = text(f"""
    -- All of one moment: what everyone is worth, how much of the stream that covers, what was settled last.
    SELECT (SELECT coalesce(sum(applied), 0)::bigint FROM partitions) AS covered,
           {_ANYONE_DUE} AS due,
           (SELECT row(as_of, policy_version, covered)::text FROM tier_state) AS settled,
           row(CAST(:as_of AS date), CAST(:policy_version AS integer),
               (SELECT coalesce(sum(applied), 0)::bigint FROM partitions))::text AS wanted,
           clock_timestamp() AS at
""")  # noqa: S608 - a constant of our own
_WENT_BACK = text("SELECT as_of > :as_of FROM tier_state")
_AHEAD = text("SELECT customer_id FROM snapshots WHERE as_of > :as_of LIMIT :limit")
_PARTITIONS = text("SELECT topic, number, applied FROM partitions")
_LARGEST_PACKED = 2**62
_VALUES = text("SELECT customer_id, value, computed_tier FROM snapshots ORDER BY customer_id")
_PACKED_VALUES = text(f"""
    -- Everyone in one row: ids by line, values and tiers packed, in byte order of the ids.
    SELECT string_agg(customer_id, E'\n') AS customer_ids,
           string_agg(int8send(CASE WHEN abs(value) < {_LARGEST_PACKED} THEN value::bigint ELSE 0 END), '') AS values,
           string_agg(int2send(position(left(computed_tier, 1) IN 'ABCu')::smallint), '') AS tiers,
           coalesce(bool_or(abs(value) >= {_LARGEST_PACKED}), false) AS large
    FROM (SELECT customer_id, value, computed_tier FROM snapshots ORDER BY customer_id) AS ordered
""")  # noqa: S608 - a constant of our own
_READ_WHOLE = text("SET LOCAL enable_seqscan = on")
_TAKE_MOVES = text("DELETE FROM value_moves RETURNING id, customer_ids, values")
_DROP_MOVES = text("DELETE FROM value_moves")
_MOVES_BYTES = text("SELECT coalesce(sum(octet_length(customer_ids)), 0)::bigint FROM value_moves")
_MOST_MOVES_BYTES = 32 * 1024 * 1024
"""To read everyone is less work than more than this; so much gathers while nothing is settled for long."""
_LOCK_PARTITIONS = text("SELECT FROM partitions ORDER BY topic, number FOR UPDATE")
_BEGIN = text("""
    -- A fence: raising the attempt waits for the open steps of an earlier settling and stops its later ones.
    INSERT INTO tier_state AS stored (id, attempt) VALUES (1, 1)
    ON CONFLICT (id) DO UPDATE SET attempt = stored.attempt + 1 RETURNING attempt
""")
_STILL_LATEST = text("SELECT attempt = :attempt FROM tier_state FOR SHARE")
_PUBLISH = text("""
    UPDATE tier_state SET as_of = :as_of, policy_version = :policy_version, covered = :covered,
        overview = CAST(:overview AS jsonb), settled_at = :settled_at
    WHERE attempt = :attempt RETURNING attempt
""")
_SETTLED = text("""
    -- What was applied while the ranking was at work is unsettled since that began, at the earliest.
    UPDATE partitions AS stored SET
        unsettled_since = CASE WHEN stored.applied = given.applied THEN NULL
                               ELSE CAST(:settled_at AS timestamptz) END
    FROM unnest(CAST(:topics AS text[]), CAST(:numbers AS integer[]), CAST(:applied AS bigint[]))
      AS given(topic, number, applied)
    WHERE stored.topic = given.topic AND stored.number = given.number AND stored.unsettled_since IS NOT NULL
""")


_UNSETTLE = text("UPDATE tier_state SET attempt = attempt + 1, covered = NULL")
_UNSETTLED = text("""
    UPDATE partitions SET unsettled_since = coalesce(unsettled_since, clock_timestamp())
    WHERE (topic, number) = (SELECT topic, number FROM partitions ORDER BY topic, number LIMIT 1)
""")


class _Overtaken(Exception):
    """A later settling has begun."""


async def sweep(engine: AsyncEngine, library: Library, today: date | None, *, now: datetime, limit: int) -> int:
    """Assesses customers whose snapshot has come due; before that, puts a policy in force whose day has come.

    Those come first whose tier may depend on it. With a model in force everyone with an order is due each day, and
    everyone at all when another model is put in force; since no tier depends on that, settling does not wait for it.
    """
    await activate_due(engine, today)
    async with transaction(engine) as connection:
        state = await load_state(connection)
        as_of = today or state.as_of
        if as_of is None:
            return 0
        asked = {"as_of": as_of, "policy_version": state.policy_version, "limit": limit}
        to_score = asked | {"model_version": state.model_version}
        due = (
            (await connection.scalars(_DUE, asked)).all()
            or await _ahead(connection, as_of, limit)
            or (await connection.scalars(_TO_SCORE, to_score)).all()
        )
        if due:
            held = await lock_customers(connection, due)
            if gone := set(due) - held:  # erased meanwhile, but for a snapshot that nobody is known to
                held |= set(await connection.scalars(_STANDS, {"customer_ids": list(gone)}))
            # Read again after the locks: somebody else may have moved the event clock, and these customers with it.
            state = await load_state(connection)
            as_of = today or state.as_of or as_of
            by = await library.deciders(connection, state.policy_version, state.model_version)
            await assess_customers(connection, held, as_of=as_of, by=by, now=now)
        return len(due)


async def _ahead(connection: AsyncConnection, as_of: date, limit: int) -> Sequence[CustomerId]:
    """Customers assessed for a later day than today, after the machine's clock was put back.

    No index finds them, so they are looked for only where tiers were settled for a later day.
    """
    if not await connection.scalar(_WENT_BACK, {"as_of": as_of}):
        return []
    return (await connection.scalars(_AHEAD, {"as_of": as_of, "limit": limit})).all()


class Settling:
    """Ranks everyone as of one moment and moves those who crossed a cut-off, again and again.

    Two of these can overlap when a keeper loses its place without noticing: each begins by raising the attempt, and
    every later step of the earlier one finds that and gives up.
    """

    def __init__(self, engine: AsyncEngine, library: Library) -> None:
        self._engine = engine
        self._library = library
        self._attempt = 0
        """Of the last settling here."""
        self._roster: Roster | None = None
        """Everyone, as that left them; None where it is not known to have ended well."""

    async def settle(self, today: date | None, *, now: datetime) -> bool:
        """Returns False where there was nothing to do, or somebody else has begun meanwhile."""
        async with transaction(self._engine) as connection:
            if not await _is_wanted(connection, today):
                return False
            attempt = int(await connection.scalar(_BEGIN) or 0)
        roster = self._roster if attempt == self._attempt + 1 else None
        self._attempt, self._roster = attempt, None
        async with transaction(self._engine, isolation="REPEATABLE READ") as connection:
            state = await load_state(connection)
            as_of = today or state.as_of
            asked = {"as_of": as_of, "policy_version": state.policy_version}
            moment = (await connection.execute(_STANDING, asked)).one()
            if moment.due:
                self._roster = roster
                return False
            policy = await self._library.policy(connection, state.policy_version)
            applied = (await connection.execute(_PARTITIONS)).all()
            moved: dict[CustomerId, int] = {}
            if roster is None or await connection.scalar(_MOVES_BYTES) > _MOST_MOVES_BYTES:
                await connection.execute(_DROP_MOVES)
                roster = await load_roster(connection)
            else:
                moved = await take_moves(connection)
        roster.update(moved)
        # In a thread: at a million customers this takes long enough to hold up everything else here.
        ranking = await asyncio.to_thread(roster.rank, policy.tiers)
        try:
            await _move_crossers(self._engine, self._library, today, roster, ranking, attempt=attempt, now=now)
        except _Overtaken:
            return False
        overview = json.dumps(_overview(roster, ranking, policy))
        settled = {"attempt": attempt, "covered": moment.covered, "overview": overview, "settled_at": moment.at}
        async with transaction(self._engine) as connection:
            if await connection.scalar(_PUBLISH, asked | settled) is None:
                return False
            await connection.execute(_LOCK_PARTITIONS)
            await connection.execute(
                _SETTLED,
                {
                    "topics": [row.topic for row in applied],
                    "numbers": [row.number for row in applied],
                    "applied": [row.applied for row in applied],
                    "settled_at": moment.at,
                },
            )
        self._roster = roster
        return True


async def misplaced(
    connection: AsyncConnection, library: Library, today: date | None
) -> list[tuple[CustomerId, Tier, Tier]] | None:
    """Whose computed tier is another than a ranking of everyone gives, with both; None while it is not settled.

    Args:
        connection: Of one moment: REPEATABLE READ.
        library: For the policy.
        today: By the system clock; None where the events' clock counts.
    """
    state = await load_state(connection)
    as_of = today or state.as_of
    if as_of is None:
        return []
    asked = {"as_of": as_of, "policy_version": state.policy_version}
    moment = (await connection.execute(_STANDING, asked)).one()
    if moment.due or moment.settled != moment.wanted:
        return None
    policy = await library.policy(connection, state.policy_version)
    roster = await load_roster(connection)
    ranking = await asyncio.to_thread(roster.rank, policy.tiers)
    return [(roster.customer_id(row), roster.tier(row), tier) for row, tier in roster.crossers(ranking)]


async def take_moves(connection: AsyncConnection) -> dict[CustomerId, int]:
    """What has moved since it was last taken: of each customer the latest value."""
    moved: dict[CustomerId, int] = {}
    for row in sorted((await connection.execute(_TAKE_MOVES)).all()):
        moved.update(zip(row.customer_ids.split("\n"), map(int, row.values.split("\n")), strict=True))
    return moved


async def unsettle(connection: AsyncConnection) -> None:
    """The ranking no longer covers what is counted: whoever is settling gives up, and the keeper reads everyone anew.

    Before customers are locked, as a settling does; see `mark_unsettled` for after.
    """
    await connection.execute(_UNSETTLE)


async def mark_unsettled(connection: AsyncConnection) -> None:
    """Has readers told for how long the ranking has been behind."""
    await connection.execute(_UNSETTLED)


async def load_roster(connection: AsyncConnection) -> Roster:
    """Everyone, read anew."""
    await connection.execute(_READ_WHOLE)
    packed = (await connection.execute(_PACKED_VALUES)).one()
    if packed.large:
        rows = (await connection.execute(_VALUES)).all()
        return Roster(
            [row.customer_id for row in rows],
            metrics.column([int(row.value or 0) for row in rows]),
            np.array([RANK[Tier(row.computed_tier)] for row in rows], dtype=np.int64),
        )
    values = np.frombuffer(packed.values or b"", dtype=">i8").astype(np.int64)
    ranks = np.frombuffer(packed.tiers or b"", dtype=">i2").astype(np.int8) - np.int8(1)
    return Roster(_lines(packed.customer_ids or ""), values, ranks)


def _lines(packed: str) -> npt.NDArray[np.bytes_]:
    """The ids, without ever holding a text for each of them."""
    pieces = [np.array([], dtype="S1")]
    start = 0
    while start < len(packed):
        end = packed.find("\n", start + _PIECE)
        end = len(packed) if end < 0 else end
        pieces.append(np.array(packed[start:end].split("\n"), dtype=np.bytes_))
        start = end + 1
    return np.concatenate(pieces)


async def _is_wanted(connection: AsyncConnection, today: date | None) -> bool:
    """Whether anything has happened since the last settling, and nothing is due that has to come first."""
    state = await load_state(connection)
    as_of = today or state.as_of
    if as_of is None:
        return False
    asked = {"as_of": as_of, "policy_version": state.policy_version}
    moment = (await connection.execute(_STANDING, asked)).one()
    if moment.due or moment.settled == moment.wanted:
        return False
    return not await _ahead(connection, as_of, 1)


async def _move_crossers(
    engine: AsyncEngine,
    library: Library,
    today: date | None,
    roster: Roster,
    ranking: Ranking,
    *,
    attempt: int,
    now: datetime,
) -> None:
    """Gives the customers whose tier is another their new one: first those whom nobody holds.

    A batch holds its customers until it commits, and everyone else's tier would wait for that as well.
    """
    held_by_others: dict[CustomerId, tuple[int, Tier]] = {}
    everyone = {roster.customer_id(row): (row, tier) for row, tier in roster.crossers(ranking)}
    for lock, waiting in ((lock_free_customers, everyone), (lock_customers, held_by_others)):
        names = list(waiting)
        for start in range(0, len(names), _CROSSERS_AT_ONCE):
            some = {customer_id: waiting[customer_id] for customer_id in names[start : start + _CROSSERS_AT_ONCE]}
            async with transaction(engine) as connection:
                if not await connection.scalar(_STILL_LATEST, {"attempt": attempt}):
                    raise _Overtaken
                held = await lock(connection, some)
                if lock is lock_free_customers:
                    held_by_others |= {customer_id: some.pop(customer_id) for customer_id in some.keys() - held}
                # Read after the locks: the event clock may have moved on, and days close with what then stood.
                state = await load_state(connection)
                as_of = today or state.as_of
                if some and as_of is not None:
                    by = await library.deciders(connection, state.policy_version, state.model_version)
                    computed = {customer_id: tier for customer_id, (_, tier) in some.items()}
                    await assess_customers(connection, computed, as_of=as_of, by=by, now=now, computed=computed)
            roster.move(some.values())


def _overview(roster: Roster, ranking: Ranking, policy: Policy) -> dict[str, Any]:
    """What `GET /tiers` shows; amounts as text, since JSON numbers would lose digits."""
    counts = {
        Tier.A: ranking.last_a,
        Tier.B: ranking.last_b - ranking.last_a,
        Tier.C: len(ranking.sums) - ranking.last_b,
        Tier.UNRATED: len(roster) - len(ranking.sums),
    }
    ends = {Tier.A: ranking.last_a, Tier.B: ranking.last_b, Tier.C: len(ranking.sums)}
    reached = [ranking.reached(end) for end in (0, *ends.values())]
    values = dict(zip(ends, (after - before for before, after in itertools.pairwise(reached)), strict=True))
    values[Tier.UNRATED] = roster.total - ranking.total
    cutoffs = {Tier.A: ranking.cutoffs.a, Tier.B: ranking.cutoffs.b if counts[Tier.B] else None}
    return {
        "basis": policy.tiers.basis,
        "total": str(ranking.total),
        "cutoffs": {tier: [str(last.value), last.customer_id] if last else None for tier, last in cutoffs.items()},
        "tiers": [[tier, counts[tier], str(values[tier])] for tier in TIERS],
        "pareto": _pareto(ranking),
    }


def _pareto(ranking: Ranking) -> list[tuple[float, float]]:
    """Points of the curve: the share of ranked customers, best first, and of the total they make."""
    customers = len(ranking.sums)
    if not customers:
        return []
    ends = sorted({-(-customers * step // _PARETO_STEPS) for step in range(_PARETO_STEPS + 1)})
    return [(end / customers, ranking.reached(end) / ranking.total) for end in ends]
