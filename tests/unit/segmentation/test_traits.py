"""What profile and orders say of a customer; brought up to date by changes, it is what a look at all orders finds."""

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from segmentation.counting import OrderKey, OrderState, Placed, Version
from segmentation.fields import CustomerId
from segmentation.traits import NO_ORDERS, Description, changes, describe, of_orders, turned

C = CustomerId("C")


def state(version: int, said: tuple[str | None, str | None, tuple[str, ...]] | None) -> OrderState:
    if said is None:
        return OrderState(Version(version, "e"))
    region, channel, services = said
    return OrderState(
        Version(version, "e"), Placed(date(2026, 1, 1), 1, None, 0, 0, 0, None, None, services, region, channel)
    )


said = st.one_of(
    st.none(),
    st.tuples(
        st.sampled_from((None, "East", "West")),
        st.sampled_from((None, "web")),
        st.lists(st.sampled_from(("express", "green")), max_size=3).map(tuple),
    ),
)
batches = st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30), said), max_size=4), max_size=6)


@given(batches)
def test_brought_up_to_date_it_is_what_a_look_at_all_orders_finds(told):
    orders: dict[OrderKey, OrderState] = {}
    traits = NO_ORDERS
    seen = set()
    for batch in told:
        before: dict[OrderKey, OrderState] = {}
        for order_id, version, what in batch:
            key = OrderKey(C, order_id)
            was = orders.get(key, OrderState())
            if version in seen or (was.version is not None and was.version.occurred_at >= version):
                continue
            seen.add(version)
            before.setdefault(key, was)
            orders[key] = state(version, what)
        change = changes(before, orders).get(C)
        everything = of_orders(orders.values())
        if change is not None:
            again = turned(traits, change)
            assert again is None or again == everything
            traits = everything if again is None else again
        assert traits == everything


def test_only_the_order_that_named_it_last_makes_a_look_necessary():
    key, other = OrderKey(C, "a"), OrderKey(C, "b")
    first, second = state(1, ("East", None, ())), state(2, ("West", None, ("green",)))
    traits = of_orders([first, second])
    older_gone = changes({key: first}, {key: state(3, None)})[C]
    assert turned(traits, older_gone) == traits
    latest_gone = changes({other: second}, {other: state(3, None)})[C]
    assert turned(traits, latest_gone) is None
    renamed = changes({other: second}, {other: state(3, ("North", None, ("green",)))})[C]
    assert turned(traits, renamed) == of_orders([first, state(3, ("North", None, ("green",)))])


def test_a_delivery_changes_no_trait():
    key = OrderKey(C, "a")
    placed = state(1, ("East", None, ()))
    assert changes({key: placed}, {key: placed}) == {}


def test_a_profile_in_short():
    version = Version(1, "e")
    values = {
        "name": "Acme", "industry": "retail", "region": "East", "needs.basic": ["timely"], "needs.latent": ["green"],
        "contract_end": "2027-01-01", "attributes.credit_hold": "yes", "attributes.note": "x" * 65, "channel": None,
    }  # fmt: skip
    profile = {name: (version, value) for name, value in values.items()}
    assert describe(profile) == Description(
        industry="retail",
        region="East",
        needs=("green", "timely"),
        attributes={"credit_hold": "yes"},
        also_known=("name", "contract_end"),
    )
