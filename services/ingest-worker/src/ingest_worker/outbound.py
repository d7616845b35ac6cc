"""A request to an address that a stranger gave: looked up once, judged, and called by the address that was judged.

Laws: a name is asked for once, and what is connected to is what was judged, so an answer that changes in between
changes nothing; redirects are not followed, no proxy of the environment is used, no connection outlives its request,
and of the answer nothing but the status is read.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import httpx

from segmentation.webhooks import WebhookRules, address_problem, url_problem

_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 10.0
_WHOLE_SECONDS: Final = 15.0
_PORTS: Final = {"http": 80, "https": 443}

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class NotSent(Exception):
    """There was no answer; says why."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, as the system's resolver says."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(each[4][0]) for each in found]


class Outbound:
    """Posts to webhooks."""

    def __init__(self, rules: WebhookRules, *, resolve: Resolve = resolve) -> None:
        self._rules = rules
        self._resolve = resolve
        self._context = httpx.create_ssl_context(trust_env=False)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of the answer.

        Raises:
            NotSent: the address may not be called, or did not answer.
        """
        try:
            async with asyncio.timeout(_WHOLE_SECONDS):
                return await self._post(url, body, headers)
        except TimeoutError:
            raise NotSent(f"no answer within {_WHOLE_SECONDS:g} s") from None
        except httpx.TimeoutException as error:
            raise NotSent(f"no answer in time ({type(error).__name__})") from None
        except (httpx.HTTPError, OSError) as error:
            raise NotSent(f"{type(error).__name__}: {error}"[:300]) from None

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        problem = url_problem(url, self._rules)
        if problem is not None:
            raise NotSent(problem)
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or _PORTS[parts.scheme]
        address = await self._judged(host, port)
        shown = f"[{address}]" if ":" in address else address
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        named = f"[{host}]" if ":" in host else host
        async with (
            httpx.AsyncClient(
                verify=self._context,
                trust_env=False,
                follow_redirects=False,
                timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            ) as client,
            client.stream(
                "POST",
                f"{parts.scheme}://{shown}:{port}{path or '/'}",
                content=body,
                headers={
                    "content-type": "application/json",
                    "user-agent": "Tierline",
                    **headers,
                    "host": named if port == _PORTS[parts.scheme] else f"{named}:{port}",
                },
                # The certificate has to be the name's, not the address's.
                extensions={"sni_hostname": host},
            ) as answer,
        ):
            return answer.status_code

    async def _judged(self, host: str, port: int) -> str:
        try:
            addresses = await self._resolve(host, port)
        except OSError:
            raise NotSent(f"the name {host} is not known") from None
        for each in addresses:
            # A zone is of this machine's own networks, so it says nothing to judge by.
            problem = address_problem(ipaddress.ip_address(each.partition("%")[0]), self._rules)
            if problem is not None:
                raise NotSent(f"{host}: {problem}")
        if not addresses:
            raise NotSent(f"the name {host} has no address")
        return addresses[0]
