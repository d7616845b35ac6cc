"""Everyone, counted by segment, region and tier -> what the API answers."""

from typing import Any

from segment_api import listing_schemas, schemas
from segmentation.answers import TierOverview
from segmentation.listing import UNKNOWN, Breakdown, RegionOverview, SegmentCount, SegmentOverview, names_of_segments
from segmentation.money import format_minor
from segmentation.tiering import Basis


def present_segments_summary(overview: SegmentOverview, language: str) -> listing_schemas.SegmentsSummary:
    """Everyone by segment."""
    names = names_of_segments(overview.policy, overview.model)
    return listing_schemas.SegmentsSummary(
        as_of=overview.as_of,
        customers=overview.customers,
        overdue=overview.overdue,
        segments=[
            listing_schemas.SegmentSummary(
                code=each.code,
                name=names[each.code].name(language) if each.code in names else each.code,
                customers=each.customers,
                share=_share(each.customers, overview.customers),
                **_present_breakdowns(each),
            )
            for each in overview.segments
        ],
    )


def _present_breakdowns(each: SegmentCount) -> dict[str, Any]:
    regions, industries = each.broken_down.get(Breakdown.REGION), each.broken_down.get(Breakdown.INDUSTRY)
    return {
        "regions": regions
        and [
            listing_schemas.RegionPart(
                region=part.value, customers=part.customers, share=_share(part.customers, each.customers)
            )
            for part in regions.parts
        ],
        "other_regions": regions
        and listing_schemas.OtherRegions(regions=regions.others, customers=regions.customers_of_others),
        "industries": industries
        and [
            listing_schemas.IndustryPart(
                industry=part.value or UNKNOWN, customers=part.customers, share=_share(part.customers, each.customers)
            )
            for part in industries.parts
        ],
    }


def present_regions(overview: RegionOverview, decimals: int, following: str | None) -> listing_schemas.RegionsAnswer:
    """Everyone by region, a page of it."""
    shown_decimals = 0 if overview.basis == Basis.ORDERS else decimals
    return listing_schemas.RegionsAnswer(
        as_of=overview.as_of,
        basis=overview.basis,
        customers=overview.customers,
        overdue=overview.overdue,
        total=format_minor(overview.total, shown_decimals),
        regions=[
            listing_schemas.RegionSummary(
                region=each.region,
                customers=each.customers,
                tiers=[listing_schemas.RegionTier(tier=tier, customers=count) for tier, count in each.tiers.items()],
                net_revenue=format_minor(each.value, shown_decimals),
                share=_share(each.value, overview.total),
            )
            for each in overview.regions
        ],
        next=following,
    )


def present_tiers(overview: TierOverview, decimals: int) -> schemas.TiersAnswer:
    """The ranking of everyone."""
    shown_decimals = 0 if overview.basis == Basis.ORDERS else decimals
    return schemas.TiersAnswer(
        as_of=overview.as_of,
        basis=overview.basis,
        total=format_minor(overview.total, shown_decimals),
        cutoffs={
            tier: schemas.CutOff(net_revenue=format_minor(last[0], shown_decimals), customer_id=last[1])
            if last
            else None
            for tier, last in overview.cutoffs.items()
        },
        tiers=[
            schemas.TierCount(
                tier=part.tier,
                customers=part.customers,
                net_revenue=format_minor(part.value, shown_decimals),
                share=part.value / overview.total if overview.total and part.tier != "unrated" else None,
            )
            for part in overview.tiers
        ],
        pareto=[
            schemas.ParetoPoint(customers_share=customers, revenue_share=share) for customers, share in overview.pareto
        ],
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
