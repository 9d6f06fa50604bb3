"""Who may use the web page: the right name, the right origin, the right token; and what a browser may do with it.

Checks come before everything else, for HTTP and WebSocket alike:

- the ``Host`` header must be a name of ours: a page of somebody else's whose name was made to point here (DNS
  rebinding) sends its own;
- where there is an ``Origin``, it must be that host, but for reading: another site's page can open a WebSocket to us,
  but cannot lie about where it comes from;
- away from loopback each request must carry the token, in a cookie that ``?token=`` sets once, or as
  ``Authorization: Bearer``.
"""

import hmac
import html
import ipaddress
from collections.abc import Iterable
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

COOKIE: Final = "mird-token"
READING: Final = ("GET", "HEAD")

_DOOR = """<!doctype html><html lang="en"><meta charset="utf-8"><title>mird</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="/static/style.css">
<body class="door"><h1>mird</h1><p>{}</p><form method="get" action="{}"><label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Open</button></form></body></html>"""


class Guard:
    """ASGI middleware; see above.

    Parameters
    ----------
    app : ASGIApp
    names : iterable of str
        Host names, without port, that are ours; an address of a network is ours where there is a token.
    token : str
        Empty where none is needed.
    port : int
        Of the address that is listened at; cookies do not tell ports apart, but their names can.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str], token: str, port: int) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names)
        self._token = token
        self._cookie = f"{COOKIE}-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is not allowed here, and hand on what is."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        answer = self._objection(scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if answer is None:
            await self._app(scope, receive, send_guarded)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: 403
        else:
            await answer(scope, receive, send_guarded)

    def _objection(self, scope: Scope) -> Response | None:
        """The answer to a request that may not pass."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(_host_name(host)):
            return PlainTextResponse(
                f"{host[:100]!r} is no name of this page; if it is one of this machine's, start mird web with "
                "--allow-host NAME\n",
                HTTPStatus.MISDIRECTED_REQUEST,
            )
        origin = headers.get("origin")
        reads = scope["type"] == "http" and scope["method"] in READING
        if origin is not None and not reads and urlsplit(origin).netloc.lower() != host.lower():
            return PlainTextResponse("another site's page may not use this one\n", HTTPStatus.FORBIDDEN)
        if not self._token or self._knows_token(headers):
            return None
        if scope["type"] == "http" and reads:
            if scope["path"] == "/static/style.css":
                return None  # how the door looks is no secret
            return self._door(scope)
        return PlainTextResponse("the token is missing or wrong\n", HTTPStatus.UNAUTHORIZED)

    def _door(self, scope: Scope) -> Response:
        """Let in who brings the token in the address, and ask everybody else for it."""
        query = parse_qsl(scope["query_string"].decode("latin-1"))
        given = [value for name, value in query if name == "token"]
        path = "/" + scope["path"].lstrip("/\\")
        if given and _same(given[-1], self._token):
            rest = urlencode([pair for pair in query if pair[0] != "token"])
            response: Response = RedirectResponse(path + (f"?{rest}" if rest else ""), HTTPStatus.SEE_OTHER)
            response.set_cookie(self._cookie, self._token, max_age=30 * 86_400, httponly=True, samesite="lax")
            return response
        text = "This token is not the right one." if given else "This page needs the token that mird web showed."
        return HTMLResponse(_DOOR.format(text, html.escape(path, quote=True)), HTTPStatus.UNAUTHORIZED)

    def _knows_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(given.strip(), self._token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and _same(cookie.value, self._token)

    def _is_ours(self, name: str) -> bool:
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return bool(self._token)  # an address cannot be made to point elsewhere


def _host_name(host: str) -> str:
    """A Host header without its port and brackets, in small letters."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same(given: str, token: str) -> bool:
    """Compare in a time that does not tell how much was right."""
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())
