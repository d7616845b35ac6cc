"""The policy's form: the shipped one, and what is said of one that is not understood."""

from fractions import Fraction
from importlib import resources

import pytest

from segmentation import policy as policies
from segmentation.errors import PolicyInvalid, StartRefused
from segmentation.policy import LANGUAGES, Compares, OneOf, Reason, Row
from segmentation.segments import LifecycleRules
from segmentation.services import Care
from segmentation.tiering import Basis, TierRules
from segmentation.worth import WorthRules

DEFAULT = resources.files("segmentation").joinpath("policies/default.toml").read_text()


def parse(old: str = "", new: str = "") -> policies.Policy:
    assert DEFAULT.count(old) >= 1
    return policies.parse(DEFAULT.replace(old, new, 1), version=1)


def test_the_shipped_policy():
    policy = policies.parse(DEFAULT, version=7)
    assert (policy.version, policy.name, policy.default_level) == (7, "Tierline default", "welcome")
    assert policy.tiers == TierRules(Basis.NET_REVENUE, Fraction(4, 5), Fraction(19, 20), 14) == TierRules()
    assert policy.lifecycle == LifecycleRules()
    assert list(policy.segments) == [row.code for row in policy.segment_table]
    assert set(policy.service_levels) == {"vip", "stable", "standard", "welcome"}
    assert [row.code for row in policy.grant_table] == ["vip", "stable", "standard", "welcome"]
    assert policy.windows == {"365d", "90d"}


def test_the_shipped_policy_has_a_name_in_each_language():
    policy = parse()
    for named in [*policy.segments.values(), *policy.service_levels.values()]:
        assert all(named.name(language).strip() for language in LANGUAGES)
    for level in policy.service_levels.values():
        assert all(level.descriptions[language].strip() for language in LANGUAGES)
        assert 0 <= level.dispatch_priority <= 100


def test_conditions():
    first, third = parse().segment_table[0], parse().segment_table[2]
    assert first.conditions == (OneOf("tier", ("A",)), OneOf("lifecycle", ("at_risk", "dormant", "lost")))
    assert third.conditions[1] == Compares("complaint_rate_90d", "complaint_rate", "90d", ">=", Fraction(1, 4))


@pytest.mark.parametrize("comparison", ["<", "<=", ">", ">=", "=="])
def test_comparisons(comparison):
    policy = parse('complaints_90d = ">= 3"', f'complaints_7d = "{comparison}0.5"')
    assert policy.segment_table[2].conditions[0] == Compares(
        "complaints_7d", "complaints", "7d", comparison, Fraction(1, 2)
    )
    assert policy.windows == {"365d", "90d", "7d"}


ERRORS = [
    ('name = "Tierline default"', "", "the policy: name is missing"),
    ('name = "Tierline default"', "name = 5", "the policy: name is 5"),
    ('default_level = "welcome"', 'default_level = "gold"', "default_level is 'gold'; one of vip, stable"),
    ('default_level = "welcome"', "", "the policy: default_level is missing"),
    ("[tiers]", "[other]", "the policy: tiers is missing"),
    ("[lifecycle]", "[life_cycle]", "the policy: lifecycle is missing"),
    ("[tiers]", "[more]\nx = 1\n[tiers]", "the policy: more is not understood"),
    ('basis = "net_revenue"', 'basis = "revenue"', "[tiers]: basis is 'revenue'; one of net_revenue, gross_profit"),
    ('share_a = "0.80"', "share_a = 0.80", "[tiers]: share_a is 0.8; a text in quotes"),
    ('share_a = "0.80"', 'share_a = "80%"', "[tiers]: share_a is '80%'; a share in quotes"),
    ('share_a = "0.80"', 'share_a = "0"', "[tiers]: share_a is '0'"),
    ('share_a = "0.80"', 'share_a = "1.1"', "[tiers]: share_a is '1.1'"),
    ('share_a = "0.80"', 'share_a = "0.96"', "[tiers]: share_b is smaller than share_a"),
    ('share_b = "0.95"', "", "[tiers]: share_b is missing"),
    ("demotion_grace_days = 14", "demotion_grace_days = -1", "[tiers]: demotion_grace_days is -1; 0 to 3650"),
    ("demotion_grace_days = 14", "demotion_grace_days = 1.5", "[tiers]: demotion_grace_days is 1.5; a whole number"),
    ("demotion_grace_days = 14", "demotion_grace_days = true", "[tiers]: demotion_grace_days is True"),
    ("demotion_grace_days = 14", "grace = 1\ndemotion_grace_days = 14", "[tiers]: grace is not understood"),
    ("new_days = 60", "new_days = 0", "[lifecycle]: new_days is 0; 1 to 3650"),
    ("new_days = 60", "", "[lifecycle]: new_days is missing"),
    ("new_days = 60", "new_days = 60\nold_days = 1", "[lifecycle]: old_days is not understood"),
    ("shortest_rhythm_days = 7", "shortest_rhythm_days = 121", "[lifecycle]: shortest_rhythm_days is greater"),
    ("at_risk_after_rhythms = 3", "at_risk_after_rhythms = 7", "[lifecycle]: at_risk_after_rhythms is greater"),
    ('code = "strategic"', 'code = "Strategic"', "[[segments]] row 2: code is 'Strategic'; lower-case"),
    ('code = "strategic"', "", "[[segments]] row 2: code is missing"),
    ('code = "strategic"', 'code = "strategic"\nnote = "x"', "[[segments]] row 2: note is not understood"),
    ('en = "Strategic partner", ', "", "[[segments]] row 2, name: en is missing"),
    ('en = "Strategic partner"', 'fr = "x", en = "y"', "[[segments]] row 2, name: fr is not understood"),
    ('{ tier = ["A"] }', '"always"', "[[segments]] row 2: when is 'always'; conditions in braces"),
    ('{ tier = ["A"] }', '{ tier = "A" }', "[[segments]] row 2: tier is 'A'; a list of A, B, C, unrated"),
    ('{ tier = ["A"] }', "{ tier = [] }", "[[segments]] row 2: tier is []"),
    ('{ tier = ["A"] }', '{ tier = ["D"] }', "[[segments]] row 2: tier is ['D']"),
    ('{ tier = ["A"] }', '{ lifecycle = ["dead"] }', "[[segments]] row 2: lifecycle is ['dead']; a list of prospect"),
    ('{ tier = ["A"] }', '{ segment = ["core"] }', "[[segments]] row 2: segment is no fact"),
    ('{ tier = ["A"] }', '{ orders = ">= 1" }', "[[segments]] row 2: orders is no fact"),
    ('{ tier = ["A"] }', '{ orders_8d = ">= 1" }', "[[segments]] row 2: orders_8d is no fact"),
    ('{ tier = ["A"] }', '{ revenue_7d = ">= 1" }', "[[segments]] row 2: revenue_7d is no fact"),
    ('{ tier = ["A"] }', "{ orders_7d = 3 }", "[[segments]] row 2: orders_7d is 3; a comparison"),
    ('{ tier = ["A"] }', '{ orders_7d = "3" }', "[[segments]] row 2: orders_7d is '3'; a comparison"),
    ('{ tier = ["A"] }', '{ orders_7d = ">= -1" }', "[[segments]] row 2: orders_7d is '>= -1'"),
    ('{ tier = ["A"] }', '{ orders_7d = "!= 1" }', "[[segments]] row 2: orders_7d is '!= 1'"),
    (
        'name = { en = "Standard customer", zh = "标准客户" }',
        'name = { en = "x", zh = "y" }\nwhen = { tier = ["C"] }',
        "[[segments]] row 9: the last row must have no conditions",
    ),
    ('code = "vip"', 'code = "VIP"', "[[service_levels]] row 1: code is 'VIP'"),
    ("dispatch_priority = 95", "dispatch_priority = 101", "[[service_levels]] row 1: dispatch_priority is 101"),
    ("dispatch_priority = 95", "", "[[service_levels]] row 1: dispatch_priority is missing"),
    (
        'actions = ["dedicated_manager", "fast_response", "first_in_dispatch"]',
        'actions = "call"',
        "[[service_levels]] row 1: actions is 'call'; a list",
    ),
    ('level = "vip"', 'level = "gold"', "[[grants]] row 1: level is 'gold'; one of vip, stable"),
    ('level = "vip"', 'code = "vip"', "[[grants]] row 1: level is missing"),
    (
        'level = "vip"\nwhen = { tier = ["A"] }',
        'level = "vip"\nwhen = { segment = ["x"] }',
        "[[grants]] row 1: segment is",
    ),
    (
        '\nlevel = "welcome"',
        '\nlevel = "welcome"\nwhen = { tier = ["A"] }',
        "[[grants]] row 4: the last row must have no",
    ),
    ('\nlevel = "welcome"', '\nlevel = "welcome"\nwhy = 1', "[[grants]] row 4: why is not understood"),
    ("[tiers]", "[tiers", "the policy is not valid TOML: "),
]


@pytest.mark.parametrize(("old", "new", "message"), ERRORS, ids=[message for _, _, message in ERRORS])
def test_an_error_names_table_row_and_field(old, new, message):
    with pytest.raises(PolicyInvalid) as raised:
        parse(old, new)
    assert str(raised.value).startswith(message)
    assert isinstance(raised.value, StartRefused)


@pytest.mark.parametrize("name", ["segments", "service_levels", "grants"])
def test_a_table_needs_rows(name):
    text = "\n\n".join(block for block in DEFAULT.split("\n\n") if f"\n[[{name}]]" not in f"\n{block}")
    with pytest.raises(PolicyInvalid, match=rf"the policy: {name} is missing; at least one row \[\[{name}\]\]"):
        policies.parse(text, version=1)
    with pytest.raises(PolicyInvalid, match=f"the policy: {name} has no rows"):
        policies.parse(f"{name} = []\n{text}", version=1)


def test_a_grant_may_look_at_the_segment():
    policy = parse('level = "vip"\nwhen = { tier = ["A"] }', 'level = "vip"\nwhen = { segment = ["strategic"] }')
    assert policy.grant_table[0].conditions == (OneOf("segment", ("strategic",)),)


def test_reasons_in_words():
    assert Reason("tier", "A").text("en") == "tier A"
    assert Reason("tier", "A").text("zh") == "等级 A"
    assert Reason("default", "unrated").text("en") == "default for unrated"
    assert Reason("return_rate_90d", "0.5", ">= 0.5").text("zh") == "return_rate_90d 0.5 (>= 0.5)"


MORE_ERRORS = [
    ("response_hours = 1\n", "response_hours = 0\n", "[[service_levels]] row 1: response_hours is 0; 1 to 8760"),
    (
        "review_days = 90\n",
        'review_days = "weekly"\n',
        "[[service_levels]] row 1: review_days is 'weekly'",
    ),
    (
        "dedicated_manager = true",
        'dedicated_manager = "yes"',
        "[[service_levels]] row 1: dedicated_manager is 'yes'; tr",
    ),
    (
        'retention_level = "structural"',
        'retention_level = "love"',
        "[[service_levels]] row 1: retention_level is 'love'",
    ),
    (
        'offers = ["customised_solution"]',
        'offers = ["gift"]',
        "[[service_levels]] row 1: offers has 'gift'",
    ),
    ('playbooks = ["retail"]', 'playbooks = ["x"]', "[[additions]] row 7: playbooks has 'x'; one of manufacturing"),
    (
        'industry = ["retail"]',
        'industry = ["shop"]',
        "[[additions]] row 7: industry is ['shop']; a list",
    ),
    ('industry = ["retail"]', 'region = "East"', "[[additions]] row 7: region is 'East'; a list of texts"),
    ('industry = ["retail"]', f'region = ["{"x" * 65}"]', "[[additions]] row 7: region is ["),
    ('industry = ["retail"]', "attributes.x = 1", "[[additions]] row 7: attributes.x is 1; a list of texts"),
    ('industry = ["retail"]', 'industries = ["retail"]', "[[additions]] row 7: industries is no fact"),
    (
        'code = "retail"\nname = { en = "Retail"',
        'code = "pharma"\nname = { en = "Retail"',
        "[[additions]] row 9: code is 'pharma'",
    ),
    (
        'code = "pharma"\nname = { en = "Dedicated',
        'code = "retail"\nname = { en = "Dedicated',
        "[[playbooks]] row 4: code is 'retail'",
    ),
    ('code = "key"', 'code = "good"', "[[grades]] row 2: code is 'good'; one of strategic, key, general"),
    ('when = { value_level = ["high"] }', 'when = { grade = ["key"] }', "[[grades]] row 2: grade is no fact"),
    ('express = "timely"', 'express = "fast"', "[needs.inferred]: express is 'fast'; one of timely"),
    ("inferred_from_orders = 1", "inferred_from_orders = 0", "[needs]: inferred_from_orders is 0"),
    ("large_from = 100000", "large_from = 100", "[size]: medium_from is greater than large_from"),
    ("high_from = 12", "high_from = 2", "[frequency]: medium_from is greater than high_from"),
    ('rising_from = "1.5"', 'rising_from = "0.1"', "[value]: falling_below is greater than rising_from"),
    ('rising_from = "1.5"', "rising_from = 1.5", "[value]: rising_from is 1.5; a text in quotes"),
    ('rising_from = "1.5"', 'rising_from = "x"', "[value]: rising_from is 'x'; a factor in quotes"),
    ("order_days_needed = 3", "order_days_needed = 1", "[value]: order_days_needed is 1"),
    ('knowledge_from = "0.5"', 'knowledge_from = "2"', "[relationship]: knowledge_from is '2'; a share"),
    ("won_back_days = 60", "won_back_days = 0", "[lifecycle]: won_back_days is 0"),
    (
        'subject_type = ["company"], size',
        "size",
        "[[additions]] row 11: code is 'volume_agreement', whose offers change the price (volume_agreement), and the",
    ),
    (
        'subject_type = ["company"], size',
        'subject_type = ["company", "person"], size',
        "[[additions]] row 11: code is 'volume_agreement', whose offers change the price",
    ),
    (
        'offers = ["customised_solution"]',
        'offers = ["volume_agreement"]',
        "[[grants]] row 1: level is 'vip', whose offers change the price (volume_agreement), and",
    ),
    (
        'channel = "service_desk"\nactions = ["welcome',
        'channel = "service_desk"\noffers = ["volume_agreement"]\nactions = ["welcome',
        "default_level is 'welcome', whose offers change the price (volume_agreement), and whoever is unknown",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), MORE_ERRORS)
def test_an_error_of_a_service_names_row_and_field(old, new, message):
    with pytest.raises(PolicyInvalid) as raised:
        parse(old, new)
    assert str(raised.value).startswith(message)


FROM_BEFORE = """
name = "Old"
default_level = "welcome"
[tiers]
basis = "net_revenue"
share_a = "0.80"
share_b = "0.95"
demotion_grace_days = 14
[lifecycle]
new_days = 60
default_rhythm_days = 30
shortest_rhythm_days = 7
longest_rhythm_days = 120
at_risk_after_rhythms = 3
dormant_after_rhythms = 6
lost_after_days = 365
[[segments]]
code = "all"
name = { en = "All", zh = "全部" }
[[service_levels]]
code = "welcome"
name = { en = "Welcome", zh = "欢迎服务" }
description = { en = "x", zh = "y" }
dispatch_priority = 50
actions = ["Call them"]
[[grants]]
level = "welcome"
"""


def test_a_policy_from_before_all_this_is_still_read():
    """Whoever goes back to an old version gets what it said: no additions, the standard thresholds."""
    policy = policies.parse(FROM_BEFORE, version=1)
    assert (policy.additions, dict(policy.offers), dict(policy.needs_of_services)) == ((), {}, {})
    assert (policy.worth, policy.lifecycle) == (WorthRules(), LifecycleRules())
    assert policy.grade_table == (Row("general", ()),)
    assert policy.care("welcome", []) == Care(actions=("Call them",))


def test_the_shipped_thresholds_are_the_standard_ones():
    assert parse().worth == WorthRules()


def test_an_attribute_needs_no_quotes():
    quoted, plain = parse(), parse('"attributes.credit_hold"', "attributes.credit_hold")
    assert quoted.addition_table == plain.addition_table
    assert plain.addition_table[-1].conditions == (OneOf("attributes.credit_hold", ("yes",)),)


def test_whoever_may_be_a_person_is_never_offered_another_price():
    policy = parse()
    for addition, row in zip(policy.additions, policy.addition_table, strict=True):
        if any(policy.offers[offer].changes_price for offer in addition.care.offers):
            assert OneOf("subject_type", ("company",)) in row.conditions
