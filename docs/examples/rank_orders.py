"""A dispatcher's script: which of the orders in a file goes first, and why.

    python docs/examples/rank_orders.py --api http://127.0.0.1:8080 --first 20 orders.json

`orders.json` is a list such as [{"order_id": "O-77", "customer_id": "C-1042", "promised_at": "2026-11-22T11:15:30Z",
"waiting_since": "2026-11-22T06:15:30Z"}]; `-` reads it from the standard input. It needs nothing but Python 3.11.
"""

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

TRIES = 5


def rank(api: str, orders: list[dict[str, Any]], *, scale: str, language: str, key: str | None) -> dict[str, Any]:
    """The orders in rank order; an API that is busy or cut off is asked again after as long as it says."""
    headers = {"Content-Type": "application/json", "Accept-Language": language}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    body = json.dumps({"orders": orders}).encode()
    for last in (*[False] * (TRIES - 1), True):
        question = urllib.request.Request(f"{api}/dispatch/priorities?scale={scale}", data=body, headers=headers)
        try:
            with urllib.request.urlopen(question, timeout=30) as answer:
                ranking: dict[str, Any] = json.load(answer)
                return ranking
        except urllib.error.HTTPError as problem:
            if last or problem.code not in (429, 503):
                raise SystemExit(f"{problem.code}: {json.load(problem)['detail']}") from None
            time.sleep(int(problem.headers.get("Retry-After", "2")))
    raise AssertionError


def main() -> None:
    """Reads orders, asks, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("orders", help="a JSON file with a list of orders, or - for the standard input")
    parser.add_argument("--api", default="http://127.0.0.1:8080", help="where Tierline listens")
    parser.add_argument("--first", type=int, default=20, help="so many are printed")
    parser.add_argument("--scale", default="tierline", choices=("tierline", "sap", "vroom"))
    parser.add_argument("--language", default="en", choices=("en", "zh"))
    parser.add_argument("--key-file", type=Path, help="a file that holds nothing but an API key")
    asked = parser.parse_args()
    text = sys.stdin.read() if asked.orders == "-" else Path(asked.orders).read_text(encoding="utf-8")
    key = None if asked.key_file is None else asked.key_file.read_text(encoding="utf-8").strip()
    ranking = rank(asked.api, json.loads(text), scale=asked.scale, language=asked.language, key=key)
    behind = ", tiers are behind" if ranking["stale"] else ""
    print(f"{len(ranking['orders'])} orders at {ranking['at']}{behind}")
    for order in ranking["orders"][: asked.first]:
        place = f"{order['rank']:>5}  {order['priority']:>3}  {order['order_id']:<20} {order['customer_id']:<20}"
        print(f"{place} {'; '.join(order['reasons'])}")


if __name__ == "__main__":
    main()
