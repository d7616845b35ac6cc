"""Looking around: customers by what they are, and everyone counted by segment and by region."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from segment_api import listing_schemas, negotiating, paging, problems, rendering, schemas, summaries
from segment_api.context import InContext, InLanguage
from segment_api.exporting import Export
from segment_api.problems import InvalidField, ProblemAnswer
from segmentation.fields import read_customer_id
from segmentation.listing import Breakdown, Criteria, Filter
from segmentation.segments import Lifecycle
from segmentation.tiering import Tier

router = APIRouter()

_JSON: Final = "application/json"
_FORMS: Final = (rendering.NDJSON, rendering.CSV)
_MOST_ON_A_PAGE: Final = 1_000
_MOST_VALUES: Final = 100
_LONGEST_VALUE: Final = 1_000

Open = Annotated[schemas.Line, Field(max_length=_LONGEST_VALUE)]
Level = Literal["high", "medium", "low"]


class CustomersQuestion(BaseModel):
    """Who is wanted. A filter given more than once means any of its values; different filters all have to hold."""

    model_config = ConfigDict(extra="forbid")  # a filter with a slip in its name would list everybody

    tier: list[Tier] = Field([], max_length=_MOST_VALUES, description="Effective tier.")
    segment: list[Open] = Field([], max_length=_MOST_VALUES, description="Code of a segment; `GET /segments` has them.")
    service_level: list[Open] = Field(
        [], max_length=_MOST_VALUES, description="Code of the recommended service level, of the policy in force."
    )
    lifecycle: list[Lifecycle] = Field([], max_length=_MOST_VALUES, description="Stage of the relationship.")
    industry: list[Literal["manufacturing", "retail", "ecommerce", "pharma", "electronics", "other", "unknown"]] = (
        Field([], max_length=_MOST_VALUES, description="Industry; `unknown` where nobody has said.")
    )
    region: list[Open] = Field([], max_length=_MOST_VALUES, description="Region, as in the events.")
    channel: list[Open] = Field([], max_length=_MOST_VALUES, description="Channel, as in the events.")
    subject_type: list[Literal["company", "person", "unknown"]] = Field(
        [], max_length=_MOST_VALUES, description="Company or private person; `unknown` where nobody has said."
    )
    need: list[Open] = Field(
        [], max_length=_MOST_VALUES, description="A need that was declared, or shown by the services ordered."
    )
    value_level: list[Level] = Field([], max_length=_MOST_VALUES, description="Contribution and potential together.")
    grade: list[Literal["strategic", "key", "general"]] = Field(
        [], max_length=_MOST_VALUES, description="Customer grade."
    )
    size: list[Literal["large", "medium", "small"]] = Field([], max_length=_MOST_VALUES, description="Size class.")
    frequency: list[Level] = Field([], max_length=_MOST_VALUES, description="Frequency class.")
    without: list[Literal["region", "channel", "need"]] = Field(
        [], max_length=_MOST_VALUES, description="Only customers of whom this is not known."
    )
    limit: int = Field(100, ge=1, le=_MOST_ON_A_PAGE, description="How many on a page, at most.")
    cursor: str | None = Field(
        None, description="Where a page begins; from `next` of the page before, with the same filters."
    )

    trailer: bool = Field(
        default=False,
        description="Of NDJSON: end with a line that says that this was everybody, or why it was not. Without it only "
        "the end of the body tells: one that was cut is broken off.",
    )

    @property
    def criteria(self) -> Criteria:
        wanted = {name: frozenset(map(str, getattr(self, name))) for name in Filter}
        return Criteria(
            {name: values for name, values in wanted.items() if values}, frozenset(map(Filter, self.without))
        )

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """As they stand in an address, but for the cursor."""
        named = [(name, str(value)) for name in (*Filter, "without") for value in getattr(self, name)]
        return [*named, ("limit", str(self.limit))]


@router.get(
    "/customers",
    summary="Customers by what they are",
    description="A page of segment answers, in byte order of the ids. Filters hold on the answers shown, for the "
    "current `as_of`; repeat one for any of several values. Follow `next` (also a `Link` header) until it is null: a "
    "page may be shorter than `limit` and not be the last. Whoever moves meanwhile appears at most once, and nobody "
    "who stays is skipped.\n\nWith `Accept: application/x-ndjson` or `Accept: text/csv` everybody at once, as a stream "
    'of one moment; what is cut is broken off. With `trailer=true` the last line of NDJSON is `{"complete": true, '
    '"as_of": ..., "customers": ...}`; the last row of CSV begins with `#complete` in any case.',
    response_model=listing_schemas.CustomersAnswer,
    responses={
        200: {
            "description": "A page, or with another `Accept` everybody.",
            "headers": {
                "Link": {"description": "Where the next page is, if there is one.", "schema": {"type": "string"}}
            },
            "content": {rendering.NDJSON: {}, rendering.CSV: {}},
        },
        **problems.responses(422, 429, 503),
    },
    tags=["customers"],
)
async def read_customers(
    question: Annotated[CustomersQuestion, Query()],
    context: InContext,
    language: InLanguage,
    accept: Annotated[
        str | None, Header(description="`application/json`, `application/x-ndjson` or `text/csv`.")
    ] = None,
) -> Response:
    headers = {"Content-Language": language, "Vary": "Accept, Accept-Language", "Cache-Control": "no-cache"}
    chosen = negotiating.choose_media_type(accept, (_JSON, *_FORMS))
    if chosen in _FORMS:
        for name in ("limit", "cursor"):
            if name in question.model_fields_set:
                problem = f"an export has no pages; leave it out, or ask for {_JSON}"
                wrong = InvalidField(field=f"query.{name}", problem=problem)
                raise ProblemAnswer(422, f"{wrong.field}: {wrong.problem}", errors=[wrong])
        pages = context.directory.everyone(question.criteria, now=context.now())
        form = rendering.CsvExport() if chosen == rendering.CSV else rendering.NdjsonExport(trailer=question.trailer)
        return Export(pages, form, language, context.exports, headers)
    asked = question.criteria.canonical()
    after = None
    if question.cursor is not None:
        after = read_customer_id(paging.place_of(question.cursor, asked))
    page = await context.directory.page(question.criteria, after=after, limit=question.limit, now=context.now())
    following = None
    if page.next_after is not None:
        cursor = paging.cursor_after(page.next_after, asked)
        following = paging.next_page("/customers", question.parameters, cursor)
    body = rendering.page_body(page.as_of, page.answers, following, language)
    return Response(body, media_type=_JSON, headers=headers | paging.link_header(following))


@router.get(
    "/segments",
    summary="The catalogue of segments, with counts and shares",
    description="Every segment of the policy in force, with nobody in it, too; on request by region and by industry. "
    "Counted for the current `as_of`, at the moment of asking; the counts add up to `customers`, which is that of "
    "`GET /ingest/status`.",
    responses=problems.responses(422, 503),
    tags=["segments"],
)
async def read_segments_summary(
    context: InContext,
    language: InLanguage,
    by: Annotated[
        list[Breakdown] | None, Query(max_length=2, description="Break each segment down: region, industry, or both.")
    ] = None,
    parts: Annotated[
        int, Query(ge=1, le=_MOST_ON_A_PAGE, description="How many regions to list of each segment, at most.")
    ] = 100,
) -> listing_schemas.SegmentsSummary:
    overview = await context.directory.segments(frozenset(by or ()), parts=parts, now=context.now())
    return summaries.present_segments_summary(overview, language)


@router.get(
    "/regions",
    summary="Everyone by region",
    description="Customers, effective tiers, and the share of what tiers are made of, for the current `as_of`. Regions "
    "are whatever the events say, so there may be very many: follow `next` until it is null.",
    responses={
        200: {
            "description": "A page of regions.",
            "headers": {
                "Link": {"description": "Where the next page is, if there is one.", "schema": {"type": "string"}}
            },
        },
        **problems.responses(422, 503),
    },
    tags=["regions"],
)
async def read_regions(
    context: InContext,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=_MOST_ON_A_PAGE, description="How many on a page, at most.")] = 100,
    cursor: Annotated[str | None, Query(description="Where a page begins; from `next` of the page before.")] = None,
) -> listing_schemas.RegionsAnswer:
    after = None if cursor is None else paging.place_of(cursor, "regions")
    overview = await context.directory.regions(after=after, limit=limit, now=context.now())
    following = None
    if overview.more:
        # The unknown region is the last one, so a page that has more after it ends with a known one.
        place = paging.cursor_after(overview.regions[-1].region or "", "regions")
        following = paging.next_page("/regions", [("limit", str(limit))], place)
    response.headers.update(paging.link_header(following))
    return summaries.present_regions(overview, context.decimals, following)
