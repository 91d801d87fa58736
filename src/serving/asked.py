"""What a request may ask for, and what is meant by it."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from src.serving.bundle import Bundle
from src.serving.pictures import ENCODERS

MOST_SEED = 2**53 - 1  # which JSON carries whole wherever it is read


def whole(value: Any) -> Any:
    """Refuse truth values, which Python counts as integers, and take 3.0, as JSON does."""
    if isinstance(value, bool):
        raise ValueError("a number or a name is needed, not a truth value")  # noqa: TRY004 - pydantic's
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(whole)]
Label = Annotated[int | str, BeforeValidator(whole)]


class Asked(BaseModel):
    """What is asked for: ``n`` images of each label, class after class."""

    model_config = ConfigDict(extra="forbid", strict=True)

    labels: Label | list[Label] = Field(examples=[5, [3, 8], "all"])
    n: Whole = Field(1, ge=1, description="images of each label")
    seed: Whole | None = Field(
        None, ge=0, le=MOST_SEED, description="as of task=generate; a fresh one unless it is given"
    )
    noise: list[Any] | None = Field(
        None, description="standard normal numbers (N, *noise_shape), in place of a seed"
    )


def describe(schema: dict[str, Any], bundle: Bundle) -> None:
    """Let the description of a service name the classes and the noise of its own generator."""
    names = bundle.class_names
    numbers = [int(name) for name in names if name.isdecimal()] or [*range(len(names))]
    label = {"enum": [*names, *numbers]}
    properties = schema["components"]["schemas"]["Asked"]["properties"]
    many = {"type": "array", "items": label, "minItems": 1}
    properties["labels"]["anyOf"] = [label, {"const": "all"}, many]
    largest = float(np.finfo(np.float32).max)
    noise: dict[str, Any] = {"type": "number", "minimum": -largest, "maximum": largest}
    for size in reversed(bundle.noise_shape):
        noise = {"type": "array", "items": noise, "minItems": size, "maxItems": size}
    properties["noise"]["anyOf"] = [{"type": "array", "items": noise}, {"type": "null"}]


def choose_labels(asked: Asked, *, names: Sequence[str], most: int) -> NDArray[np.int64]:
    """The class indices (N,) that are asked for.

    Raises:
        RequestValidationError: if there is no such class, or they are too many.
    """
    typed = asked.labels if isinstance(asked.labels, list) else [asked.labels]
    typed = [*names] if typed == ["all"] and "all" not in names else typed
    if not typed or len(typed) * asked.n > most:
        raise wrong("labels", f"labels and n ask for no image, or for more than {most:,}")
    numbers = [index_of(label, names) for label in typed]
    return np.array(numbers, dtype=np.int64).repeat(asked.n)


def index_of(label: int | str, names: Sequence[str]) -> int:
    """The index of a class by its name, or by its number where no name is a number.

    Raises:
        RequestValidationError: if there is no such class.
    """
    text = str(label)
    if text in names:
        return names.index(text)
    is_index = text.isdecimal() and not any(name.isdecimal() for name in names)
    if is_index and len(text) < 10 and int(text) < len(names):
        return int(text)
    raise wrong("labels", f"there is no such class: /v1/model lists all {len(names)}")


def choose_noise(asked: Asked, *, n: int, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """The noise (N, *shape) that is given, if any is.

    Raises:
        RequestValidationError: if it is no such array of finite numbers, or a seed is given too.
    """
    if asked.noise is None:
        return None
    try:
        noise = np.array(asked.noise, dtype=np.float32)
        is_right = noise.shape == (n, *shape) and bool(np.isfinite(noise).all())
    except (ValueError, TypeError, OverflowError):
        is_right = False
    if not is_right or asked.seed is not None:
        raise wrong("noise", f"noise must be {(n, *shape)} finite numbers, without a seed")
    return noise


def wrong(name: str, said: str) -> RequestValidationError:
    """The refusal of a body for what it holds under ``name``."""
    return RequestValidationError([{"loc": ("body", name), "msg": said, "type": "value_error"}])


def choose_kind(accepted: str) -> str:
    """The type of answer that an Accept header wants most.

    Raises:
        HTTPException: if it is none of ours.
    """
    for part in sorted(accepted.split(","), key=weight, reverse=True):
        kind = part.partition(";")[0].strip().lower()
        if weight(part) and kind in ENCODERS:
            return kind
        if weight(part) and kind in ("", "*/*", "image/*"):
            return "image/png"
    raise HTTPException(406, f"Accept one of {', '.join(ENCODERS)}")


def weight(part: str) -> float:
    """The weight of one type in an Accept header (RFC 9110, 12.4.2); 1 unless it is readable."""
    found = re.search(r";\s*q=([01](\.\d*)?)\s*$", part)
    return float(found[1]) if found else 1.0
