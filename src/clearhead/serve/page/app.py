"""The page as a whole: which screen lies at which address, who may ask, and how it is served."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from fastapi.exceptions import RequestValidationError
from nicegui import app, ui
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from clearhead.core.errors import UserError
from clearhead.serve.page import compare, inside, runs, train, write
from clearhead.serve.page.options import OPTIONS
from clearhead.serve.page.places import Place
from clearhead.serve.page.studio import Studio
from clearhead.show import report

HOST = "127.0.0.1"
OWN_NAMES = {"127.0.0.1", "localhost"}


def serve(folder: Path, port: int, *, open_browser: bool) -> None:
    """Serve the page of a folder of runs until it is interrupted; trainings begun there are then stopped and saved."""
    studio = Studio(folder)
    add_screens(studio)
    app.add_middleware(OnlyFromHere)
    app.on_shutdown(studio.jobs.close)
    ui.run(
        host=HOST,
        port=port,
        title="Clearhead",
        show=open_browser,
        reload=False,
        show_welcome_message=False,
        favicon="🔎",
    )


def add_screens(studio: Studio) -> None:
    """Put each screen at its address."""

    @ui.page("/")
    @ui.page("/train")
    def _train(run: str = "") -> None:
        train.show(studio, run)

    @ui.page("/write")
    def _write(
        run: str = "",
        step: str = "",
        prompt: str = "",
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 1,
        length: int = 300,
    ) -> None:
        write.show(studio, Place(run, step, prompt), write.Settings(temperature, top_k, top_p, seed, length))

    @ui.page("/inside")
    def _inside(
        request: Request,
        run: str = "",
        step: str = "",
        prompt: str = "",
        subject: str = "attention",
        layer: int = 0,
        head: int = 0,
    ) -> None:
        asked = {name: text for name, text in request.query_params.items() if name in OPTIONS}
        inside.show(studio, Place(run, step, prompt), inside.Look(subject, layer, head, asked))

    @ui.page("/compare")
    def _compare(left: str = "", right: str = "", prompt: str = "") -> None:
        compare.show(studio, left, right, prompt)

    @ui.page("/runs")
    def _runs() -> None:
        runs.show(studio)

    @app.exception_handler(RequestValidationError)
    def _no_number(_: Request, error: RequestValidationError) -> Response:
        wrong = " and ".join(f"{each['loc'][-1]}={each['input']}" for each in error.errors())
        return PlainTextResponse(f"The address says {wrong}, where a number belongs.", status_code=422)

    @app.get("/reports/{name}")
    def _report(name: str) -> Response:
        try:
            return HTMLResponse(report.write(studio.run(name).path).read_text())
        except UserError as error:
            return PlainTextResponse(str(error), status_code=404)


class OnlyFromHere:
    """Refuses what another site's page could send in the name of whoever sits here, over HTTP and WebSockets alike.

    Such a page may let its own name lead to this machine, so Host must be ours; and it may post a form or open a
    socket here, so Origin, where there is one, must be ours too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or is_ours(Headers(scope=scope)):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await PlainTextResponse("This page answers only to this machine.", 403)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})


def is_ours(headers: Headers) -> bool:
    """Whether a request came under our own name and from one of our own pages, or from no page at all."""
    names = [f"//{headers.get('host', '')}", headers.get("origin") or f"//{HOST}"]
    return all(urlsplit(name).hostname in OWN_NAMES for name in names)
