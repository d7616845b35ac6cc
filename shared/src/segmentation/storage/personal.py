"""What is personal, table by table and column by column, and why it is kept: erasure and export are made from this.

Laws: every column of every table has a word here (a test walks the tables); what is exported of a customer is what an
erasure takes, found by the same condition; a table that nobody is in says so column by column as well, so that a
column which is added later has to be thought about.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


class Kind(enum.StrEnum):
    """What a column can tell about a person."""

    IDENTITY = "identity"
    """Whose it is."""
    CONTENT = "content"
    """What the customer is, did or said, as it was sent."""
    DERIVED = "derived"
    """What was made of that."""
    STAFF = "staff"
    """Who works here, and what they wrote."""
    BOOKKEEPING = "bookkeeping"
    """Of ours, about a row; nothing without the rest of it."""
    NOBODY = "nobody"
    """It says nothing of any one person."""


class Fate(enum.StrEnum):
    """What becomes of the rows of a customer who is erased."""

    DELETED = "deleted"
    EMPTIED = "emptied"
    """The row stays as a count, and nothing in it says any more what it was about."""
    KEPT = "kept"
    """There are none."""


_BY_ID: Final = "customer_id = :customer_id"


@dataclass(frozen=True, slots=True)
class Holding:
    """What one table holds."""

    purpose: str
    fate: Fate
    columns: Mapping[Kind, str]
    """Names, separated by blanks."""
    where: str = _BY_ID
    """Which rows are a customer's; `:named` and `:headed` find its id where messages and their headers name it."""
    select: str | None = None
    """Where not whole rows are the customer's: the query of what is."""
    erase: str | None = None
    """Where rows are not deleted: the statement."""

    @property
    def words(self) -> dict[str, Kind]:
        """Column by column."""
        return {name: kind for kind, names in self.columns.items() for name in names.split()}


def _nobody(purpose: str, names: str, *, staff: str = "") -> Holding:
    return Holding(purpose, Fate.KEPT, {Kind.NOBODY: names, Kind.STAFF: staff})


_ORDER: Final = {
    Kind.IDENTITY: "customer_id order_id event_id promise_event_id arrival_event_id",
    Kind.CONTENT: "occurred_at business_day amount profit items parcels weight_grams promised_at delivered_at services "
    "region channel promise_occurred_at promise_instant arrival_occurred_at arrival_instant",
}
_NAMED_BY_A_WEBHOOK: Final = "wanted->'customer_ids' ? CAST(:customer_id AS text)"
_UNNAME: Final = """
    -- Not out of the list alone: an empty one would want everybody.
    UPDATE webhooks SET wanted = jsonb_set(wanted, '{customer_ids}',
        (wanted->'customer_ids') - CAST(:customer_id AS text) || '["#erased"]')
"""
_IN_LINES: Final = "position(E'\\n' || CAST(:customer_id AS text) || E'\\n' IN E'\\n' || customer_ids || E'\\n') > 0"
_EMPTY_TRAIL: Final = "UPDATE audit SET customer_id = NULL, reason = NULL, request_id = NULL, detail = '{}'"
_EMPTY_LETTER: Final = """
    UPDATE dead_letters SET customer_id = NULL, event_id = NULL, field = NULL, value = NULL, headers = NULL,
        erased_at = now(),
        sentence = 'The customer was erased, and with it all that the message said; there is nothing to mend.'
"""

PERSONAL: Final[Mapping[str, Holding]] = {
    "events": Holding(
        "What was received, as received: repeats are recognised by it, and everything can be counted again.",
        Fate.DELETED,
        {
            Kind.IDENTITY: "event_key event_id customer_id order_id",
            Kind.CONTENT: "type occurred_at business_day currency given_amount amount profit score value headers",
            Kind.BOOKKEEPING: "topic partition offset recorded_at",
        },
    ),
    "orders": Holding("Orders, each by its counting version.", Fate.DELETED, _ORDER),
    "retractions": Holding(
        "Which returns, complaints and feedback were taken back.",
        Fate.DELETED,
        {Kind.IDENTITY: "customer_id event_key"},
    ),
    "day_buckets": Holding(
        "What counted on each business day: rolling figures are made of it.",
        Fate.DELETED,
        {
            Kind.IDENTITY: "customer_id",
            Kind.DERIVED: "day orders gross_revenue gross_profit orders_with_cost items parcels weight_grams "
            "orders_on_time orders_with_promise returns returned_amount complaints feedbacks feedback_total",
        },
    ),
    "snapshots": Holding(
        "Where the customer stands: tier, segment, service level and their reasons.",
        Fate.DELETED,
        {
            Kind.IDENTITY: "customer_id",
            Kind.CONTENT: "industry subject_type region channel needs order_traits",
            Kind.DERIVED: "value computed_tier computed_since closed_a closed_b closed_c tier tier_since lifecycle "
            "segment segment_since segment_reasons service_level service_reasons value_level size frequency grade "
            "known additions churn_probability behaviour confidence expected_value churn_warning",
            Kind.BOOKKEEPING: "as_of due_on policy_version model_version updated_at",
        },
    ),
    "overrides": Holding(
        "What a person decided over the rules, until its expiry.",
        Fate.DELETED,
        {
            Kind.IDENTITY: "customer_id",
            Kind.DERIVED: "tier service_level",
            Kind.STAFF: "reason author",
            Kind.BOOKKEEPING: "expires_on set_at",
        },
    ),
    "history": Holding(
        "Where the customer stood, from when on and why; answers about earlier days come from it.",
        Fate.DELETED,
        {
            Kind.IDENTITY: "customer_id",
            Kind.DERIVED: "kind snapshot",
            Kind.STAFF: "author reason",
            Kind.BOOKKEEPING: "sequence as_of recorded_at",
        },
    ),
    "dead_letters": Holding(
        "Messages that were refused, until they are mended and replayed.",
        Fate.EMPTIED,
        {
            Kind.IDENTITY: "customer_id event_id",
            Kind.CONTENT: "field sentence value headers",
            Kind.BOOKKEEPING: "id topic partition offset reason recorded_at replayed_as replayed_at position erased_at",
        },
        # Of a message that could not be read nobody knows the customer: one that names it where messages name their
        # customer is taken for the customer's. An id may be any word, so no other place tells.
        where=f"({_BY_ID} OR (customer_id IS NULL AND (encode(value, 'escape') ~ CAST(:named AS text) "
        "OR headers ~ CAST(:headed AS text))))",
        erase=_EMPTY_LETTER,
    ),
    "audit": Holding(
        "Who changed what by hand, when and why: that somebody did outlives the customer, about whom does not.",
        Fate.EMPTIED,
        {
            Kind.IDENTITY: "customer_id",
            Kind.DERIVED: "detail",
            Kind.STAFF: "actor_kind actor_id actor_name author reason request_id",
            Kind.BOOKKEEPING: "id at action subject",
        },
        erase=_EMPTY_TRAIL,
    ),
    "webhooks": Holding(
        "Who is posted changes; some want those of named customers only.",
        Fate.EMPTIED,
        {
            Kind.IDENTITY: "wanted",
            Kind.STAFF: "url secret description",
            Kind.BOOKKEEPING: "id position pending created_at failures failing_since next_try_at problem disabled_at "
            "disabled_because tests tested",
        },
        where=_NAMED_BY_A_WEBHOOK,
        select=f"SELECT id, description, created_at FROM webhooks WHERE {_NAMED_BY_A_WEBHOOK}",  # noqa: S608 - a constant of our own
        erase=_UNNAME,
    ),
    "touched": Holding(
        "Whose answer changed in the last minute, for those who keep answers. The erasure itself lets them forget all.",
        Fate.DELETED,
        {Kind.IDENTITY: "customer_ids", Kind.BOOKKEEPING: "id transaction_id"},
        where=_IN_LINES,
        select=f"SELECT id FROM touched WHERE {_IN_LINES}",  # noqa: S608 - a constant of our own
    ),
    "value_moves": Holding(
        "What the customer is ranked by, on its way to the ranking.",
        Fate.DELETED,
        {Kind.IDENTITY: "customer_ids", Kind.DERIVED: "values", Kind.BOOKKEEPING: "id"},
        where=_IN_LINES,
        select="""
            SELECT id, given.value FROM value_moves
            CROSS JOIN LATERAL unnest(string_to_array(customer_ids, E'\\n'), string_to_array("values", E'\\n'))
              AS given(customer_id, value)
            WHERE given.customer_id = :customer_id ORDER BY id
        """,
        # Whole rows, with whoever else is in them: an erasure has everyone read anew, and nothing is taken in before.
    ),
    "tier_state": Holding(
        "The ranking as last settled; the last customer of a tier is named as its cut-off.",
        Fate.EMPTIED,
        {Kind.IDENTITY: "overview", Kind.NOBODY: "id attempt as_of policy_version covered settled_at"},
        where="EXISTS (SELECT FROM jsonb_each(overview -> 'cutoffs') AS last WHERE last.value ->> 1 = :customer_id)",
        select="""
            SELECT last.key AS cutoff_of, last.value ->> 0 AS value
            FROM tier_state CROSS JOIN LATERAL jsonb_each(overview -> 'cutoffs') AS last
            WHERE last.value ->> 1 = :customer_id ORDER BY last.key
        """,
        # The cut-off stays and names nobody, until the ranking is settled without the customer.
        erase="""
            UPDATE tier_state SET overview = jsonb_set(overview, '{cutoffs}', (
                SELECT jsonb_object_agg(
                    last.key, CASE WHEN last.value ->> 1 = :customer_id THEN NULL ELSE last.value END)
                FROM jsonb_each(overview -> 'cutoffs') AS last))
        """,
    ),
    "dropped_orders": Holding("Orders, by raw events that were dropped for their age.", Fate.DELETED, _ORDER),
    "dropped_occurrences": Holding(
        "Returns, complaints and feedback whose raw events were dropped for their age.",
        Fate.DELETED,
        {Kind.IDENTITY: "customer_id event_key", Kind.CONTENT: "type business_day amount score"},
    ),
    "dropped_retractions": Holding(
        "What was taken back by raw events that were dropped for their age.",
        Fate.DELETED,
        {Kind.IDENTITY: "customer_id event_key"},
    ),
    "dropped_customers": Holding(
        "The profile, by raw events that were dropped for their age.",
        Fate.DELETED,
        {Kind.IDENTITY: "customer_id", Kind.CONTENT: "profile"},
    ),
    "suppressed_customers": Holding(
        "Not used any more.", Fate.DELETED, {Kind.IDENTITY: "customer_id", Kind.BOOKKEEPING: "erased_at"}
    ),
    "changes": Holding(
        "What others were told or are to be told, for whoever follows the changes.",
        Fate.DELETED,
        {
            Kind.IDENTITY: "customer_id",
            Kind.DERIVED: "payload",
            Kind.BOOKKEEPING: "sequence recorded_at position",
        },
        # The announcement of an erasure names the customer too, for as long as others have to hear it.
        where=f"""({_BY_ID} AND payload <> '{{"erased": true}}'::jsonb)""",
    ),
    "customers": Holding(
        "Who is known, and the profile that customer events gave.",
        Fate.DELETED,
        {Kind.IDENTITY: "customer_id", Kind.CONTENT: "profile description", Kind.BOOKKEEPING: "recorded_at"},
    ),
    # --- nobody is in these -----------------------------------------------------------------------------------------
    "erasures": _nobody(
        "Who was erased, by a keyed hash: later events are recognised by it, and nothing else is left to recognise.",
        "digest erased_at",
        staff="author reason",
    ),
    "dropped_totals": _nobody(
        "Sums of a business day, type and currency, to set against the books; of dropped and of erased events.",
        "business_day type currency events amount",
    ),
    "house": _nobody(
        "What the data is built with.",
        "id clock base_currency time_zone as_of policy_version model_version rates_version events_known_since "
        "erasure_key erasure_key_check erasures customers_erased",
    ),
    "partitions": _nobody(
        "How far each partition was read, and exact counts.",
        "topic number epoch owner next_offset end_offset applied duplicate rejected suppressed new_customers "
        "last_applied_at unsettled_since recent_messages recent_rejects reject_run halted_at halted_offset "
        "halted_because halted_reasons",
    ),
    "api_keys": _nobody(
        "What programs and people prove themselves by.",
        "id digest scopes requests_per_second replaces created_at expires_at revoked_at last_used_at",
        staff="name",
    ),
    "workers": _nobody("Which workers live, and what they wait for.", "owner started_at seen_at waiting_for"),
    "exchange_rates": _nobody("Dated rates.", "currency day scaled_rate"),
    "models": _nobody(
        "What forecasts, by version: numbers fitted to many customers.",
        "version document card refusals created_at",
        staff="author note forced_because",
    ),
    "model_activations": _nobody(
        "Which model was put in force, by whom and why.",
        "id version kind activated_at replaced_version",
        staff="author reason",
    ),
    "policies": _nobody("What decides, by version.", "version source created_at origin", staff="author note"),
    "policy_activations": _nobody(
        "Which version was put in force, by whom and why.",
        "id version on_day requested_at activated_at cancelled_at replaced_version",
        staff="author reason",
    ),
    "feeds": _nobody("How far changes and dead letters are on their topics.", "name placed relayed dropped"),
    "webhook_attempts": _nobody(
        "What became of each message to a webhook.",
        "id webhook_id message_id changes status problem milliseconds at",
    ),
    "full_snapshots": _nobody(
        "Which full snapshots were asked for.", "id attempt requested_at begun_at done_at customers"
    ),
}
"""In the order in which an erasure goes through the tables."""

INSTANTS: Final = frozenset(
    (
        *("occurred_at", "promised_at", "delivered_at"),
        *("promise_occurred_at", "promise_instant", "arrival_occurred_at", "arrival_instant"),
    )
)
"""Columns of instants of events, which the tables keep as numbers."""
