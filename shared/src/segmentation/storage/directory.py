"""Customers found by what they are, and counted, over what is stored of them.

Laws: everything here is of one moment of the database; a stored snapshot is compared with a filter, or counted, only
while it stands, and whatever has come due is assessed anew first. Rows that have come due are candidates of every page,
whatever is asked for: the filter is held against them once they have been assessed.

Nothing here has an index of its own: filters go along the primary key until a page is full, and where they hold for
hardly anybody the planner reads the whole table instead (docs/decisions/0022).
"""

import asyncio
import contextlib
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Hashable,
    Iterable,
    Mapping,
    Sequence,
)
from datetime import date, datetime
from typing import Any, Final, TypeVar

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation.answers import Answer, Answers
from segmentation.assessment import Snapshot
from segmentation.fields import CustomerId
from segmentation.ledger import House
from segmentation.listing import (
    UNKNOWN,
    Breakdown,
    Criteria,
    CustomerPage,
    Filter,
    RegionCount,
    RegionOverview,
    SegmentCount,
    SegmentOverview,
    SegmentPart,
    SegmentParts,
    names_of_segments,
)
from segmentation.storage.assessed import load_snapshots, snapshots_of
from segmentation.storage.engine import transaction
from segmentation.storage.reader import PostgresReader
from segmentation.tiering import TIERS

_T = TypeVar("_T")

_CHUNK: Final = 1_000
"""Of an export; also the fewest rows that a page looks at, so that a page of one does not take a hundred looks."""
_MOST_LOOKED_AT: Final = 10_000
"""Rows that one page reads before it is given as it is: after midnight all of them may have to be assessed."""
_MOST_OVERDUE: Final = 2_000
"""Customers whom a count assesses anew; with more of them it says how many are counted as they stood."""

_REASONS_TO_BE_DUE: Final = (
    ("snapshots.due_on <= :as_of", "snapshots.due_on"),
    ("snapshots.policy_version < :policy_version", "snapshots.policy_version"),
    ("snapshots.policy_version > :policy_version", "snapshots.policy_version"),
    (
        "snapshots.policy_version = :policy_version AND snapshots.model_version < :model_version",
        "snapshots.model_version",
    ),
    (
        "snapshots.policy_version = :policy_version AND snapshots.model_version > :model_version",
        "snapshots.model_version",
    ),
    ("snapshots.churn_probability IS NOT NULL AND snapshots.as_of < :as_of", "snapshots.as_of"),
    (":went_back AND snapshots.as_of > :as_of", ""),
)
"""What the sweep will take, each with the order of the index that finds it; a moved clock, which is rare, has none."""
_DUE = f"({' OR '.join(f'({reason})' for reason, _ in _REASONS_TO_BE_DUE)})"
_OVERDUE = f"({_DUE} OR snapshots.order_traits IS NULL)"
"""As the reader sees it: what stands in the row is not what it would answer."""
_WENT_BACK = text("SELECT as_of > :as_of FROM tier_state")
_COLUMNS: Final[Mapping[Filter, str]] = {
    Filter.SEGMENT: "coalesce(snapshots.behaviour, snapshots.segment)",
    Filter.INDUSTRY: f"coalesce(snapshots.industry, '{UNKNOWN}')",
    Filter.SUBJECT_TYPE: f"coalesce(snapshots.subject_type, '{UNKNOWN}')",
}
_NEXT = """
    -- Candidates: those for whom it holds, and those of whom only an assessment can say.
    SELECT snapshots.*, to_jsonb(overrides) - 'customer_id' AS override
    FROM (SELECT * FROM snapshots WHERE snapshots.customer_id > :after AND ({holds} OR {overdue})
          ORDER BY snapshots.customer_id LIMIT :limit) AS snapshots
    LEFT JOIN overrides ON overrides.customer_id = snapshots.customer_id
    ORDER BY snapshots.customer_id
"""
_PLANNED_FOR_THE_VALUES = text("""
    -- Which plan is good depends on whether a filter holds for many: one made for no value in particular is not.
    SET LOCAL plan_cache_mode = force_custom_plan
""")
# By the ends of the indexes, as the sweep does it: an OR over them is answered by reading everyone for as long as the
# statistics are of before everyone was swept, which is what midnight brings.
_DUE_BY_REASON = (
    f"(SELECT customer_id FROM snapshots WHERE {reason}{index and f' ORDER BY {index}'} LIMIT :limit)"  # noqa: S608
    for reason, index in _REASONS_TO_BE_DUE
)
_DUE_ONES = text(f"{' UNION '.join(_DUE_BY_REASON)} LIMIT :limit")
_ALL_DUE = text(f"SELECT count(*) FROM snapshots WHERE {_DUE}")  # noqa: S608 - constants of our own
_EVERYONE = f"""
    -- Stored snapshots that stand, and what was assessed in place of the others.
    WITH everyone AS (
        SELECT coalesce(behaviour, segment) AS segment, industry, region, tier, value FROM snapshots
        WHERE :all OR NOT {_DUE}
        UNION ALL
        SELECT * FROM unnest(CAST(:segments AS text[]), CAST(:industries AS text[]), CAST(:regions AS text[]),
                             CAST(:tiers AS text[]), CAST(:values AS numeric[]))
    )
"""  # noqa: S608 - constants of our own
_BY_SEGMENT = text(f"{_EVERYONE} SELECT segment, count(*) AS customers FROM everyone GROUP BY segment")  # noqa: S608
_BY_PART = {
    by: text(f"""
        {_EVERYONE}, parts AS (
            SELECT segment, {by} COLLATE "C" AS part, count(*) AS customers,
                   row_number() OVER (PARTITION BY segment ORDER BY count(*) DESC, {by} COLLATE "C") <= :parts AS shown
            FROM everyone GROUP BY segment, {by} COLLATE "C"
        )
        SELECT segment, shown, CASE WHEN shown THEN part END AS part, count(*) AS parts,
               sum(customers)::bigint AS customers
        FROM parts GROUP BY 1, 2, 3 ORDER BY segment, shown DESC, sum(customers) DESC, 3
    """)  # noqa: S608 - constants of our own
    for by in Breakdown
}
_BY_REGION = text(f"""
    {_EVERYONE}
    SELECT * FROM (
        SELECT *, sum(customers) OVER ()::bigint AS everyone, sum(value) OVER () AS total FROM (
            SELECT region COLLATE "C" AS region, count(*) AS customers,
                   {", ".join(f"count(*) FILTER (WHERE tier = '{tier}') AS tier_{tier}" for tier in TIERS)},
                   coalesce(sum(value) FILTER (WHERE value > 0), 0) AS value
            FROM everyone GROUP BY region COLLATE "C"
        ) AS regions
    ) AS regions
    WHERE CAST(:after AS text) IS NULL OR region > :after OR region IS NULL
    ORDER BY region NULLS LAST LIMIT :limit
""")  # noqa: S608 - constants of our own


class PostgresDirectory:
    """`segmentation.listing.Directory` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine, house: House) -> None:
        self._engine = engine
        self._reader = PostgresReader(engine, house)
        self._shared = _Shared()

    async def page(self, criteria: Criteria, *, after: CustomerId | None, limit: int, now: datetime) -> CustomerPage:
        async with self._reading() as connection:
            return await _Search(self._reader, connection, criteria, now).page(after, limit)

    async def everyone(self, criteria: Criteria, *, now: datetime) -> AsyncGenerator[CustomerPage, None]:
        async with self._reading() as connection:
            search = _Search(self._reader, connection, criteria, now)
            after: CustomerId | None = None
            while True:
                page = await search.page(after, _CHUNK)
                yield page
                after = page.next_after
                if after is None:
                    return

    async def segments(self, by: Collection[Breakdown], *, parts: int, now: datetime) -> SegmentOverview:
        wanted = tuple(each for each in Breakdown if each in by)

        async def count() -> SegmentOverview:
            async with self._reading() as connection:
                answers, everyone, overdue = await self._standing(connection, now)
                broken_down = {
                    each: _parts(await connection.execute(_BY_PART[each], everyone | {"parts": parts}))
                    for each in wanted
                }
                if wanted:  # one look at everyone less
                    counts = {code: each.customers for code, each in broken_down[wanted[0]].items()}
                else:
                    counts = {row.segment: row.customers for row in await connection.execute(_BY_SEGMENT, everyone)}
            nobody = SegmentParts([], 0, 0)
            return SegmentOverview(
                answers.as_of,
                sum(counts.values()),
                overdue,
                [
                    SegmentCount(
                        code, counts.get(code, 0), {each: broken_down[each].get(code, nobody) for each in wanted}
                    )
                    # Of an older policy or model there may be others, while too many are overdue.
                    for code in dict.fromkeys([*names_of_segments(answers.policy, answers.model), *sorted(counts)])
                ],
                answers.policy,
                answers.model,
            )

        return await self._shared.once(("segments", wanted, parts), count)

    async def regions(self, *, after: str | None, limit: int, now: datetime) -> RegionOverview:
        async def count() -> RegionOverview:
            async with self._reading() as connection:
                answers, everyone, overdue = await self._standing(connection, now)
                asked = everyone | {"after": after, "limit": limit + 1}
                rows = (await connection.execute(_BY_REGION, asked)).all()
            regions = [
                RegionCount(
                    row.region,
                    row.customers,
                    {tier: getattr(row, f"tier_{tier.lower()}") for tier in TIERS},
                    int(row.value),
                )
                for row in rows
            ]
            return RegionOverview(
                answers.as_of,
                answers.policy.tiers.basis,
                rows[0].everyone if rows else 0,
                overdue,
                int(rows[0].total) if rows else 0,
                regions[:limit],
                more=len(regions) > limit,
            )

        return await self._shared.once(("regions", after, limit), count)

    async def _standing(self, connection: AsyncConnection, now: datetime) -> tuple[Answers, dict[str, Any], int]:
        """The day and who decides, the parameters of everyone, and how many of them are counted as they once stood."""
        moment = await self._reader.moment(connection)
        answers = await self._reader.answers_of(connection, moment, {}, now=now)
        asked: dict[str, Any] = {"as_of": answers.as_of or date.max, **_versions(moment)}
        asked["went_back"] = bool(await connection.scalar(_WENT_BACK, {"as_of": asked["as_of"]}))
        some = list(await connection.scalars(_DUE_ONES, asked | {"limit": _MOST_OVERDUE + 1}))
        overdue, known = 0, dict[CustomerId, Answer]()
        if len(some) > _MOST_OVERDUE:
            overdue = int(await connection.scalar(_ALL_DUE, asked))
        elif some:
            snapshots = await load_snapshots(connection, some)
            known = dict((await self._reader.answers_of(connection, moment, snapshots, now=now)).known)
        again = [answer.snapshot for answer in known.values()]
        everyone = asked | {
            "all": overdue > 0,
            "segments": [each.shown_segment for each in again],
            "industries": [each.facets.industry for each in again],
            "regions": [each.facets.region for each in again],
            "tiers": [str(each.tier) for each in again],
            "values": [each.value for each in again],
        }
        return answers, everyone, overdue

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        async with transaction(self._engine, isolation="REPEATABLE READ") as connection:
            await connection.execute(_PLANNED_FOR_THE_VALUES)
            yield connection


class _Search:
    """Looks for customers, within one moment of the database."""

    def __init__(self, reader: PostgresReader, connection: AsyncConnection, criteria: Criteria, now: datetime) -> None:
        self._reader = reader
        self._connection = connection
        self._criteria = criteria
        self._now = now
        self._next, self._wanted = _next_statement(criteria)
        self._moment: Any = None
        self._as_of: date | None = None

    async def page(self, after: CustomerId | None, limit: int) -> CustomerPage:
        if self._moment is None:
            await self._begin()
        as_of = self._as_of
        if as_of is None:
            return CustomerPage(None, [], None)
        found: list[Answer] = []
        place, looked_at = after or CustomerId(""), 0
        while len(found) <= limit and looked_at < max(_MOST_LOOKED_AT, limit + 1):
            # One more than wanted: whether there is another page.
            rows = max(limit + 1 - len(found), _CHUNK if looked_at else 0)
            asked = self._wanted | {"after": place, "limit": rows}
            candidates = snapshots_of(await self._connection.execute(self._next, asked))
            looked_at += len(candidates)
            found += [each for each in await self._answers(candidates) if self._criteria.hold(each.snapshot)]
            if len(candidates) < rows:
                return self._cut(as_of, found, limit, None)
            place = next(reversed(candidates))
        return self._cut(as_of, found, limit, place)

    async def _begin(self) -> None:
        self._moment = await self._reader.moment(self._connection)
        nobody = await self._reader.answers_of(self._connection, self._moment, {}, now=self._now)
        self._criteria.check(nobody.policy, nobody.model)
        self._as_of = nobody.as_of
        self._wanted |= {"as_of": nobody.as_of, "went_back": True, **_versions(self._moment)}

    async def _answers(self, snapshots: dict[CustomerId, Snapshot]) -> Iterable[Answer]:
        answers = await self._reader.answers_of(self._connection, self._moment, snapshots, now=self._now)
        return answers.known.values()

    @staticmethod
    def _cut(as_of: date, found: Sequence[Answer], limit: int, place: CustomerId | None) -> CustomerPage:
        if len(found) > limit:
            return CustomerPage(as_of, found[:limit], found[limit - 1].snapshot.customer_id)
        return CustomerPage(as_of, found, place)


def _versions(moment: Any) -> dict[str, int]:  # noqa: ANN401 - a row of the reader's moment
    return {"policy_version": moment.policy_version, "model_version": moment.model_version}


def _next_statement(criteria: Criteria) -> tuple[TextClause, dict[str, Any]]:
    conditions: list[str] = []
    wanted: dict[str, Any] = {}
    for name, values in criteria.wanted.items():
        wanted[name.value] = sorted(values)
        if name is Filter.NEED:
            conditions.append("snapshots.needs ?| CAST(:need AS text[])")
        else:
            column = _COLUMNS.get(name, f"snapshots.{name}")
            conditions.append(f"{column} = ANY(CAST(:{name} AS text[]))")
    conditions += [f"snapshots.{'needs' if name is Filter.NEED else name} IS NULL" for name in sorted(criteria.without)]
    holds = " AND ".join(conditions) or "true"
    return text(_NEXT.format(holds=f"({holds})", overdue=_OVERDUE)), wanted


def _parts(rows: Any) -> dict[str, SegmentParts]:  # noqa: ANN401 - rows of _BY_PART
    found: dict[str, SegmentParts] = {}
    for row in rows:
        so_far = found.get(row.segment, SegmentParts([], 0, 0))
        if row.shown:
            found[row.segment] = SegmentParts([*so_far.parts, SegmentPart(row.part, row.customers)], 0, 0)
        else:
            found[row.segment] = SegmentParts(so_far.parts, row.parts, row.customers)
    return found


class _Shared:
    """Counts everyone for many who ask at once: one by one, and whoever waited takes a count begun since it asked."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._last: tuple[Hashable, float, Any] = (None, 0.0, None)

    async def once(self, question: Hashable, count: Callable[[], Awaitable[_T]]) -> _T:
        asked_at = time.monotonic()
        async with self._lock:
            last, begun_at, answer = self._last
            if last == question and begun_at >= asked_at:
                known: _T = answer
                return known
            begun_at = time.monotonic()
            fresh = await count()
            self._last = question, begun_at, fresh
            return fresh
