"""From ``trainer.gpus`` to the Trainer's own three arguments."""

from typing import Any

import pytest

from src.configuration.devices import DDP, choose_devices
from src.errors import InputError

CPU = ("cpu", 1, "auto")


def chosen(gpus: Any, *, available: int = 4, **explicit: Any) -> tuple[Any, Any, Any]:
    arguments = choose_devices(gpus, available=available, **explicit)
    assert arguments.keys() == {"accelerator", "devices", "strategy"}
    return arguments["accelerator"], arguments["devices"], arguments["strategy"]


def test_two_players_need_ddp_that_finds_unused_parameters() -> None:
    assert DDP == "ddp_find_unused_parameters_true"


@pytest.mark.parametrize("gpus", [0, None, "0", "", []])
@pytest.mark.parametrize("available", [0, 4])
def test_no_gpus_means_one_cpu(gpus: Any, available: int) -> None:
    assert chosen(gpus, available=available) == CPU


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        (1, ("gpu", 1, "auto")),
        ("1", ("gpu", 1, "auto")),
        ([2], ("gpu", [2], "auto")),
        ("2,", ("gpu", [2], "auto")),
        (2, ("gpu", 2, DDP)),
        ("2", ("gpu", 2, DDP)),
        (4, ("gpu", 4, DDP)),
        ([0, 3], ("gpu", [0, 3], DDP)),
        ("0,1", ("gpu", [0, 1], DDP)),
        ("0, 1", ("gpu", [0, 1], DDP)),
        (-1, ("gpu", 4, DDP)),
        ("-1", ("gpu", 4, DDP)),
        ("auto", ("auto", "auto", DDP)),
    ],
)
def test_gpus_on_a_machine_with_four(gpus: Any, expected: tuple[Any, Any, Any]) -> None:
    assert chosen(gpus) == expected


@pytest.mark.parametrize(
    ("gpus", "explicit"), [(0, {}), (1, {}), (0, {"accelerator": "cpu", "devices": 1})]
)
def test_one_device_on_each_of_two_nodes_needs_ddp(gpus: int, explicit: dict[str, Any]) -> None:
    assert chosen(gpus, num_nodes=2, **explicit)[2] == DDP


@pytest.mark.parametrize(
    ("gpus", "available", "expected"),
    [
        (-1, 1, ("gpu", 1, "auto")),
        ("auto", 1, ("auto", "auto", "auto")),
        ("auto", 0, ("auto", "auto", "auto")),
    ],
)
def test_all_gpus_of_a_smaller_machine(gpus: Any, available: int, expected: Any) -> None:
    assert chosen(gpus, available=available) == expected


@pytest.mark.parametrize(
    ("explicit", "expected"),
    [
        ({"accelerator": "cpu", "devices": 2}, ("cpu", 2, DDP)),
        ({"accelerator": "cpu", "devices": "2"}, ("cpu", 2, DDP)),
        ({"accelerator": "cpu", "devices": 1}, ("cpu", 1, "auto")),
        ({"accelerator": "gpu", "devices": 1}, ("gpu", 1, "auto")),
        ({"accelerator": "gpu", "devices": [1, 2]}, ("gpu", [1, 2], DDP)),
        ({"devices": 3}, ("auto", 3, DDP)),
        ({"devices": 1}, ("auto", 1, "auto")),
    ],
)
@pytest.mark.parametrize("gpus", [0, 4, 99])
def test_accelerator_and_devices_win_over_gpus(
    gpus: int, explicit: dict[str, Any], expected: tuple[Any, Any, Any]
) -> None:
    accelerator, devices, strategy = chosen(gpus, **explicit)
    assert (accelerator, str(devices), strategy) == (expected[0], str(expected[1]), expected[2])


@pytest.mark.parametrize(
    "strategy", ["ddp_spawn", "fsdp", "auto", "ddp_find_unused_parameters_false"]
)
@pytest.mark.parametrize("gpus", [0, 1, 4])
def test_a_strategy_that_is_named_stays(gpus: int, strategy: str) -> None:
    assert chosen(gpus, strategy=strategy)[2] == strategy


@pytest.mark.parametrize("gpus", [0, 1, 4])
def test_plain_ddp_becomes_the_one_that_works_for_two_players(gpus: int) -> None:
    assert chosen(gpus, strategy="ddp")[2] == DDP
    assert chosen(gpus, strategy="ddp")[:2] == chosen(gpus)[:2]


def test_the_cpu_of_a_machine_with_gpus_is_still_one_device() -> None:
    assert chosen(0, accelerator="cpu")[2] == "auto"


@pytest.mark.parametrize("devices", [-1, "-1"])
def test_all_devices_of_a_machine_with_several_need_ddp(devices: Any) -> None:
    assert chosen(0, accelerator="gpu", devices=devices)[2] == DDP


def test_gpus_complete_an_accelerator_that_stands_alone() -> None:
    assert chosen(0, accelerator="gpu") == ("gpu", "auto", DDP)
    assert chosen(2, accelerator="gpu") == ("gpu", 2, DDP)
    assert chosen(2, accelerator="cpu") == ("cpu", 1, "auto")


@pytest.mark.parametrize(
    ("gpus", "available"),
    [(2, 0), ("2", 0), (1, 0), (-1, 0), ([0], 0), (5, 4), ([1, 4], 4), ("0,7", 4), (-2, 4)],
)
def test_more_gpus_than_there_are_is_one_sentence(gpus: Any, available: int) -> None:
    with pytest.raises(InputError) as caught:
        choose_devices(gpus, available=available)
    message = str(caught.value)
    assert message.startswith(f"trainer.gpus={gpus}")
    assert f"has {available} GPUs" in message
    assert message.endswith(f"use trainer.gpus={available}")


@pytest.mark.parametrize("available", [0, 4])
def test_an_index_below_zero_is_refused(available: int) -> None:
    with pytest.raises(InputError, match=r"trainer\.gpus"):
        choose_devices([-1], available=available)


@pytest.mark.parametrize("gpus", ["two", "0,one", "1.5", "gpu", "all"])
def test_garbage_is_refused_with_what_is_allowed(gpus: str) -> None:
    with pytest.raises(InputError) as caught:
        choose_devices(gpus, available=4)
    assert f"trainer.gpus={gpus} is not allowed" in str(caught.value)
    assert "[0,1], or auto" in str(caught.value)


def test_garbage_for_devices_is_refused_under_its_own_name() -> None:
    with pytest.raises(InputError, match=r"trainer\.devices=two"):
        choose_devices(0, available=4, accelerator="cpu", devices="two")


@pytest.mark.parametrize("devices", [257, "257", [*range(257)]])
def test_more_processes_than_a_machine_can_hold_are_refused(devices: Any) -> None:
    with pytest.raises(InputError, match=r"trainer.devices=.* type trainer.devices=256 or less"):
        chosen(0, accelerator="cpu", devices=devices)
