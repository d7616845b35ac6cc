"""The tier grants the service level

The policy's table of grants is read like that of segments. The shipped one follows the effective tier alone: A is
granted `vip`, B `stable`, C `standard`; whoever is unrated is granted `welcome`.
A customer nobody has heard of gets the policy's default level, which is `welcome`.
"""

from importlib import resources

from tests.spec.story import told
from tests.spec.tables import rows

from segmentation import policy as policies

POLICY = policies.parse(resources.files("segmentation").joinpath("policies/default.toml").read_text(), version=1)


def test_each_tier_has_its_level():
    """The reason is the tier, or that nothing else held."""
    told(
        """
        event | at         | order | amount
        order | 2026-01-01 | O-1   | 10.00
        """
    ).decides(
        """
        as_of      | customer | tier    | service_level | service_reasons
        2026-01-01 | C-1      | A       | vip           | tier A
        2026-01-01 | C-1      | B       | stable        | tier B
        2026-01-01 | C-1      | C       | standard      | tier C
        2026-01-01 | C-1      | unrated | welcome       | default for unrated
        """,
        POLICY,
    )


def test_the_level_follows_the_tier_whatever_the_segment():
    """A customer at risk keeps the level of its tier."""
    told(
        """
        event | at         | order | amount
        order | 2026-01-01 | O-1   | 10.00
        """
    ).decides(
        """
        as_of      | customer | tier | segment      | service_level
        2027-01-02 | C-1      | A    | key_at_risk  | vip
        2027-01-02 | C-1      | B    | core_at_risk | stable
        2027-01-02 | C-1      | C    | inactive     | standard
        """,
        POLICY,
    )


def levels(table: str) -> None:
    """The levels as the policy describes them."""
    for row in rows(table):
        level = POLICY.service_levels[row["service_level"]]
        assert (level.name("en"), level.name("zh")) == (row["name"], row["名称"])
        assert level.dispatch_priority == int(row["dispatch_priority"])


def test_the_levels_by_name():
    """The highest dispatch priority goes first."""
    levels(
        """
        service_level | name                    | 名称         | dispatch_priority
        vip           | VIP                     | 贵宾服务     | 95
        stable        | Stable and reliable     | 稳定可靠服务 | 70
        welcome       | Welcome                 | 欢迎服务     | 50
        standard      | Standard and economical | 标准经济服务 | 40
        """
    )


def test_the_unknown_get_the_default():
    """The default level is one of the policy's own."""
    assert POLICY.default_level == "welcome"
    assert POLICY.default_level in POLICY.service_levels
