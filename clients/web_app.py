"""The web page's server: static files, one WebSocket a browser, and clips to enrol."""

import asyncio
import contextlib
import re
import signal
import socket as sockets
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from mird.clients.errors import ClientError, ListenError
from mird.clients.web_browser import MAX_FRAME_BYTES, Browser
from mird.clients.web_feed import Feed

MAX_CLIP_BYTES: Final = 64 << 20
MAX_UPLOADS: Final = 2
UPLOAD_S: Final = 60.0
MAX_BROWSERS: Final = 64
TRY_AGAIN_LATER: Final = 1013

EnrollClip = Callable[[Path, str, int | None], dict[str, Any]]
"""Enrols a file as a class, of one channel or the loudest: returns the report. What it cannot do it raises with an
`exit_status`, and one line for people."""


class UploadError(ClientError):
    """A clip was not taken.

    Attributes
    ----------
    status : int
        Of the HTTP answer.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def make_app(feed: Feed, enroll_clip: EnrollClip) -> Starlette:
    """The routes.

    Parameters
    ----------
    feed : Feed
    enroll_clip : EnrollClip
        Called in threads.
    """
    folder = Path(str(files("mird.clients").joinpath("web")))
    uploads = asyncio.Semaphore(MAX_UPLOADS)

    def page(name: str) -> Callable[[Request], Response]:
        return lambda _: FileResponse(folder / name)

    async def enroll(request: Request) -> Response:
        try:
            async with uploads, asyncio.timeout(UPLOAD_S), _clip(request) as clip:
                name, channel = _wanted(request)
                report = await asyncio.to_thread(enroll_clip, clip, name, channel)
            await feed.refresh()
        except TimeoutError:
            return JSONResponse({"error": f"the clip did not come within {UPLOAD_S:.0f} s; send a shorter one"}, 408)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:
            if not isinstance(getattr(error, "exit_status", None), int):
                raise
            return JSONResponse({"error": " ".join(str(error).split())}, getattr(error, "status", 422))
        return JSONResponse(report)

    async def live(socket: WebSocket) -> None:
        await socket.accept()
        if len(feed.viewers) >= MAX_BROWSERS:
            await socket.close(TRY_AGAIN_LATER, f"there are {MAX_BROWSERS} browsers already")
            return
        await Browser(socket, feed).serve()

    return Starlette(
        routes=[
            Route("/", page("index.html")),
            Route("/overlay", page("overlay.html")),
            Route("/enroll", enroll, methods=["POST"]),
            WebSocketRoute("/live", live),
            Mount("/static", StaticFiles(directory=folder)),
        ]
    )


def listen_at(host: str, port: int) -> sockets.socket:
    """A listening socket.

    Raises
    ------
    ListenError
        The address is in use, or not this machine's.
    """
    try:
        family, kind, protocol, _, address = sockets.getaddrinfo(
            host, port, type=sockets.SOCK_STREAM, flags=sockets.AI_PASSIVE
        )[0]
        listener = sockets.socket(family, kind, protocol)
        try:
            listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(64)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ListenError(
            f"cannot listen at {host}:{port}: {error.strerror or error}; stop what does, or choose another: "
            "--listen ADDRESS:PORT"
        ) from error
    return listener


async def serve(app: Any, feed: Feed, listener: sockets.socket) -> None:
    """Serve until SIGINT or SIGTERM.

    Parameters
    ----------
    app : ASGI application
    feed : Feed
        Run meanwhile.
    listener : socket
        Listening; closed at the end.
    """
    server = _Server(
        uvicorn.Config(
            app,
            ws="websockets-sansio",
            ws_max_size=MAX_FRAME_BYTES,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            log_level="error",  # what strangers send is no news
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=256,
            timeout_graceful_shutdown=1,
        )
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.end)
    feeding = asyncio.create_task(feed.run())
    feeding.add_done_callback(lambda _: server.end())
    try:
        await server.serve(sockets=[listener])
    finally:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self) -> None:
        self.should_exit = True


def _wanted(request: Request) -> tuple[str, int | None]:
    """The class and the channel that a clip is for."""
    name, channel = request.query_params.get("name", ""), request.query_params.get("channel", "")
    if not name:
        raise UploadError("the clip has no name: say what it is")
    if channel and not (channel.isascii() and channel.isdigit() and len(channel) < 6):
        raise UploadError(f"channel {channel[:20]!r} is no number")
    return name, int(channel) if channel else None


@contextlib.asynccontextmanager
async def _clip(request: Request) -> AsyncIterator[Path]:
    """The body of a request as a file of its name in a folder of its own.

    Raises
    ------
    UploadError
        It is too large or empty.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > MAX_CLIP_BYTES:
        raise _too_large()
    name = re.sub(r"[^\w .()+-]", "_", request.query_params.get("file", "").rpartition("/")[2])[-100:].lstrip(".")
    with tempfile.TemporaryDirectory(prefix="mird-web-") as folder:
        path = Path(folder) / (name or "clip")
        n_bytes = 0
        with path.open("wb") as file:
            async for chunk in request.stream():
                n_bytes += len(chunk)
                if n_bytes > MAX_CLIP_BYTES:
                    raise _too_large()
                file.write(chunk)
        if not n_bytes:
            raise UploadError(f"{path.name} is empty: choose an audio file with sound in it")
        yield path


def _too_large() -> UploadError:
    return UploadError(f"the clip has more than {MAX_CLIP_BYTES >> 20} MB: send a part of it", 413)
