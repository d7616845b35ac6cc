"""Looking around over HTTP: pages and their cursors, exports and their ends, counts; and bulk answers as NDJSON."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import PROBLEM_TYPE, Api, running
from tests.support.builders import a_complaint, a_customer, an_order

from segment_api import paging, rendering
from segment_api.exporting import Slots
from segment_api.routes.listing import CustomersQuestion
from segmentation.listing import CLOSED, MAY_BE_WITHOUT, Filter
from segmentation.storage import directory
from segmentation.storage.engine import create_engine, transaction

NDJSON: Final = {"Accept": "application/x-ndjson"}
CSV: Final = {"Accept": "text/csv"}
_numbers: Final = itertools.count(1)


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    async with running(engine) as api:
        yield api


def order_of(customer_id: str, amount: str = "10.00", **fields: Any) -> dict[str, Any]:
    name = f"o-{next(_numbers)}"
    return an_order(event_id=name, order_id=name, customer_id=customer_id, amount=amount, **fields)


def profile_of(customer_id: str, **fields: Any) -> dict[str, Any]:
    return a_customer(event_id=f"p-{next(_numbers)}", customer_id=customer_id, **fields)


async def pages(api: Api, path: str) -> AsyncIterator[dict[str, Any]]:
    """Every page, by following `next`, which the header has to repeat."""
    following: str | None = path
    while following is not None:
        answer = await api.ask(following)
        page: dict[str, Any] = answer.json()
        following = page["next"]
        assert answer.headers.get("link") == (following and f'<{following}>; rel="next"')
        yield page


async def listed(api: Api, path: str) -> list[str]:
    return [row["customer_id"] async for page in pages(api, path) for row in page["customers"]]


async def refused(api: Api, path: str, **request: Any) -> str:
    answer = await api.ask(path, status=422, **request)
    assert answer.headers["content-type"] == PROBLEM_TYPE
    detail: str = answer.json()["detail"]
    return detail


def lines(answer: httpx.Response) -> list[Any]:
    assert answer.text.endswith("\n")
    return [json.loads(line) for line in answer.text.splitlines()]


# --- pages ----------------------------------------------------------------------------------------------------------


async def test_rows_are_the_segment_answers(api: Api) -> None:
    """Byte for byte what the customer's own address says, in the language asked for."""
    await api.fed(order_of("a"), order_of("b", "900.00"), profile_of("c", region="north"))
    for language in ("en", "zh"):
        request = {"headers": {"Accept-Language": language}}
        page = await api.read("/customers", **request)
        assert page["as_of"] == api.as_of.isoformat()
        assert page["customers"] == [await api.segment(each, **request) for each in ("a", "b", "c")]
        assert page["next"] is None


async def test_ids_come_in_byte_order(api: Api) -> None:
    ids = ["a", "B", "b", "a.1", "a-1", "A", "0", "a:1"]
    await api.fed(*map(order_of, ids))
    assert await listed(api, "/customers?limit=3") == sorted(ids, key=str.encode)


async def test_a_filter_given_twice_means_any_and_two_filters_mean_both(api: Api) -> None:
    await api.fed(
        profile_of("a", region="north", industry="retail"),
        profile_of("b", region="south", industry="retail"),
        profile_of("c", region="east", industry="pharma"),
        profile_of("d"),
    )
    assert await listed(api, "/customers?region=north&region=east") == ["a", "c"]
    assert await listed(api, "/customers?region=north&region=east&industry=pharma") == ["c"]
    assert await listed(api, "/customers?industry=unknown") == ["d"]
    assert await listed(api, "/customers?without=region") == ["d"]
    assert await listed(api, "/customers?without=region&without=channel&industry=retail") == []


async def test_a_region_is_found_by_whatever_it_is_called(api: Api) -> None:
    """Also across pages: the address of the next one is written as addresses are."""
    names = ["华东", "a&b=c", "50 % + x", "", "'; --", "ÿ"]
    for name in names:
        await api.feed(*(profile_of(f"{names.index(name)}-{number}", region=name) for number in range(3)))
    await api.settle()
    for place, name in enumerate(names):
        found = await listed(api, f"/customers?limit=2&region={quote(name, safe='')}")
        assert found == [f"{place}-{number}" for number in range(3)], name


async def test_an_open_value_that_nobody_has_is_an_empty_page(api: Api) -> None:
    await api.fed(order_of("a"))
    for name in ("region", "channel", "need"):
        page = await api.read(f"/customers?{name}=nowhere")
        assert (page["customers"], page["next"]) == ([], None)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("tier=D", ["query.tier", "'A'", "'unrated'"]),
        ("lifecycle=gone", ["query.lifecycle", "'won_back'"]),
        ("industry=logistics", ["query.industry", "'ecommerce'"]),
        ("grade=top", ["query.grade", "'strategic'"]),
        ("segment=nobody", ["query.segment: 'nobody'", "strategic", "standard"]),
        ("service_level=gold", ["query.service_level: 'gold'", "vip"]),
        ("tire=A", ["query.tire"]),
        ("limit=1001", ["query.limit", "1000"]),
        ("region=%00", ["query.region", "U+0000"]),
        ("without=tier", ["query.without", "'region'"]),
    ],
)
async def test_what_nobody_can_have_is_refused_with_what_there_is(api: Api, query: str, named: list[str]) -> None:
    """A slip in a filter lists nobody, or everybody; so it is no filter."""
    await api.fed(order_of("a"))
    detail = await refused(api, f"/customers?{query}")
    assert all(word in detail for word in named), detail


def test_the_filters_are_the_domains_with_their_values() -> None:
    """The question is written out for the document; this holds it to the domain's own lists."""
    properties = CustomersQuestion.model_json_schema()["properties"]
    assert set(properties) == {*Filter, "without", "limit", "cursor", "trailer"}
    definitions = CustomersQuestion.model_json_schema()["$defs"]
    for name, values in CLOSED.items():
        items = properties[name]["items"]
        items = definitions[items["$ref"].rpartition("/")[2]] if "$ref" in items else items
        assert items["enum"] == list(values), name
    assert properties["without"]["items"]["enum"] == [name.value for name in MAY_BE_WITHOUT]


# --- cursors --------------------------------------------------------------------------------------------------------


async def cursor_of(api: Api, path: str) -> str:
    following = (await api.read(path))["next"]
    return str(httpx.URL(following).params["cursor"])


async def test_a_cursor_that_was_altered_is_refused_with_what_to_do(api: Api) -> None:
    await api.fed(*map(order_of, "abc"))
    cursor = await cursor_of(api, "/customers?limit=1")
    for wrong in (cursor[:-1], cursor + "A", cursor[1:], cursor.swapcase(), "", "?", "x" * 5_000, "é", cursor + "="):
        detail = await refused(api, f"/customers?limit=1&cursor={quote(wrong)}")
        assert "query.cursor" in detail
        assert "`next`" in detail or "other filters" in detail
    assert (await api.read(f"/customers?cursor={cursor}"))["customers"][0]["customer_id"] == "b"


async def test_a_cursor_belongs_to_its_filters_and_not_to_its_limit(api: Api) -> None:
    await api.fed(*(profile_of(each, region="north", channel="web") for each in "abcd"))
    cursor = await cursor_of(api, "/customers?limit=1&region=north&channel=web")
    assert await listed(api, f"/customers?limit=2&channel=web&region=north&cursor={cursor}") == ["b", "c", "d"]
    for other in ("", "&region=north", "&region=north&channel=web&tier=A", "&region=web&channel=north"):
        assert "other filters" in await refused(api, f"/customers?cursor={cursor}{other}")
    assert "query.cursor" in await refused(api, f"/regions?cursor={cursor}")


async def test_a_cursor_that_nobody_gave_is_refused_whatever_place_it_names(api: Api) -> None:
    await api.fed(order_of("a"))
    for question in ("", "regions", "([], [])"):
        made_up = paging.cursor_after("zzz", question)
        if question != "([], [])":
            assert "query.cursor" in await refused(api, f"/customers?cursor={made_up}")
    assert (await api.read(f"/customers?cursor={paging.cursor_after('zzz', '([], [])')}"))["customers"] == []


async def test_whoever_moves_appears_at_most_once_and_whoever_stays_once(api: Api) -> None:
    """Between any two pages customers come, go and change sides."""
    ids = [f"c-{number:02d}" for number in range(12)]
    await api.fed(*(profile_of(each, region="north") for each in ids))
    stays = set(ids)
    seen: list[str] = []
    moves = iter([("c-00", "south"), ("c-11", "south"), ("c-05", "south"), ("c-05", "north"), ("a-00", "north")])
    day = itertools.count(2)
    async for page in pages(api, "/customers?region=north&limit=2"):
        seen += [row["customer_id"] for row in page["customers"]]
        for customer_id, region in itertools.islice(moves, 1):
            stays.discard(customer_id)
            moved = profile_of(customer_id, region=region, occurred_at=f"2026-03-{next(day):02d}T00:00:00Z")
            await api.feed(moved)
    assert len(seen) == len(set(seen))
    assert stays <= set(seen) <= {*ids, "a-00"}
    assert seen == sorted(seen)


async def test_a_day_that_passes_moves_customers_without_any_event(api: Api) -> None:
    """Nobody has swept: the row says `new`, the answer `at_risk` and then `lost`, and the filter goes by the answer."""
    today = api.clock.now.strftime("%Y-%m-%dT00:00:00Z")
    await api.fed(order_of("a", occurred_at=today), order_of("b", occurred_at=today))
    stages = set()
    for _ in range(8):
        stage = (await api.segment("a"))["lifecycle"]
        stages.add(stage)
        page = await api.read(f"/customers?lifecycle={stage}")
        assert "a" in [row["customer_id"] for row in page["customers"]]
        assert {row["lifecycle"] for row in page["customers"]} == {stage}
        counts = (await api.read("/segments"))["segments"]
        assert sum(each["customers"] for each in counts) == 2
        code = (await api.segment("a"))["segment"]["code"]
        assert next(each for each in counts if each["code"] == code)["customers"] >= 1
        api.clock.advance(days=60)
    assert len(stages) >= 3


@pytest.mark.parametrize(
    "stands",
    [
        "due_on = as_of",
        "policy_version = policy_version - 1",
        "policy_version = policy_version + 1",
        "model_version = model_version - 1",
        "model_version = model_version + 1",
        "as_of = as_of - 1, churn_probability = 0.5, behaviour = 'a-former-one', confidence = 1, expected_value = 0",
        "as_of = as_of + 1",
        "due_on = as_of, policy_version = policy_version - 1, model_version = model_version + 1",
    ],
)
async def test_whoever_is_due_for_whatever_reason_is_counted_once_and_anew(
    api: Api, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, stands: str
) -> None:
    """Nobody is left out because the search for those who are due and the count of the others disagree."""
    await api.fed(order_of("a"), order_of("b"))
    counted = (await api.read("/segments"))["segments"]
    async with transaction(engine) as connection:
        await connection.execute(text("SET LOCAL session_replication_role = replica"))  # versions that there are not
        await connection.execute(
            text(f"UPDATE snapshots SET segment = 'a-former-one', {stands} WHERE customer_id = 'a'")
        )
        await connection.execute(text("UPDATE tier_state SET as_of = (SELECT max(as_of) FROM snapshots)"))
    found = await api.read("/segments")
    assert (found["segments"], found["overdue"], found["customers"]) == (counted, 0, 2)
    monkeypatch.setattr(directory, "_MOST_OVERDUE", 0)
    found = await api.read("/segments")
    assert (found["overdue"], found["customers"]) == (1, 2)
    assert [each["customers"] for each in found["segments"] if each["code"] == "a-former-one"] == [1]


# --- exports --------------------------------------------------------------------------------------------------------


async def test_ndjson_is_a_line_each_and_one_that_says_that_was_all(api: Api) -> None:
    await api.fed(*(profile_of(each, region="north") for each in "ab"), order_of("c"))
    answer = await api.ask("/customers?region=north&trailer=true", headers=NDJSON | {"Accept-Language": "zh"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    *rows, last = lines(answer)
    assert rows == [await api.segment(each, headers={"Accept-Language": "zh"}) for each in "ab"]
    assert last == {"complete": True, "as_of": api.as_of.isoformat(), "customers": 2}
    plain = await api.ask("/customers?region=north", headers=NDJSON | {"Accept-Language": "zh"})
    assert lines(plain) == rows
    assert f"customers-{api.as_of}.ndjson" in answer.headers["content-disposition"]


async def test_csv_is_a_table_with_a_header_and_a_last_row_that_says_that_was_all(api: Api) -> None:
    await api.fed(profile_of("a", region='say "hi", 华东\r\nthere', needs={"basic": ["timely", "safe"]}), order_of("b"))
    answer = await api.ask("/customers", headers=CSV)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    header, first, second, last = csv.reader(io.StringIO(answer.content.decode(), newline=""), strict=True)
    assert header == list(rendering.COLUMNS)
    shown = dict(zip(header, first, strict=True))
    segment = await api.segment("a")
    assert (shown["customer_id"], shown["region"]) == ("a", 'say "hi", 华东\r\nthere')
    assert shown["needs"] == "safe timely"
    assert shown["segment_name"] == segment["segment"]["name"]
    assert shown["service_level"] == segment["recommended_service_level"]["code"]
    assert shown["updated_at"] == segment["updated_at"]
    assert dict(zip(header, second, strict=True))["region"] == ""
    assert last == ["#complete", api.as_of.isoformat(), "2", *[""] * (len(header) - 3)]
    assert answer.content.count(b"\r\n") == 5


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "＝1", "＋1", "－1", "＠x"])
async def test_no_cell_of_a_csv_is_a_formula(api: Api, name: str) -> None:
    """Whoever sends events chooses what a region is called; a spreadsheet would run it."""
    await api.fed(profile_of("a", region=name, channel=f"a{name}"))
    answer = await api.ask("/customers", headers=CSV)
    header, row, _ = csv.reader(io.StringIO(answer.content.decode(), newline=""), strict=True)
    shown = dict(zip(header, row, strict=True))
    assert (shown["region"], shown["channel"]) == (f"'{name}", f"a{name}")


async def test_an_export_of_nobody_is_complete_too(engine: AsyncEngine) -> None:
    async with running(engine, clock="event") as api:
        assert (await api.ask("/customers", headers=NDJSON)).content == b""
        ended = await api.ask("/customers?trailer=true", headers=NDJSON)
        assert lines(ended) == [{"complete": True, "as_of": None, "customers": 0}]
        header, last = (await api.ask("/customers", headers=CSV)).text.splitlines()
        assert header == ",".join(rendering.COLUMNS)
        assert last.startswith("#complete,,0,")


@pytest.mark.parametrize("accept", [NDJSON, CSV], ids=["ndjson", "csv"])
async def test_an_export_has_no_pages_and_refuses_as_an_answer_does(api: Api, accept: dict[str, str]) -> None:
    """Before a byte is sent: the status says it."""
    await api.fed(order_of("a"))
    assert "query.limit: an export has no pages" in await refused(api, "/customers?limit=5", headers=accept)
    assert "query.cursor: an export has no pages" in await refused(api, "/customers?cursor=x", headers=accept)
    assert "query.segment: 'nobody'" in await refused(api, "/customers?segment=nobody", headers=accept)


async def test_there_are_only_so_many_exports_at_once(api: Api) -> None:
    """The next one is told when to come again; one that has ended frees its place."""
    await api.fed(order_of("a"))
    slots: Slots = api.client._transport.app.state.context.exports  # type: ignore[attr-defined]
    with slots.one(), slots.one():
        answer = await api.ask("/customers", status=429, headers=NDJSON)
        assert answer.headers["content-type"] == PROBLEM_TYPE
        assert int(answer.headers["retry-after"]) > 0
        assert (await api.read("/customers"))["customers"]
    for _ in range(5):
        assert len(lines(await api.ask("/customers", headers=NDJSON))) == 1
    assert slots.taken == 0


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/html, */*;q=0.8", "application/json"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/json;q=0.5, text/csv", "text/csv; charset=utf-8; header=present"),
        ("text/*", "text/csv; charset=utf-8; header=present"),
        ("application/x-ndjson;q=0, application/json", "application/json"),
        ("image/png", "application/json"),
    ],
)
async def test_the_form_wanted_most_is_given(api: Api, accept: str | None, expected: str) -> None:
    await api.fed(order_of("a"))
    answer = await api.ask("/customers", headers={} if accept is None else {"Accept": accept})
    assert answer.headers["content-type"] == expected
    assert answer.headers["vary"] == "Accept, Accept-Language"


# --- counts ---------------------------------------------------------------------------------------------------------


async def test_segments_are_all_of_the_policy_and_add_up(api: Api) -> None:
    """Names in the language asked for; who is nowhere is nowhere."""
    await api.fed(
        *(order_of(each, "900.00", region="north") for each in "abc"),
        order_of("d", "1.00", region="south"),
        a_complaint(customer_id="e"),
    )
    summary = await api.read("/segments?by=region&by=industry", headers={"Accept-Language": "zh"})
    assert summary["customers"] == 5 == (await api.read("/ingest/status"))["customers"]
    assert sum(each["customers"] for each in summary["segments"]) == 5
    assert sum(each["share"] for each in summary["segments"]) == pytest.approx(1)
    empty = [each for each in summary["segments"] if not each["customers"]]
    assert empty
    assert all(each["share"] == 0 and each["regions"] == [] for each in empty)
    for each in summary["segments"]:
        asked = await api.read(f"/customers?segment={each['code']}", headers={"Accept-Language": "zh"})
        assert len(asked["customers"]) == each["customers"]
        assert {row["segment"]["name"] for row in asked["customers"]} <= {each["name"]}
        assert sum(part["customers"] for part in each["regions"]) == each["customers"]
        assert sum(part["customers"] for part in each["industries"]) == each["customers"]
    plain = await api.read("/segments")
    assert all(each["regions"] is each["industries"] is each["other_regions"] is None for each in plain["segments"])


async def test_regions_beyond_those_listed_are_counted(api: Api) -> None:
    await api.fed(*(profile_of(f"c-{number}", region=f"r-{number % 4}") for number in range(10)))
    filled = [each for each in (await api.read("/segments?by=region&parts=2"))["segments"] if each["customers"]]
    (only,) = filled
    assert only["regions"] == [
        {"region": "r-0", "customers": 3, "share": 0.3},
        {"region": "r-1", "customers": 3, "share": 0.3},
    ]
    assert only["other_regions"] == {"regions": 2, "customers": 4}


async def test_regions_are_paged_and_the_unknown_one_is_last(api: Api) -> None:
    await api.fed(
        order_of("a", "80.00", region="north"),
        order_of("b", "15.00", region="华东"),
        order_of("c", "5.00", region=""),
        profile_of("d"),
        order_of("e", "0.00"),
    )
    for limit in (1, 2, 5, 100):
        found = [page async for page in pages(api, f"/regions?limit={limit}")]
        assert {(page["customers"], page["total"]) for page in found} == {(5, "100.00")}
        regions = [each for page in found for each in page["regions"]]
        assert [each["region"] for each in regions] == ["", "north", "华东", None]
        assert [each["share"] for each in regions] == [0.05, 0.8, 0.15, 0.0]
        assert [each["net_revenue"] for each in regions] == ["5.00", "80.00", "15.00", "0.00"]
        assert {each["tier"]: each["customers"] for each in regions[1]["tiers"]} == {
            "A": 1,
            "B": 0,
            "C": 0,
            "unrated": 0,
        }
        assert [each["customers"] for each in regions] == [1, 1, 1, 2]


async def test_counts_move_with_the_data(api: Api) -> None:
    await api.fed(profile_of("a", region="north"))
    before = await api.read("/regions")
    await api.fed(profile_of("b", region="north"))
    after = await api.read("/regions")
    assert (before["regions"][0]["customers"], after["regions"][0]["customers"]) == (1, 2)


# --- in bulk --------------------------------------------------------------------------------------------------------


async def bulk(
    api: Api, content: bytes | Iterable[str], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    body = content if isinstance(content, bytes) else "\n".join(map(json.dumps, content)).encode()
    answer = await api.client.post(
        "/customers/segments", content=body, headers={"Content-Type": "application/x-ndjson", **(headers or {})}
    )
    assert answer.status_code == status, answer.text
    return answer


async def test_ndjson_in_is_what_json_in_is(api: Api) -> None:
    """Plain ids, objects, empty lines, a byte-order mark, and the other line ends."""
    await api.fed(order_of("a"), order_of("b"))
    as_json = await api.segments("b", "?", "a", "b")
    body = b'\xef\xbb\xbf"b"\r\n\n{"customer_id": "?", "note": 1}\n  "a"  \n"b"'
    assert (await bulk(api, body)).json() == as_json
    assert [each["customer_id"] for each in as_json["customers"]] == ["b", "a"]
    assert [each["customer_id"] for each in as_json["unknown"]] == ["?"]


async def test_ndjson_out_is_a_line_for_each_in_the_order_asked_for(api: Api) -> None:
    await api.fed(order_of("a"), order_of("b"))
    answer = await bulk(api, ["b", "?", "a", "b", "?"], headers=NDJSON)
    assert answer.headers["content-type"] == "application/x-ndjson"
    known, unknown, other = lines(answer)
    assert [known, other] == [await api.segment("b"), await api.segment("a")]
    default = (await api.segments("?"))["unknown"][0]["recommended_service_level"]
    assert unknown == {"customer_id": "?", "as_of": api.as_of.isoformat(), "recommended_service_level": default}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'"a"\n{', "body.line 2"),
        (b"a", "body.line 1"),
        (b'"a"\n\n17', "body.line 3"),
        (b'{"id": "a"}', "body.line 1"),
        (b'"\xff"', "body.line 1"),
        (b"[" * 100_000, "body.line 1"),
        (b'"\\ud800"', "body.customer_ids.0"),
    ],
)
async def test_a_line_that_is_no_id_is_refused_by_its_number(api: Api, body: bytes, named: str) -> None:
    answer = await bulk(api, body, status=422)
    assert answer.headers["content-type"] == PROBLEM_TYPE
    assert named in answer.json()["detail"]


async def test_ten_thousand_are_answered_and_one_more_is_refused(api: Api) -> None:
    """Whichever way they come."""
    await api.fed(*(order_of(f"c-{number}") for number in range(20)))
    ids = [f"c-{number}" for number in range(10_000)]
    answer = await bulk(api, ids)
    assert (len(answer.json()["customers"]), len(answer.json()["unknown"])) == (20, 9_980)
    assert "customer_ids" in (await bulk(api, [*ids, "more"], status=422)).json()["detail"]


# --- nothing is cut short in silence --------------------------------------------------------------------------------


async def test_every_list_says_where_it_goes_on(api: Api) -> None:
    """More than any page holds by itself, of everything that is listed."""
    await api.fed(*(order_of(f"c-{number:03d}", region=f"r-{number:03d}") for number in range(120)))
    for path, rows in (("/customers", "customers"), ("/regions", "regions")):
        found = [page async for page in pages(api, path)]
        assert [len(page[rows]) for page in found] == [100, 20]
