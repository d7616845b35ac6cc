"""What is done for a customer: service levels, what is added to them, offers, playbooks, relationship strategy.

Laws: what is added never takes anything away, deadlines only get shorter; an offer that changes the price is never made
by a row that can hold for a private person, and a policy in which it could be is refused.

A customer's service is its level and all additions whose conditions hold, in order. Two axes place the relationship:

    completeness of knowledge      how many of KNOWLEDGE are known of the customer, of all of them
    individualisation of service   how many of INDIVIDUALISATION the service has, of all of them

    knowledge, service     below individualisation_from    from individualisation_from
    below knowledge_from   product_sales                   service_support
    from knowledge_from    customer_marketing              individualised_relationship
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any, Final, TypeVar

from segmentation.errors import PolicyInvalid
from segmentation.toml_tables import TomlTable, listed

RETENTION_LEVELS: Final = ("financial", "social", "structural")
"""From the weakest bond to the strongest."""
STRATEGIES: Final = ("product_sales", "service_support", "customer_marketing", "individualised_relationship")
STRATEGY_NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    "product_sales": {"en": "Product sales", "zh": "产品销售"},
    "service_support": {"en": "Service support", "zh": "服务支持"},
    "customer_marketing": {"en": "Customer marketing", "zh": "客户营销"},
    "individualised_relationship": {"en": "Individualised relationship", "zh": "个性化关系"},
}
KNOWLEDGE: Final = (
    *("name", "subject_type", "industry", "region", "channel", "account_manager", "contract", "needs"),
    "order_history",
)
"""`needs` are declared ones; `order_history` is an own rhythm, from `order_days_needed` order days on."""
INDIVIDUALISATION: Final = ("dedicated_manager", "call_backs", "reviews", "surveys", "playbook", "bond")
"""`bond` is a social or structural retention level."""
_MOST_HOURS: Final = 8_760
_MOST_DAYS: Final = 3_650
_DEADLINES: Final = ("response_hours", "complaint_hours")
_INTERVALS: Final = ("callback_days", "review_days", "survey_days")


@dataclass(frozen=True, slots=True)
class Named:
    """Something with a code and a name in each language."""

    code: str
    names: Mapping[str, str]

    def name(self, language: str) -> str:
        return self.names[language]


@dataclass(frozen=True, slots=True)
class Described(Named):
    """A named thing that also says what it is."""

    descriptions: Mapping[str, str]

    def description(self, language: str) -> str:
        return self.descriptions[language]


@dataclass(frozen=True, slots=True)
class Offer(Named):
    """Something that a customer may be offered."""

    changes_price: bool


@dataclass(frozen=True, slots=True)
class Care:
    """What a level or an addition promises beside its name; None and empty promise nothing."""

    actions: tuple[str, ...] = ()
    offers: tuple[str, ...] = ()
    playbooks: tuple[str, ...] = ()
    response_hours: int | None = None
    complaint_hours: int | None = None
    callback_days: int | None = None
    review_days: int | None = None
    survey_days: int | None = None
    dedicated_manager: bool = False
    channel: str | None = None
    owner: str | None = None
    """The role that has to see to it, such as of a retention plan."""
    retention_level: str | None = None
    delivery_commitment: Mapping[str, str] | None = None
    """In each language."""

    def with_more(self, other: "Care") -> "Care":
        """Both together: nothing is lost, deadlines and intervals are the shorter, the stronger bond holds."""
        merged: dict[str, Any] = {}
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if each.name == "retention_level":
                merged[each.name] = max(filter(None, (mine, theirs)), key=RETENTION_LEVELS.index, default=None)
            elif isinstance(mine, tuple):
                merged[each.name] = tuple(dict.fromkeys(mine + theirs))
            elif isinstance(mine, bool):
                merged[each.name] = mine or theirs
            elif isinstance(mine, int) and isinstance(theirs, int):
                merged[each.name] = min(mine, theirs)
            else:
                merged[each.name] = mine if theirs is None else theirs
        return replace(self, **merged)


@dataclass(frozen=True, slots=True)
class ServiceLevel(Described):
    """What is done for a customer."""

    dispatch_priority: int
    """0 to 100, the highest goes first."""
    care: Care = Care()

    @property
    def actions(self) -> tuple[str, ...]:
        return self.care.actions


@dataclass(frozen=True, slots=True)
class Addition(Described):
    """What is added to the level of every customer for whom its conditions hold."""

    care: Care


@dataclass(frozen=True, slots=True)
class Relationship:
    """Where a relationship stands on its two axes."""

    strategy: str
    knowledge: Fraction
    individualisation: Fraction

    def name(self, language: str) -> str:
        return STRATEGY_NAMES[self.strategy][language]


@dataclass(frozen=True, slots=True)
class RelationshipRules:
    """From where on each axis counts as high."""

    knowledge_from: Fraction = Fraction(1, 2)
    individualisation_from: Fraction = Fraction(1, 2)


STANDARD_RELATIONSHIP: Final = RelationshipRules()


def composed(level: ServiceLevel, additions: Iterable[Addition]) -> Care:
    """All that is done for a customer."""
    care = level.care
    for addition in additions:
        care = care.with_more(addition.care)
    return care


def relationship(known: int, care: Care, rules: RelationshipRules) -> Relationship:
    """The strategy that follows from how much is known and how individual the service is.

    Args:
        known: How many of KNOWLEDGE are known.
        care: All that is done for the customer.
        rules: The policy's.
    """
    has = {
        "dedicated_manager": care.dedicated_manager,
        "call_backs": care.callback_days is not None,
        "reviews": care.review_days is not None,
        "surveys": care.survey_days is not None,
        "playbook": bool(care.playbooks),
        "bond": care.retention_level in RETENTION_LEVELS[1:],
    }
    knowledge = Fraction(known, len(KNOWLEDGE))
    individualisation = Fraction(sum(has[each] for each in INDIVIDUALISATION), len(INDIVIDUALISATION))
    place = 2 * (knowledge >= rules.knowledge_from) + (individualisation >= rules.individualisation_from)
    return Relationship(STRATEGIES[place], knowledge, individualisation)


def parse_offers(root: TomlTable) -> dict[str, Offer]:
    """Reads the catalogue of offers, which may be left out."""
    offers = [
        Offer(row.code("code"), row.names("name"), row.flag("changes_price")) for row in _finished(root, "offers")
    ]
    return _by_code("offers", offers)


def parse_playbooks(root: TomlTable) -> dict[str, Described]:
    """Reads the catalogue of playbooks, which may be left out."""
    playbooks = [
        Described(row.code("code"), row.names("name"), row.names("description")) for row in _finished(root, "playbooks")
    ]
    return _by_code("playbooks", playbooks)


Coded = TypeVar("Coded", bound=Named)


def _finished(root: TomlTable, name: str) -> Iterable[TomlTable]:
    for row in root.optional_rows(name):
        yield row
        row.finish()


def _by_code(title: str, named: Sequence[Coded]) -> dict[str, Coded]:
    found: dict[str, Coded] = {}
    for row, each in enumerate(named, start=1):
        if each.code in found:
            problem = f"[[{title}]] row {row}: code is {each.code!r}, as in an earlier row; each needs its own"
            raise PolicyInvalid(problem)
        found[each.code] = each
    return found


def parse_level(row: TomlTable, offers: Sequence[str], playbooks: Sequence[str]) -> ServiceLevel:
    """Reads a service level.

    Raises:
        PolicyInvalid: names the row and the field.
    """
    row.get("actions", list, "a list of codes")  # of a level they are required
    level = ServiceLevel(
        code=row.code("code"),
        names=row.names("name"),
        descriptions=row.names("description"),
        dispatch_priority=row.integer("dispatch_priority", 0, 100),
        care=_parse_care(row, offers, playbooks),
    )
    row.finish()
    return level


def parse_addition(row: TomlTable, offers: Sequence[str], playbooks: Sequence[str]) -> Addition:
    """Reads an addition, but for its conditions."""
    return Addition(
        code=row.code("code"),
        names=row.names("name"),
        descriptions=row.names("description"),
        care=_parse_care(row, offers, playbooks),
    )


def parse_relationship(root: TomlTable) -> RelationshipRules:
    """Reads the section [relationship], which may be left out."""
    table = root.section("relationship")
    rules = RelationshipRules(table.share("knowledge_from", "0.5"), table.share("individualisation_from", "0.5"))
    table.finish()
    return rules


def _parse_care(row: TomlTable, offers: Sequence[str], playbooks: Sequence[str]) -> Care:
    channel, owner = (row.code(name) if row.has(name) else None for name in ("channel", "owner"))
    return Care(
        actions=tuple(map(str, row.get("actions", list, "a list of codes"))) if row.has("actions") else (),
        offers=row.codes("offers", offers),
        playbooks=row.codes("playbooks", playbooks),
        **{name: row.optional_integer(name, 1, _MOST_HOURS) for name in _DEADLINES},
        **{name: row.optional_integer(name, 1, _MOST_DAYS) for name in _INTERVALS},
        dedicated_manager=row.flag("dedicated_manager"),
        channel=channel,
        owner=owner,
        retention_level=row.one_of("retention_level", RETENTION_LEVELS),
        delivery_commitment=row.optional_names("delivery_commitment"),
    )


def price_offers(care: Care, offers: Mapping[str, Offer]) -> str | None:
    """Those of its offers that change the price, for a sentence; None where none does."""
    changing = [code for code in care.offers if offers[code].changes_price]
    return listed(changing) if changing else None
