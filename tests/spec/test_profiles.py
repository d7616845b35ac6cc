"""A profile is merged field by field

A `customer` event sets the fields that it names, `needs` per list and `attributes` per key.
Per field the greatest `occurred_at`, then the greatest `event_id`, wins; null clears the field, an absent one says
nothing. A `needs` or `attributes` that is null clears everything below it.
The order of arrival decides nothing.
"""

from tests.spec.story import told


def test_each_field_has_its_own_latest_event():
    """The later event leaves out the region, so the earlier one's stays."""
    told(
        """
        event    | at         | name | region | industry | contract_end
        customer | 2026-03-01 | Acme | East   | retail   |
        customer | 2026-03-02 | ACME |        |          | 2027-12-31
        customer | 2026-02-01 | Old  | West   | pharma   | 2026-12-31
        """
    ).describes(
        """
        field        | value
        name         | ACME
        region       | East
        industry     | retail
        contract_end | 2027-12-31
        channel      | none
        """
    )


def test_of_one_instant_the_greater_event_id_wins():
    """Field by field."""
    told(
        """
        id | event    | at         | name | region
        b  | customer | 2026-03-01 | Bee  |
        a  | customer | 2026-03-01 | Ay   | East
        """
    ).describes(
        """
        field  | value
        name   | Bee
        region | East
        """
    )


def test_null_clears_and_a_later_value_sets_again():
    """A cleared field stays cleared against everything earlier."""
    told(
        """
        event    | at         | name | region | channel
        customer | 2026-03-01 | Acme | East   | web
        customer | 2026-03-02 | null | null   |
        customer | 2026-03-03 |      | North  |
        """
    ).describes(
        """
        field   | value
        name    | none
        region  | North
        channel | web
        """
    )


def test_needs_are_replaced_list_by_list():
    """A list is one field: nothing is added to it."""
    told(
        """
        event    | at         | needs.basic     | needs.latent | needs.expected
        customer | 2026-03-01 | express insured | green        |
        customer | 2026-03-02 | express         |              | tracking
        """
    ).describes(
        """
        field          | value
        needs.basic    | express
        needs.latent   | green
        needs.expected | tracking
        """
    )


def test_attributes_are_set_key_by_key():
    """Any key may be named, and cleared."""
    told(
        """
        event    | at         | attributes.credit_hold | attributes.dock
        customer | 2026-03-01 | no                     | 7
        customer | 2026-03-02 | yes                    |
        customer | 2026-03-03 |                        | null
        """
    ).describes(
        """
        field                  | value
        attributes.credit_hold | yes
        attributes.dock        | none
        """
    )


def test_null_for_the_whole_group_clears_what_is_earlier():
    """What a later event sets below it stays."""
    told(
        """
        event    | at         | needs | attributes | needs.basic | attributes.dock | attributes.gate
        customer | 2026-03-01 |       |            | express     | 7               | 1
        customer | 2026-03-02 | null  | null       |             |                 |
        customer | 2026-03-03 |       |            |             |                 | 2
        """
    ).describes(
        """
        field           | value
        needs.basic     | none
        attributes.dock | none
        attributes.gate | 2
        """
    )


def test_customers_do_not_mix():
    """Each profile is its customer's own."""
    told(
        """
        event    | customer | at         | name
        customer | C-1      | 2026-03-01 | Acme
        customer | C-2      | 2026-03-02 | Bolt
        """
    ).describes(
        """
        customer | field | value
        C-1      | name  | Acme
        C-2      | name  | Bolt
        C-3      | name  | none
        """
    )
