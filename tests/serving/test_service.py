"""The real service in a process of its own: answers, refusals, load, and an end in good order."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from socket import create_connection
from tempfile import NamedTemporaryFile
from time import monotonic, sleep
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from fastapi.exceptions import RequestValidationError
from PIL import Image

from src.serving.asked import choose_kind, index_of
from src.serving.bundle import Bundle
from src.serving.check import main
from tests.pages import ROOT


class Running(NamedTuple):
    process: subprocess.Popen[bytes]
    url: str


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    content: bytes


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Running]:
    """Start the service on a free port, and end it."""
    command = [sys.executable, "-m", "src.serving", str(folder), "--port", "0"]
    with NamedTemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=log)
        try:
            deadline = monotonic() + 60
            while not (found := re.search(r"http://127\.0\.0\.1:\d+", Path(log.name).read_text())):
                assert process.poll() is None
                assert monotonic() < deadline
                sleep(0.02)
            yield Running(process, found[0])
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def service(exported: Path) -> Iterator[Running]:
    with serving(exported, BODY_SECONDS="2") as running:
        yield running


def ask(url: str, body: Any = None, **headers: str) -> Answer:
    content = (
        json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
    )
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"} | headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Answer(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, dict(error.headers), error.read())


def images_of(service: Running, body: Any) -> Answer:
    return ask(f"{service.url}/v1/images", body, Accept="application/x-npy")


def test_a_seed_means_the_same_images_as_in_the_folder(service: Running, exported: Path) -> None:
    answer = images_of(service, {"labels": [5, "3"], "n": 8, "seed": 7})
    labels = np.array([5, 3]).repeat(8)
    assert np.array_equal(np.load(BytesIO(answer.content)), Bundle(exported).of_seed(labels, 7))
    assert answer.headers["x-seed"] == "7"
    drawn = images_of(service, {"labels": 5})
    again = images_of(service, {"labels": 5, "seed": int(drawn.headers["x-seed"])})
    assert drawn.content == again.content


def test_noise_may_be_given(service: Running, exported: Path) -> None:
    golden = Bundle(exported).golden
    body = {"labels": golden["labels"][:2].tolist(), "noise": golden["noise"][:2].tolist()}
    answer = images_of(service, body)
    assert np.array_equal(np.load(BytesIO(answer.content)), golden["images"][:2])


def test_pictures_say_that_they_are_made_and_by_what(service: Running, exported: Path) -> None:
    answer = ask(f"{service.url}/v1/images", {"labels": "all", "n": 3, "seed": 1})
    with Image.open(BytesIO(answer.content)) as picture:
        assert picture.size == (2 * (3 * 30 + 2), 2 * (10 * 30 + 2))
        assert "trainedAlgorithmicMedia" in picture.info["XML:com.adobe.xmp"]
        assert Bundle(exported).sha256 in picture.info["Software"]
    body = {"labels": [5, 3], "n": 2, "seed": 1}
    answer = ask(f"{service.url}/v1/images", body, Accept="application/zip")
    arrays = np.load(BytesIO(images_of(service, body).content))
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["5/0001.png", "5/0002.png", "3/0001.png", "3/0002.png"]
        for name, pixels in zip(archive.namelist(), arrays, strict=True):
            assert np.array_equal(Image.open(archive.open(name)), pixels[0])


BAD: list[tuple[Any, int]] = [
    (b"", 422),
    (b"[", 422),
    (b"\xff\xfe", 422),
    (b'{"labels": [NaN]}', 422),
    (b'{"labels": [1e400]}', 422),
    ({"labels": 10**30}, 422),
    ({"labels": -1}, 422),
    ({"labels": 10}, 422),
    ({"labels": "cat"}, 422),
    ({"labels": True}, 422),
    ({"labels": []}, 422),
    ({"labels": 5, "n": 0}, 422),
    ({"labels": 5, "n": 1_025}, 422),
    ({"labels": 5, "seed": -1}, 422),
    ({"labels": 5, "noise": [[0.0] * 63]}, 422),
    ({"labels": 5, "noise": [[0.0] * 63 + ["a"]]}, 422),
    ({"labels": 5, "noise": [[0.0] * 63 + [10**400]]}, 422),
    (b'{"labels": 5, "noise": [[' + b"NaN," * 63 + b"NaN]]}", 422),
    ({"labels": 5, "colour": "magenta"}, 422),
]


@pytest.mark.parametrize(("body", "status"), BAD, ids=[str(body)[:40] for body, _ in BAD])
def test_what_is_wrong_is_refused_without_repeating_it(
    service: Running, body: Any, status: int
) -> None:
    answer = images_of(service, body)
    assert answer.status == status
    assert b"cat" not in answer.content
    assert b"magenta" not in answer.content


def test_the_description_knows_the_generator(service: Running) -> None:
    schema = json.loads(ask(f"{service.url}/openapi.json").content)
    properties = schema["components"]["schemas"]["Asked"]["properties"]
    label, *_ = properties["labels"]["anyOf"]
    assert label["enum"] == [*"0123456789", *range(10)]
    row = properties["noise"]["anyOf"][0]["items"]
    assert (row["minItems"], row["maxItems"]) == (64, 64)


def test_an_unknown_type_of_answer_is_refused(service: Running) -> None:
    assert ask(f"{service.url}/v1/images", {"labels": 5}, Accept="text/html").status == 406
    assert (
        ask(f"{service.url}/v1/images", {"labels": 5}, Accept="text/html, */*;q=0.1").status == 200
    )


@pytest.mark.parametrize(("length", "status"), [(100, 408), (2**20, 413)])
def test_a_body_that_is_slow_or_too_large_is_not_waited_for(
    service: Running, length: int, status: int
) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    head = "POST /v1/images HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    with create_connection((host, int(port))) as slow:
        slow.sendall(f"{head}Content-Length: {length}\r\n\r\n{{".encode())
        slow.settimeout(10)
        assert slow.recv(100).startswith(f"HTTP/1.1 {status}".encode())


def test_the_model_says_what_it_is(service: Running, exported: Path) -> None:
    said = json.loads(ask(f"{service.url}/v1/model").content)
    assert said["class_names"] == [*"0123456789"]
    assert said["image_shape"] == [1, 28, 28]
    assert said["sha256"]["generator.onnx"] == Bundle(exported).sha256
    ready = json.loads(ask(f"{service.url}/readyz").content)
    assert ready["ready"]
    assert ready["golden_largest"] <= 1


def test_prometheus_sees_requests_images_and_health(service: Running) -> None:
    before = numbers(service)
    images_of(service, {"labels": [7], "n": 3})
    images_of(service, {"labels": -1})
    after = numbers(service)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown('gan_images_generated_total{label="7"}') == 3
    assert grown('gan_http_requests_total{code="200",route="/v1/images"}') == 1
    assert grown('gan_http_requests_total{code="422",route="/v1/images"}') >= 1
    assert after["gan_images_queued"] == 0
    assert after["gan_check_faults"] == 0
    assert 0.99 < after["gan_canary_label_agreement_ratio"] <= 1


def numbers(service: Running) -> dict[str, float]:
    lines = ask(f"{service.url}/metrics").content.decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def test_the_check_asks_a_service_as_a_client_does(service: Running, exported: Path) -> None:
    assert main([str(exported), "--url", service.url]) == 0
    assert main([str(exported), "--url", "http://127.0.0.1:9"]) == 1


def test_only_those_with_a_key_get_images_and_only_so_many(exported: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("old\nnew\n")
    limits = {"API_KEYS_FILE": str(keys), "IMAGES_PER_MINUTE": "10"}
    with serving(exported, **limits) as service:
        url = f"{service.url}/v1/images"
        assert ask(url, {"labels": 5}).status == 401
        assert ask(url, {"labels": 5}, Authorization="Bearer other").status == 401
        assert ask(service.url).status == 404  # the page holds the generator
        for key in ("old", "new"):
            mine = {"Authorization": f"Bearer {key}"}
            assert ask(url, {"labels": 5, "n": 10}, **mine).status == 200
            refused = ask(url, {"labels": 5, "n": 5}, **mine)
            assert refused.status == 429
            assert 20 < int(refused.headers["retry-after"]) <= 31
            assert ask(url, {"labels": 5, "n": 5}, Authorization=f"bearer  {key}").status == 429
        assert ask(f"{service.url}/healthz").status == 200


def test_too_many_at_once_are_turned_away_and_the_rest_is_served(exported: Path) -> None:
    with serving(exported, MOST_QUEUED="2048") as service, ThreadPoolExecutor(16) as pool:
        body = {"labels": 5, "n": 1_024}
        answers = [*pool.map(lambda _: images_of(service, body), range(48))]
        counts = {status: sum(each.status == status for each in answers) for status in (200, 503)}
        assert sum(counts.values()) == 48
        assert counts[200] >= 2
        assert counts[503] >= 1
        assert numbers(service)["gan_images_queued"] == 0


def test_the_end_lets_those_finish_who_are_there(exported: Path) -> None:
    with serving(exported) as service, ThreadPoolExecutor(5) as pool:
        body = {"labels": 5, "n": 1_024}
        asked = [pool.submit(images_of, service, body) for _ in range(5)]
        deadline = monotonic() + 10
        while numbers(service)["gan_images_queued"] == 0 and monotonic() < deadline:
            sleep(0.001)
        service.process.send_signal(signal.SIGTERM)
        assert [each.result().status for each in asked] == [200] * 5
        assert service.process.wait(10) in (0, -signal.SIGTERM)  # which uvicorn raises again


@pytest.mark.parametrize(
    "environment",
    [
        {"API_KEYS": " , "},
        {"API_KEYS_FILE": "nowhere"},
        {"MOST_IMAGES": "0"},
        {"BODY_SECONDS": "a"},
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_one_sentence(
    exported: Path, environment: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "src.serving", str(exported)]
    told = os.environ | environment
    ended = subprocess.run(
        command, cwd=ROOT, env=told, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: {next(iter(environment))}")
    assert ended.stderr.count("\n") == 1


def test_numbers_mean_classes_only_where_no_name_is_a_number() -> None:
    assert index_of(1, ["cat", "dog"]) == 1
    assert index_of("dog", ["cat", "dog"]) == 1
    assert index_of(2, ["0", "1", "10", "2"]) == 3
    for label, names in ((0, ["1", "2"]), (2, ["cat", "dog"]), (-1, ["cat"]), (10**30, ["cat"])):
        with pytest.raises(RequestValidationError):
            index_of(label, names)


@pytest.mark.parametrize(
    ("accepted", "kind"),
    [
        ("", "image/png"),
        ("text/html, image/*;q=0.5", "image/png"),
        ("image/png;q=0.3, application/zip; q=0.8", "application/zip"),
        ("application/x-npy;q=0, */*;q=0.1", "image/png"),
    ],
)
def test_the_type_of_greatest_weight_is_answered(accepted: str, kind: str) -> None:
    assert choose_kind(accepted) == kind


def test_a_damaged_folder_is_not_served(exported: Path, tmp_path: Path) -> None:
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "generator.onnx").write_bytes(b"")
    command = [sys.executable, "-m", "src.serving", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert "as SHA256SUMS says" in ended.stderr


def test_alerts_ask_for_numbers_that_there_are(service: Running) -> None:
    images_of(service, {"labels": 5})
    text = (ROOT / "src/serving/alerts.yaml").read_text()
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    asked = {name for rule in rules for name in re.findall(r"gan_\w+", rule["expr"])}
    there = set(re.findall(r"^(gan_\w+)", ask(f"{service.url}/metrics").content.decode(), re.M))
    assert asked - {"gan_requests_rejected_total"} <= there  # which none has been yet
    assert all(rule["annotations"]["summary"].endswith(".") for rule in rules)
