"""What drives a forecast, in words: features in groups that a person has a word for.

Laws: every feature is in exactly one group. The effect of a group is by how much the log-odds of churn would be lower
if the customer were typical in it (the median of those the model was made from) and everything else as it is: positive
raises the risk. Effects of several groups do not add up to the whole, since features act together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from segmentation.money import MINOR_UNITS

Known = Mapping[str, float]
"""A customer's features by name."""
Words = Callable[[Known, str], Mapping[str, str]]
"""A customer's own numbers in words, by language; told the base currency too."""


class Group(NamedTuple):
    """Features that are one reason."""

    names: Mapping[str, str]
    features: tuple[str, ...]
    words: Words


@dataclass(frozen=True, slots=True)
class Driver:
    """What one group of features does to a customer's churn probability."""

    code: str
    names: Mapping[str, str]
    effect: float
    """In log-odds; positive raises the risk."""
    words: Mapping[str, str]
    """The customer's own numbers, by language."""

    def text(self, language: str) -> str:
        """A sentence for a person, without its full stop: the facts, and what they do."""
        return f"{self.words[language]}; {_VERDICTS[language][self.effect > 0]}"


_VERDICTS: Final[Mapping[str, Mapping[bool, str]]] = {
    "en": {
        True: "compared with a typical customer, this raises the churn risk",
        False: "compared with a typical customer, this lowers the churn risk",
    },
    "zh": {True: "与典型客户相比, 这使流失风险升高", False: "与典型客户相比, 这使流失风险降低"},
}


def driver(code: str, effect: float, known: Known, base_currency: str) -> Driver:
    """The driver of one group."""
    group = GROUPS[code]
    return Driver(code, group.names, effect, group.words(known, base_currency))


def _count(number: float, singular: str, plural: str) -> str:
    return f"{number:,.0f} {singular if round(number) == 1 else plural}"


def _there_were(number: float, singular: str, plural: str) -> str:
    if round(number) == 0:
        return f"There were no {plural}"
    return f"There {'was' if round(number) == 1 else 'were'} {_count(number, singular, plural)}"


def _days(number: float) -> str:
    return _count(number, "day", "days")


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _money(amount: float, currency: str) -> str:
    decimals = MINOR_UNITS.get(currency, 2)
    return f"{round(amount, decimals) + 0.0:,.{decimals}f} {currency}"


def _silence(known: Known, _: str) -> Mapping[str, str]:
    recency, gap = known["recency_days"], known["gap_mean_days"]
    said = {"en": f"The last order was {_days(recency)} ago", "zh": f"上次下单距今 {recency:,.0f} 天"}
    if known["knows_gap"] > 0:
        said = {
            "en": f"{said['en']}, and the mean gap between orders is {_days(gap)}",
            "zh": f"{said['zh']}, 平均下单间隔 {gap:,.0f} 天",
        }
    return said


def _rhythm(known: Known, _: str) -> Mapping[str, str]:
    if not known["knows_gap"] > 0:
        return {"en": "It has ordered on one day only, so it has no rhythm yet", "zh": "只有一天下过单, 尚无下单节奏"}
    last, longest = known["gap_last_days"], known["gap_longest_days"]
    return {
        "en": f"The last gap between orders was {_days(last)}, and the longest was {_days(longest)}",
        "zh": f"最近一次下单间隔 {last:,.0f} 天, 最长间隔 {longest:,.0f} 天",
    }


def _frequency(known: Known, _: str) -> Mapping[str, str]:
    year, months = known["orders_365d"], known["active_months_365d"]
    active = f", in {months:.0f} of the last 12 months" if round(year) else ""
    return {
        "en": f"{_there_were(year, 'order', 'orders')} in the last 365 days{active}",
        "zh": f"近 365 天下单 {year:,.0f} 次, 近 12 个月中有 {months:.0f} 个月下单",
    }


def _trend(known: Known, _: str) -> Mapping[str, str]:
    recent = known["orders_90d"]
    before = known["orders_180d"] - recent
    orders = _there_were(recent, "order", "orders")
    return {
        "en": f"{orders} in the last 90 days, after {before:,.0f} in the 90 days before",
        "zh": f"近 90 天下单 {recent:,.0f} 次, 此前 90 天下单 {before:,.0f} 次",
    }


def _revenue(known: Known, currency: str) -> Mapping[str, str]:
    year = _money(known["net_365d"], currency)
    return {"en": f"Net revenue in the last 365 days was {year}", "zh": f"近 365 天净收入为 {year}"}


def _order_size(known: Known, currency: str) -> Mapping[str, str]:
    mean = _money(known["order_value_mean"], currency)
    return {"en": f"The average order is worth {mean}", "zh": f"平均每单金额为 {mean}"}


def _tenure(known: Known, _: str) -> Mapping[str, str]:
    tenure = known["tenure_days"]
    return {"en": f"The first order was {_days(tenure)} ago", "zh": f"首次下单距今 {tenure:,.0f} 天"}


def _season(known: Known, _: str) -> Mapping[str, str]:
    orders = known["season_orders"]
    if not known["knows_season"] > 0:
        return {"en": "A year ago it was not a customer yet", "zh": "一年前还不是客户"}
    return {
        "en": f"{_there_were(orders, 'order', 'orders')} last year in the 90 days that now lie ahead",
        "zh": f"未来 90 天在去年同期下单 {orders:,.0f} 次",
    }


def _returns(known: Known, _: str) -> Mapping[str, str]:
    number, share = known["returns_365d"], known["returned_share_365d"]
    worth = {"en": f", worth {_percent(share)} of revenue", "zh": f", 占收入 {_percent(share)}"}
    if not round(number):
        worth = {"en": "", "zh": ""}
    return {
        "en": f"{_there_were(number, 'return', 'returns')} in the last 365 days{worth['en']}",
        "zh": f"近 365 天退货 {number:,.0f} 次{worth['zh']}",
    }


def _complaints(known: Known, _: str) -> Mapping[str, str]:
    number = known["complaints_365d"]
    return {
        "en": f"{_there_were(number, 'complaint', 'complaints')} in the last 365 days",
        "zh": f"近 365 天投诉 {number:,.0f} 次",
    }


def _punctuality(known: Known, _: str) -> Mapping[str, str]:
    if not known["knows_on_time"] > 0:
        return {"en": "It is not known whether its orders came on time", "zh": "订单是否准时送达未知"}
    rate = _percent(known["on_time_rate_365d"])
    return {"en": f"{rate} of the orders of the last 365 days came on time", "zh": f"近 365 天订单准时率为 {rate}"}


def _margin(known: Known, _: str) -> Mapping[str, str]:
    if not known["knows_margin"] > 0:
        return {"en": "Its costs are not known", "zh": "成本未知"}
    margin = _percent(known["margin_365d"])
    return {"en": f"The margin of the last 365 days was {margin}", "zh": f"近 365 天毛利率为 {margin}"}


GROUPS: Final[Mapping[str, Group]] = {
    "silence": Group(
        {"en": "Silence", "zh": "沉默时长"},
        ("recency_days", "overdue", "orders_30d", "net_30d", "orders_decayed_30d", "gross_decayed_30d"),
        _silence,
    ),
    "rhythm": Group(
        {"en": "Rhythm", "zh": "下单节奏"},
        ("knows_gap", "gap_mean_days", "gap_last_days", "gap_longest_days", "knows_gap_cv", "gap_cv"),
        _rhythm,
    ),
    "frequency": Group(
        {"en": "Frequency", "zh": "下单频率"},
        (
            "orders",
            "order_days",
            "active_months_365d",
            "orders_90d",
            "orders_180d",
            "orders_365d",
            "orders_decayed_90d",
            "orders_decayed_180d",
        ),
        _frequency,
    ),
    "trend": Group({"en": "Trend", "zh": "趋势"}, ("orders_trend", "gross_trend"), _trend),
    "revenue": Group(
        {"en": "Revenue", "zh": "收入"},
        ("net_90d", "net_180d", "net_365d", "net", "gross", "gross_decayed_90d", "gross_decayed_180d"),
        _revenue,
    ),
    "order_size": Group(
        {"en": "Order size", "zh": "单量大小"},
        (
            "order_value_mean",
            "day_value_mean",
            "day_value_cv",
            "day_value_largest",
            "day_value_first",
            "day_value_last",
        ),
        _order_size,
    ),
    "tenure": Group({"en": "Tenure", "zh": "客户年限"}, ("tenure_days",), _tenure),
    "season": Group({"en": "Season", "zh": "季节"}, ("knows_season", "season_orders", "season_gross"), _season),
    "returns": Group({"en": "Returns", "zh": "退货"}, ("returns_365d", "returned_share_365d", "return_rate"), _returns),
    "complaints": Group({"en": "Complaints", "zh": "投诉"}, ("complaints_365d", "complaint_rate"), _complaints),
    "punctuality": Group({"en": "Punctuality", "zh": "准时率"}, ("knows_on_time", "on_time_rate_365d"), _punctuality),
    "margin": Group({"en": "Margin", "zh": "毛利"}, ("knows_margin", "margin_365d"), _margin),
}
