"""Answers about many customers: pages of them, and counts of everyone."""

from datetime import date

from pydantic import BaseModel, Field

from segment_api.schemas import EXAMPLE_OF_A_SEGMENT, Money, SegmentAnswer, example


class CustomersAnswer(BaseModel):
    """A page of customers, in byte order of their ids."""

    model_config = example(
        {
            "as_of": "2026-11-22",
            "customers": [EXAMPLE_OF_A_SEGMENT],
            "next": "/customers?tier=A&limit=100&cursor=Q0dvbmRfZXhhbXBsZUMtMTA0Mg",
        }
    )

    as_of: date | None = Field(description="The business day of all answers; null before the first event.")
    customers: list[SegmentAnswer] = Field(
        description="Where each stands; at most `limit`, and maybe fewer although there is a `next`."
    )
    next: str | None = Field(description="Where the next page is; null on the last one. Also a `Link` header.")


class RegionPart(BaseModel):
    """Customers of a segment in a region."""

    region: str | None = Field(description="Null: not known.")
    customers: int = Field(description="How many of the segment are in it.")
    share: float | None = Field(description="Of the segment; null where it is empty.")


class IndustryPart(BaseModel):
    """Customers of a segment in an industry."""

    industry: str = Field(description="manufacturing, retail, ecommerce, pharma, electronics, other or unknown.")
    customers: int = Field(description="How many of the segment are in it.")
    share: float | None = Field(description="Of the segment; null where it is empty.")


class OtherRegions(BaseModel):
    """What a breakdown does not list."""

    regions: int = Field(description="How many regions are not listed.")
    customers: int = Field(description="How many customers they have together.")


class SegmentSummary(BaseModel):
    """A segment, and how many customers are in it."""

    code: str = Field(description="Stable code; also what `GET /customers?segment=` takes.")
    name: str = Field(description="Name in the language of `Accept-Language` (en, zh).")
    customers: int = Field(description="How many are in it; 0 where nobody is.")
    share: float | None = Field(description="Of all customers; null where there are none.")
    regions: list[RegionPart] | None = Field(
        description="Where they are, most customers first; null unless asked for with `by=region`."
    )
    other_regions: OtherRegions | None = Field(
        description="Regions beyond the `parts` listed; null unless asked for with `by=region`."
    )
    industries: list[IndustryPart] | None = Field(
        description="What they do, most customers first; null unless asked for with `by=industry`."
    )


class SegmentsSummary(BaseModel):
    """The catalogue of segments, with everyone in them."""

    model_config = example(
        {
            "as_of": "2026-11-22",
            "customers": 4,
            "overdue": 0,
            "segments": [
                {
                    "code": "strategic",
                    "name": "Strategic partner",
                    "customers": 4,
                    "share": 1.0,
                    "regions": [{"region": "north", "customers": 3, "share": 0.75}],
                    "other_regions": {"regions": 1, "customers": 1},
                    "industries": None,
                }
            ],
        }
    )

    as_of: date | None = Field(description="The business day that is counted for; null before the first event.")
    customers: int = Field(description="Everyone known; the sum over the segments.")
    overdue: int = Field(
        description="Of these, how many are counted as they stood on an earlier day, because very many have come due "
        "and not been assessed yet, as after midnight or a new policy; 0 otherwise."
    )
    segments: list[SegmentSummary] = Field(description="In the policy's order.")


class RegionTier(BaseModel):
    """The customers of a region in a tier."""

    tier: str
    customers: int


class RegionSummary(BaseModel):
    """A region, and its customers."""

    region: str | None = Field(description="As in the events; null for customers of whom it is not known.")
    customers: int = Field(description="How many are in it.")
    tiers: list[RegionTier] = Field(description="By effective tier: A, B, C, unrated.")
    net_revenue: Money = Field(
        description="Sum of the values on the basis of the tiers, over 365 days, of those with more than 0."
    )
    share: float | None = Field(description="Of `total`; null where that is 0.")


class RegionsAnswer(BaseModel):
    """Everyone by region: a page of regions, in byte order; the unknown one last."""

    model_config = example(
        {
            "as_of": "2026-11-22",
            "basis": "net_revenue",
            "customers": 5,
            "overdue": 0,
            "total": "8000.00",
            "regions": [
                {
                    "region": "north",
                    "customers": 3,
                    "tiers": [
                        {"tier": "A", "customers": 1},
                        {"tier": "B", "customers": 1},
                        {"tier": "C", "customers": 1},
                        {"tier": "unrated", "customers": 0},
                    ],
                    "net_revenue": "6000.00",
                    "share": 0.75,
                }
            ],
            "next": "/regions?limit=1&cursor=QlX5jCgAbm9ydGg",
        }
    )

    as_of: date | None = Field(description="The business day that is counted for; null before the first event.")
    basis: str = Field(description="What tiers are made of: net_revenue, gross_profit or orders.")
    customers: int = Field(description="Everyone known, on this page or not.")
    overdue: int = Field(
        description="Of these, how many are counted as they stood on an earlier day, because very many have come due "
        "and not been assessed yet, as after midnight or a new policy; 0 otherwise."
    )
    total: Money = Field(description="Of all regions, on this page or not.")
    regions: list[RegionSummary]
    next: str | None = Field(description="Where the next page is; null on the last one. Also a `Link` header.")
