"""What is seen of a service from outside: numbers for Prometheus, and a line of log per request."""

import asyncio
import json
import logging
from time import perf_counter, time
from uuid import uuid4

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The numbers of one service."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "gan_http_requests", "Requests answered.", ["route", "code"], registry=registry
        )
        self.duration = Histogram(
            "gan_http_request_duration_seconds", "From a request's head to the end of its answer.",
            ["route"], registry=registry,
        )  # fmt: skip
        self.inference = Histogram(
            "gan_inference_duration_seconds", "Of the images of one request.", registry=registry
        )
        self.images = Counter("gan_images_generated", "Images.", ["label"], registry=registry)
        self.queued = Gauge("gan_images_queued", "Images asked for, not made.", registry=registry)
        self.rejected = Counter(
            "gan_requests_rejected", "Requests refused unanswered.", ["reason"], registry=registry
        )
        self.model = Gauge("gan_model_info", "The model.", ["sha256", "data"], registry=registry)
        self.golden = Gauge(
            "gan_golden_differing_ratio", "Share of golden pixels unlike torch's.",
            registry=registry,
        )  # fmt: skip
        self.distance = Gauge(
            "gan_canary_frechet_distance", "Of balanced images to healthy ones.", registry=registry
        )
        self.agreement = Gauge(
            "gan_canary_label_agreement_ratio", "Balanced images read as asked for.",
            registry=registry,
        )  # fmt: skip
        self.faults = Gauge(
            "gan_check_faults", "Faults that the last check found.", registry=registry
        )
        self.checked = Gauge(
            "gan_check_last_timestamp_seconds", "When the last check ended.", registry=registry
        )


class Watch:
    """Times and counts every request, logs it as JSON, and ends those whose body does not come."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, body_seconds: float) -> None:
        self.app, self.metrics, self.body_seconds = app, metrics, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(receive, send, patience_s=self.body_seconds)
        started = perf_counter()
        try:
            await self.app(scope, exchange.receive, exchange.send)
        finally:
            seconds = perf_counter() - started
            route = getattr(scope.get("route"), "path", "unknown")
            self.metrics.requests.labels(route, exchange.status).inc()
            self.metrics.duration.labels(route).observe(seconds)
            log.info(
                json.dumps({
                    "time": round(time(), 3), "request": exchange.id, "method": scope["method"],
                    "route": route, "status": exchange.status, "ms": round(1000 * seconds, 1),
                    "client": (scope.get("client") or ["unknown"])[0],
                })
            )  # fmt: skip


class Exchange:
    """One request and its answer, as they pass by."""

    def __init__(self, receive: Receive, send: Send, *, patience_s: float) -> None:
        self.pass_in, self.pass_out = receive, send
        self.deadline = asyncio.get_running_loop().time() + patience_s
        self.id, self.status, self.is_whole, self.is_late = uuid4().hex, 500, False, False

    async def receive(self) -> Message:
        """The next part of the body; that the client is gone, if it has not come in time."""
        if self.is_whole:
            return await self.pass_in()
        try:
            async with asyncio.timeout_at(self.deadline):
                message = await self.pass_in()
        except TimeoutError:
            self.is_late = True
            return {"type": "http.disconnect"}
        self.is_whole = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self.is_late:
                message["status"] = 408
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", []),
                (b"x-request-id", self.id.encode()),
                (b"x-content-type-options", b"nosniff"),
                *([(b"connection", b"close")] if self.is_late else []),
            ]
        await self.pass_out(message)
