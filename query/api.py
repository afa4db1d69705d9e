"""The HTTP API, version 1: search, timeline and logs, each answer with its coverage (CONTRACTS sections 9 and 10)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from ashiato import __version__
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import query as ast
from ashiato.core.errors import AshiatoError, RejectedError, TransientError
from ashiato.core.instant import parse_instant
from ashiato.core.limits import QUERY_ROWS_MAX
from ashiato.core.ports import Clock
from ashiato.core.query_text import parse
from query.access import AccessLog
from query.answer import Answer, coverage_line, to_ndjson
from query.engine import Engine, LogsRequest, TimelineRequest
from query.events import AnswerFailed
from query.guard import Guard, read_token
from query.pods_answer import PodsRequest, to_lines
from query.problems import problem, problem_of, status_of
from query.settings import QuerySettings

T = TypeVar("T")

NDJSON: Final = "application/x-ndjson"
READY_NS: Final = 1_000_000_000
"""How long the archive that has answered is taken to be there."""
COVERAGE_HEADER: Final = "Ashiato-Coverage"

Time = Annotated[str, Field(description="RFC 3339, or ns since 1970; half open, empty is unbounded", max_length=64)]
_NDJSON_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {NDJSON: {}}, "description": "Records, one a line; the last line is the coverage."}
}
_TEXT_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/plain": {}}, "description": f"The bytes; the coverage is in the header {COVERAGE_HEADER}."}
}


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SearchQuestion(_Asked):
    """What is searched."""

    q: Annotated[str, Field(description="Lucene-style query; * is everything", max_length=20_000)] = "*"
    start: Time = ""
    end: Time = ""
    limit: Annotated[int, Field(ge=1, le=QUERY_ROWS_MAX)] = 1000
    order: Literal["oldest_first", "newest_first"] = "newest_first"


class TimelineQuestion(_Asked):
    """Where a timeline starts."""

    anchor: Annotated[
        str, Field(description="pod:[ns/]NAME uid: workload: node: image: sa:ns/name user: ip:", max_length=2048)
    ]
    start: Time = ""
    end: Time = ""
    limit: Annotated[int, Field(ge=1, le=QUERY_ROWS_MAX)] = 10_000


class LogsQuestion(_Asked):
    """As the flags of ``kubectl logs``."""

    pod: Annotated[str, Field(description="NAME, NAMESPACE/NAME or uid:UID", min_length=1, max_length=1024)]
    namespace: Annotated[str, Field(max_length=256)] = ""
    container: Annotated[str, Field(max_length=256)] = ""
    previous: bool = False
    timestamps: bool = False
    raw: bool = False
    start: Time = ""


class PodsQuestion(_Asked):
    """Which pods: all that were there in a time, or at a moment."""

    node: Annotated[str, Field(max_length=256)] = ""
    namespace: Annotated[str, Field(max_length=256)] = ""
    at: Time = ""
    start: Time = ""
    end: Time = ""


def make_app(settings: QuerySettings, engine: Engine, *, clock: Clock, telemetry: Telemetry) -> Guard:
    """Return the service, behind its guard.

    Raises:
        SettingsError: no token, or one that others can read.

    """
    token = read_token(settings.token_file)
    access = AccessLog(Path(settings.access_dir)) if settings.access_dir else None
    service = _Service(settings, engine, clock, telemetry)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.close()
        if access is not None:
            access.close()

    app = FastAPI(
        title="Ashiato query", version=__version__, lifespan=lifespan, redoc_url=None,
        description="Container logs that outlive their containers. Every answer says what it could not see.",
    )  # fmt: skip
    _problems(app, telemetry)
    _health(app, service)
    _questions(app, service)
    return Guard(app, token=token, access=access, clock=clock, telemetry=telemetry)


class _Service:
    """What the routes share: the engine, and a limit on how much of it is used."""

    def __init__(self, settings: QuerySettings, engine: Engine, clock: Clock, telemetry: Telemetry) -> None:
        self.engine = engine
        self.telemetry = telemetry
        self._timeout_s = settings.answer_timeout_s
        self._at_once = asyncio.Semaphore(settings.answers_at_once)
        self._clock = clock
        self._checking = asyncio.Lock()
        self._ready_until_nano: int | None = None

    async def check(self) -> None:
        """Reach the archive, but not for everybody who asks: no token is needed to ask this."""
        async with self._checking:
            now = self._clock.monotonic_nano()
            if self._ready_until_nano is None or now >= self._ready_until_nano:
                self._ready_until_nano = None
                await self.engine.check()
                self._ready_until_nano = now + READY_NS

    async def search(self, request: Request, question: SearchQuestion) -> Response:
        """Answer a search."""
        query = ast.Query(
            where=parse(question.q),
            time_start_unix_nano=_time(question.start),
            time_end_unix_nano=_time(question.end),
            limit=question.limit,
            order=question.order,
        )
        return _streamed(await self._answered(request, self.engine.search(query)))

    async def timeline(self, request: Request, question: TimelineQuestion) -> Response:
        """Answer with a timeline."""
        wanted = TimelineRequest(
            anchor=question.anchor,
            time_start_unix_nano=_time(question.start),
            time_end_unix_nano=_time(question.end),
            limit=question.limit,
        )
        return _streamed(await self._answered(request, self.engine.timeline(wanted)))

    async def logs(self, request: Request, question: LogsQuestion) -> Response:
        """Answer with the bytes of a log, and their coverage in a header."""
        wanted = LogsRequest(
            pod=question.pod,
            namespace=question.namespace,
            container=question.container,
            previous=question.previous,
            timestamps=question.timestamps,
            raw=question.raw,
            time_start_unix_nano=_time(question.start),
        )
        answer = await self._answered(request, self.engine.logs(wanted))
        # Without a charset: these are the bytes that the container wrote, whatever they are.
        headers = {COVERAGE_HEADER: coverage_line(answer.coverage), "Content-Type": "text/plain"}
        return Response(answer.content, headers=headers)

    async def pods(self, request: Request, question: PodsQuestion) -> Response:
        """Answer with pods."""
        at, start, end = _time(question.at), _time(question.start), _time(question.end)
        if at is not None and (start is not None or end is not None):
            raise RejectedError("name a moment (at), or a time (start, end), not both")
        wanted = PodsRequest(
            node=question.node, namespace=question.namespace, time_start_unix_nano=start if at is None else at,
            time_end_unix_nano=end if at is None else at + 1,
        )  # fmt: skip
        answer = await self._answered(request, self.engine.pods(wanted))
        return StreamingResponse((line + b"\n" for line in to_lines(answer)), media_type=NDJSON)

    async def _answered(self, request: Request, asked: Coroutine[Any, Any, T]) -> T:
        """Await an answer within its time, for as long as somebody waits for it."""
        task = asyncio.create_task(self._in_turn(asked))
        gone = asyncio.create_task(_gone(request))
        try:
            async with asyncio.timeout(self._timeout_s):
                done, _ = await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if task not in done:
                raise _GoneError("nobody waits for the answer any more")
            return task.result()
        except TimeoutError as error:
            raise TransientError(f"no answer within {self._timeout_s:g} s: ask for less time or fewer rows") from error
        finally:
            for one in (task, gone):
                one.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)
            asked.close()

    async def _in_turn(self, asked: Coroutine[Any, Any, T]) -> T:
        async with self._at_once:
            return await asked


class _GoneError(TransientError):
    """Who asked has left: that is nobody's fault."""


async def _gone(request: Request) -> None:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return


def _questions(app: FastAPI, service: _Service) -> None:
    """Offer each question to GET (parameters) and to POST (a JSON body)."""

    @app.get("/v1/search", responses=_NDJSON_ANSWER, response_class=StreamingResponse, operation_id="search")
    async def search(request: Request, question: Annotated[SearchQuestion, Query()]) -> Response:
        """Find records."""
        return await service.search(request, question)

    @app.post("/v1/search", responses=_NDJSON_ANSWER, response_class=StreamingResponse, operation_id="search_post")
    async def search_post(request: Request, question: SearchQuestion) -> Response:
        """Find records."""
        return await service.search(request, question)

    @app.get("/v1/timeline", responses=_NDJSON_ANSWER, response_class=StreamingResponse, operation_id="timeline")
    async def timeline(request: Request, question: Annotated[TimelineQuestion, Query()]) -> Response:
        """Tell what happened around an anchor, of all sources, oldest first."""
        return await service.timeline(request, question)

    @app.post("/v1/timeline", responses=_NDJSON_ANSWER, response_class=StreamingResponse, operation_id="timeline_post")
    async def timeline_post(request: Request, question: TimelineQuestion) -> Response:
        """Tell what happened around an anchor, of all sources, oldest first."""
        return await service.timeline(request, question)

    @app.get("/v1/logs", responses=_TEXT_ANSWER, response_class=Response, operation_id="logs")
    async def logs(request: Request, question: Annotated[LogsQuestion, Query()]) -> Response:
        """Print what kubectl logs would have printed."""
        return await service.logs(request, question)

    @app.post("/v1/logs", responses=_TEXT_ANSWER, response_class=Response, operation_id="logs_post")
    async def logs_post(request: Request, question: LogsQuestion) -> Response:
        """Print what kubectl logs would have printed."""
        return await service.logs(request, question)

    @app.get("/v1/pods", responses=_NDJSON_ANSWER, response_class=StreamingResponse, operation_id="pods")
    async def pods(request: Request, question: Annotated[PodsQuestion, Query()]) -> Response:
        """List what ran where and when, the gone included."""
        return await service.pods(request, question)

    @app.post("/v1/pods", responses=_NDJSON_ANSWER, response_class=StreamingResponse, operation_id="pods_post")
    async def pods_post(request: Request, question: PodsQuestion) -> Response:
        """List what ran where and when, the gone included."""
        return await service.pods(request, question)


def _health(app: FastAPI, service: _Service) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process runs."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Say that the archive answers."""
        await service.check()
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return the metrics in Prometheus' text format."""
        return Response(service.telemetry.exposition(), media_type="text/plain; version=0.0.4")


def _problems(app: FastAPI, telemetry: Telemetry) -> None:
    @app.exception_handler(AshiatoError)
    async def known(_: Request, error: Exception) -> Response:
        assert isinstance(error, AshiatoError)
        if status_of(error) >= 500 and not isinstance(error, _GoneError):
            telemetry.emit(AnswerFailed(code=error.code, error=str(error)))
        return problem_of(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        told = "; ".join(_told(one["loc"][1:], one["msg"]) for one in error.errors())
        return problem(400, told, code="rejected")

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, str(error.detail), code="http", headers=error.headers)

    @app.exception_handler(Exception)
    async def unknown(_: Request, error: Exception) -> Response:
        telemetry.emit(AnswerFailed(code="bug", error=type(error).__name__))
        return problem(500, "an error of ours: it is in the service's log", code="bug")


def _told(where: Sequence[object], what: str) -> str:
    return f"{'.'.join(map(str, where))}: {what}" if where else f"the body is no JSON object of a question: {what}"


def _streamed(answer: Answer) -> Response:
    def lines() -> Iterator[bytes]:
        yield from to_ndjson(answer)

    return StreamingResponse(lines(), media_type=NDJSON)


def _time(text: str) -> int | None:
    return parse_instant(text) if text else None
