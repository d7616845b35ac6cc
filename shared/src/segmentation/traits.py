"""What a customer is, beside its figures: what its profile says, and what its counting orders say.

Laws: what orders say depends on the set of counting orders alone, whatever order they came in; brought up to date by
the orders that a batch changed, it equals what a look at all orders finds, or says that such a look is needed.

A region (and a channel) that the profile does not name is that of the counting order with the greatest version that
has one. Services are counted in orders, so that a cancelled order takes its services with it.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from msgspec import Struct, field

from segmentation.counting import OrderKey, OrderState, Placed, Profile, Version, profile_fields
from segmentation.fields import CustomerId
from segmentation.toml_tables import TomlTable

INDUSTRIES: Final = ("manufacturing", "retail", "ecommerce", "pharma", "electronics", "other", "unknown")
SUBJECT_TYPES: Final = ("company", "person", "unknown")
NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "basic": ("timely", "safe", "accurate"),
    "expected": ("personalised", "value_added"),
    "latent": ("smart", "green"),
}
"""The needs that have a meaning to us; customers may declare others."""
_LONGEST_ATTRIBUTE: Final = 64
_ALSO_KNOWN: Final = ("name", "account_manager", "contract_type", "contract_end")


class Latest(Struct, frozen=True, array_like=True):
    """A value that an order names, and the version of the order that does."""

    version: Version
    value: str


class OrderTraits(Struct, frozen=True, array_like=True):
    """What a customer's counting orders say about it."""

    region: Latest | None = None
    channel: Latest | None = None
    services: dict[str, int] = {}
    """How many counting orders asked for each service."""


class Description(Struct, frozen=True, omit_defaults=True):
    """What a customer's profile says, as far as decisions look at it."""

    industry: str | None = None
    subject_type: str | None = None
    region: str | None = None
    channel: str | None = None
    needs: tuple[str, ...] = ()
    """Declared, of all three kinds, in order."""
    attributes: Mapping[str, str] = {}
    """Those whose key and value are short enough to be named by a condition."""
    also_known: tuple[str, ...] = ()
    """Other fields that have a value."""


class TraitChange(Struct):
    """What a batch did to one customer's counting orders."""

    superseded: set[Version] = field(default_factory=set)
    """Versions that counted before and count no more."""
    region: Latest | None = None
    """Of the versions that count from now on, the latest that names one; so the channel."""
    channel: Latest | None = None
    services: dict[str, int] = field(default_factory=dict)
    """How many more orders, or fewer, ask for each service."""

    def drop(self, version: Version, placed: Placed) -> None:
        """A version counts no more."""
        self.superseded.add(version)
        for service in set(placed.services):
            self.services[service] = self.services.get(service, 0) - 1

    def add(self, version: Version, placed: Placed) -> None:
        """A version counts from now on."""
        if placed.region is not None and (self.region is None or self.region.version < version):
            self.region = Latest(version, placed.region)
        if placed.channel is not None and (self.channel is None or self.channel.version < version):
            self.channel = Latest(version, placed.channel)
        for service in set(placed.services):
            self.services[service] = self.services.get(service, 0) + 1


NO_DESCRIPTION: Final = Description()
NO_ORDERS: Final = OrderTraits()


def describe(profile: Profile) -> Description:
    """A profile, as far as decisions look at it."""
    fields = profile_fields(profile)
    declared: set[str] = set()
    attributes: dict[str, str] = {}
    for name, value in fields.items():
        group, _, key = name.partition(".")
        if group == "needs" and isinstance(value, list):
            declared.update(value)
        elif group == "attributes" and isinstance(value, str) and max(len(key), len(value)) <= _LONGEST_ATTRIBUTE:
            attributes[key] = value
    said = {name: str(fields[name]) for name in ("industry", "subject_type", "region", "channel") if name in fields}
    return Description(
        **said,
        needs=tuple(sorted(declared)),
        attributes=attributes,
        also_known=tuple(name for name in _ALSO_KNOWN if name in fields),
    )


def changes(
    before: Mapping[OrderKey, OrderState], after: Mapping[OrderKey, OrderState]
) -> dict[CustomerId, TraitChange]:
    """What a batch did to counting orders, by customer.

    Args:
        before: Each order that the batch changed, as it was.
        after: These orders, and maybe others, as they are now.
    """
    found: dict[CustomerId, TraitChange] = {}
    for key, was in before.items():
        now = after[key]
        if now.version == was.version:
            continue  # only a delivery was reported
        change = found.get(key.customer_id)
        if change is None:
            change = found[key.customer_id] = TraitChange()
        if was.placed is not None and was.version is not None:
            change.drop(was.version, was.placed)
        if now.placed is not None and now.version is not None:
            change.add(now.version, now.placed)
    return found


def turned(traits: OrderTraits, change: TraitChange) -> OrderTraits | None:
    """The traits after a change; None where all orders have to be looked at again."""
    region = _turned(traits.region, change.region, change.superseded)
    channel = _turned(traits.channel, change.channel, change.superseded)
    if region == "lost" or channel == "lost":
        return None
    services = traits.services
    if any(change.services.values()):
        counts = {code: services.get(code, 0) + change.services.get(code, 0) for code in (*services, *change.services)}
        services = {code: orders for code, orders in counts.items() if orders}
    return OrderTraits(region, channel, services)


def of_orders(orders: Iterable[OrderState]) -> OrderTraits:
    """The traits, by a look at all orders of a customer."""
    found = TraitChange()
    for order in orders:
        if order.placed is not None and order.version is not None:
            found.add(order.version, order.placed)
    return OrderTraits(found.region, found.channel, found.services)


def _turned(
    current: Latest | None, candidate: Latest | None, superseded: set[Version]
) -> Latest | Literal["lost"] | None:
    if current is None or (candidate is not None and candidate.version > current.version):
        return candidate
    # Whoever named it last names it no more, and nobody later does: an earlier order may, which is not kept here.
    return "lost" if current.version in superseded else current


def parse_needs(table: TomlTable) -> tuple[Mapping[str, str], int]:
    """Reads the section [needs]: the need that each service shows, and from how many orders it does."""
    known = tuple(code for codes in NEEDS.values() for code in codes)
    from_orders = table.optional_integer("inferred_from_orders", 1, 1_000_000)
    inferred = TomlTable(table.section("inferred").raw, "[needs.inferred]")
    table.finish()
    mapping: dict[str, str] = {}
    for service in inferred.raw:
        need = inferred.one_of(service, known)
        if need is not None:
            mapping[service] = need
    return mapping, from_orders or 1
