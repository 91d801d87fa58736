"""The service: images of a verified folder over HTTP."""

import asyncio
import hmac
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from time import perf_counter, time
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from numpy.typing import NDArray
from prometheus_client import generate_latest
from starlette.types import ASGIApp

from src.serving.asked import Asked, choose_kind, choose_labels, choose_noise, describe
from src.serving.bundle import PAGE, Bundle, Images
from src.serving.check import Verdict, verdict
from src.serving.limits import Buckets
from src.serving.pictures import ENCODERS
from src.serving.settings import Settings
from src.serving.watch import Metrics, Watch

T = TypeVar("T")
PAGE_POLICY = (  # nothing from anywhere else
    "default-src 'none'; script-src 'unsafe-inline' blob: 'wasm-unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data:; connect-src blob: data:"
)


Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))]

REFUSALS = {
    400: "The body is no text in UTF-8.",
    401: "A key is needed.",
    406: "No type of answer that is accepted is ours.",
    408: "The body has not come in time.",
    413: "The body is too large.",
    429: "Too many images within a minute.",
    503: "Too many images are queued.",
}


class Server:
    """Makes images in one worker thread, so that memory stays flat, and queues only so many."""

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        self.bundle, self.settings, self.metrics = bundle, settings, Metrics()
        self.pool = ThreadPoolExecutor(1, "generator")
        self.buckets = Buckets(settings.images_per_minute)
        self.queued = 0
        self.verdict = Verdict({}, ["not checked yet"])
        self.metrics.model.labels(bundle.sha256, bundle.metadata["data"]).set(1)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Be ready once the first check is over, and repeat it until the end."""
        await self.check()
        checks = asyncio.create_task(self.check_for_ever())
        yield
        checks.cancel()
        self.pool.shutdown()

    async def work(self, task: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.pool, task)

    async def check(self) -> None:
        """Compare golden images, and judge a canary of a fresh seed."""
        try:
            seed = secrets.randbelow(2**31)
            self.verdict = await self.work(lambda: verdict(self.bundle, self.bundle, seed=seed))
        except Exception as error:  # noqa: BLE001 - whatever it is, the next check may pass
            self.verdict = Verdict({}, [f"the check has failed: {error}"])
        found, metrics = self.verdict.found, self.metrics
        if "golden_differing_ppm" in found:
            metrics.golden.set(found["golden_differing_ppm"] / 1e6)
        if "canary_distance" in found:
            metrics.distance.set(found["canary_distance"])
            metrics.agreement.set(found["canary_agreement"])
        metrics.faults.set(len(self.verdict.faults))
        metrics.checked.set(time())

    async def check_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.settings.check_seconds)
            await self.check()

    async def images(self, asked: Asked, request: Request) -> Response:
        """Make images of classes: a PNG sheet, a zip of PNGs, or a NumPy array, by Accept."""
        bundle = self.bundle
        kind = choose_kind(request.headers.get("accept", ""))
        labels = choose_labels(asked, names=bundle.class_names, most=self.settings.most_images)
        noise = choose_noise(asked, n=len(labels), shape=bundle.noise_shape)
        seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
        self.admit(self.who(request), len(labels))
        try:
            content = await self.work(lambda: self.make(labels, seed, noise, kind))
        finally:
            self.leave(len(labels))
        headers = {"X-Model": bundle.sha256} | ({} if noise is not None else {"X-Seed": str(seed)})
        return Response(content, media_type=kind, headers=headers)

    async def page(self) -> FileResponse:
        """Show the page that generates in the browser."""
        return FileResponse(
            self.bundle.folder / PAGE,
            media_type="text/html",
            headers={"Content-Security-Policy": PAGE_POLICY},
        )

    async def model(self) -> dict[str, Any]:
        """What is served: the classes, the shapes, the hashes and the limits."""
        bundle, settings = self.bundle, self.settings
        return {
            **bundle.facts,
            "sha256": bundle.sha256s,
            "most_images": settings.most_images,
            "images_per_minute": settings.images_per_minute,
        }

    async def healthz(self) -> dict[str, bool]:
        """Say that the process lives."""
        return {"alive": True}

    async def readyz(self) -> JSONResponse:
        """Say whether the last check of golden images and a canary has found no fault."""
        found = self.verdict
        said = {"ready": not found.faults, "sha256": self.bundle.sha256, **found.found}
        return JSONResponse(said | {"faults": found.faults}, 503 if found.faults else 200)

    async def numbers(self) -> Response:
        """Numbers for Prometheus."""
        return Response(generate_latest(self.metrics.registry), media_type="text/plain")

    def require_key(self, request: Request, credentials: Credentials) -> None:
        """Refuse a request without one of the keys, and remember which it has.

        Raises:
            HTTPException: 401.
        """
        given = credentials.credentials.encode() if credentials else b""
        matches = [hmac.compare_digest(given, key.encode()) for key in self.settings.keys]
        request.state.key = matches.index(True) if any(matches) else None
        if request.state.key is None:  # once all were compared, so that time tells nothing
            raise HTTPException(401, "a key is needed", {"WWW-Authenticate": "Bearer"})

    def who(self, request: Request) -> str:
        """Whose images are counted together: those of one key, or else of one address."""
        if self.settings.keys:
            return f"key {request.state.key}"
        return request.client.host if request.client else "unknown"

    def admit(self, client: str, n: int) -> None:
        """Take ``n`` images into the queue.

        Raises:
            HTTPException: if the queue is full, or the client has asked for too many.
        """
        if self.queued + n > self.settings.most_queued:
            self.metrics.rejected.labels("queue").inc()
            raise HTTPException(503, "busy: try again", {"Retry-After": "1"})
        if wait := self.buckets.wait(client, n):
            self.metrics.rejected.labels("rate").inc()
            limit = f"at most {self.settings.images_per_minute:,} images a minute"
            raise HTTPException(429, limit, {"Retry-After": str(int(wait) + 1)})
        self.queued += n
        self.metrics.queued.set(self.queued)

    def leave(self, n: int) -> None:
        self.queued -= n
        self.metrics.queued.set(self.queued)

    def make(
        self, labels: NDArray[np.int64], seed: int, noise: NDArray[np.float32] | None, kind: str
    ) -> bytes:
        started = perf_counter()
        if noise is None:
            noise = self.bundle.draw(len(labels), seed=seed)
        images: Images = self.bundle.of_noise(noise, labels)
        self.metrics.inference.observe(perf_counter() - started)
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            self.metrics.images.labels(self.bundle.class_names[label]).inc(int(count))
        return ENCODERS[kind](self.bundle, images, labels)


def make_app(bundle: Bundle, settings: Settings) -> ASGIApp:
    """The service of a folder, as an ASGI application."""
    server = Server(bundle, settings)
    app = FastAPI(
        title=f"Images of {bundle.metadata['data']}", version=bundle.sha256[:8],
        lifespan=server.lifespan, max_body_size=settings.most_bytes,
    )  # fmt: skip
    app.add_exception_handler(RequestValidationError, say_what_is_wrong)
    app.add_api_route(
        "/v1/images", server.images, methods=["POST"], response_class=Response,
        dependencies=[Security(server.require_key)] if settings.keys else [],
        responses={
            200: {"content": {kind: {} for kind in ENCODERS}},
            **{code: {"description": said} for code, said in REFUSALS.items()},
        },
    )  # fmt: skip
    if PAGE in bundle.sha256s and not settings.keys:  # for it holds the generator
        app.add_api_route("/", server.page, response_class=FileResponse, include_in_schema=False)
    app.add_api_route("/v1/model", server.model)
    app.add_api_route("/healthz", server.healthz)
    app.add_api_route("/readyz", server.readyz, responses={503: {"description": "A fault."}})
    app.add_api_route("/metrics", server.numbers, response_class=Response)
    describe(app.openapi(), bundle)
    return Watch(app, server.metrics, body_seconds=settings.body_seconds)


async def say_what_is_wrong(_: Request, error: Exception) -> JSONResponse:
    """Say where a body is wrong and why, without the values in it."""
    assert isinstance(error, RequestValidationError)
    detail = [
        {"loc": each["loc"], "msg": each["msg"], "type": each["type"]} for each in error.errors()
    ]
    return JSONResponse({"detail": detail}, 422)
