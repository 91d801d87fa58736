"""Check a resolved configuration against the schema and the signatures of its targets."""

import inspect
import math
from collections import abc
from collections.abc import Callable, Collection, Mapping, Sequence
from pkgutil import resolve_name
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytorch_lightning as pl
from typing_extensions import override

from src.configuration.devices import choose_devices
from src.configuration.guesses import is_group, leaves_of_files, meant, option_of
from src.configuration.schema import INSTEAD, LEAST, MOST, Call, Config, Search, Shared
from src.configuration.trust import OF_CHECKPOINTS, require_known_targets
from src.errors import InputError
from src.models.generative import GenerativeModel

Node = Mapping[str, Any]
Hints = dict[str, Any]  # allowed keys and their types


def check(config: Node, *, without_model: bool = False) -> None:
    """Refuse unknown keys, wrong types and missing arguments, anywhere in a resolved config.

    Args:
        without_model: whether the ``model`` group is a checkpoint's affair.

    Raises:
        InputError: naming the key, what is allowed there, and the nearest valid key.
    """
    rest = {key: value for key, value in config.items() if key != "model"}
    try:
        check_node(rest, accepted(Config), path="")
        require(accepted(Config), config, path="")
        if not without_model:
            check_model(config["model"])
        check_trainer(config["trainer"])
        if config["task"] == "search":
            check_node(config["search"], accepted(Search), path="search")
    except UnknownKeyError as error:
        error.config = config
        raise


def check_trainer(trainer: Any) -> None:
    """Refuse a ``trainer`` group that Lightning's Trainer does not accept."""
    if not isinstance(trainer, Mapping):
        raise no_group("trainer", trainer)
    hints = accepted(pl.Trainer) | accepted(choose_devices)
    ours = ("available", "logger", "callbacks")  # the last two are groups of their own
    check_node(trainer, {key: hints[key] for key in hints if key not in ours}, path="trainer")


def check_model(model: Node) -> None:
    """Refuse a ``model`` group that its class does not accept."""
    family = find_family(model)
    parameters = {key: hint for key, hint in accepted(family).items() if key != "seed"}
    for key, hint in parameters.items():
        for names in filter(is_typeddict, (hint, *get_args(hint))):
            if not isinstance(model.get(key), Mapping):
                continue  # refused below
            check_node(model[key], dict.fromkeys(get_type_hints(names), Call), path=f"model.{key}")
    check_node(
        {key: value for key, value in model.items() if key != "_target_"},
        accepted(Shared) | {key: as_node(hint) for key, hint in parameters.items()},
        path="model",
    )
    require([name for name in required(family) if name != "seed"], model, path="model")
    check_sizes(model)


def check_sizes(model: Node) -> None:
    """Refuse networks of other sizes than the model's; they may know more classes than it has."""
    for part, node in model.items():
        for key in SIZES & node.keys() if isinstance(node, Mapping) else ():
            size, own = node[key], model.get(key)
            if own is None or size == own or (key == "n_classes" and size > own):
                continue
            raise InputError(
                f"model.{part}.{key}={size}, but model.{key}={own}: leave model.{part}.{key} "
                f"out, or type model.{key}={size} for all"
            )


def find_family(model: Node) -> type[GenerativeModel]:
    """Import the class that a ``model`` group names."""
    name = model.get("_target_") if isinstance(model, Mapping) else model
    found = locate(name, path="model") if isinstance(name, str) else None
    if not (isinstance(found, type) and issubclass(found, GenerativeModel)):
        raise InputError(
            f"model._target_={name} is no generative model: choose one of the files in "
            "configs/model with model=NAME, or derive your class from GenerativeModel"
        )
    return found


def sampling_options(model: Node) -> list[str]:
    """What may change of a model after training: its own options, and PART.OPTION of its parts.

    The class of a part, such as a generator, may list options in ``sampling`` as a family does.
    """
    options = [*find_family(model).sampling]
    for name, node in model.items():
        if isinstance(node, Mapping) and "_target_" in node:
            part = locate(node["_target_"], path=f"model.{name}")
            options += [f"{name}.{option}" for option in getattr(part, "sampling", ())]
    return options


def as_node(hint: Any) -> Any:
    """The type of what YAML holds where a model takes ``hint``: nodes stand for objects."""
    for option in (hint, *get_args(hint)):
        origin = get_origin(option) or option
        if is_typeddict(option) or (isinstance(origin, type) and issubclass(origin, Mapping)):
            return dict[str, Call]
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return hint if all(map(is_plain, options)) else Call


def is_plain(hint: Any) -> bool:
    """Whether YAML holds values of the type as they are: numbers, texts, choices, lists, groups."""
    origin = get_origin(hint)
    is_nested = isinstance(origin, type) and issubclass(origin, Sequence | Mapping)
    return hint in (int, float, bool, str, NoneType) or origin is Literal or is_nested


def check_saved_model(model: Node, *, trusted: Collection[str] = ()) -> None:
    """Refuse a checkpoint's ``model`` group that does not fit, or names code from elsewhere."""
    instead = "if you trust it, type model=NAME of its file in configs/model"
    require_known_targets(
        model, OF_CHECKPOINTS, source="the checkpoint", instead=instead, trusted=trusted
    )
    check_model(model)


def check_saved_data(datamodule: Node, *, trusted: Collection[str]) -> None:
    """Refuse a checkpoint's ``datamodule`` group that does not fit, or names code from elsewhere.

    Args:
        trusted: classes that the user has named too.
    """
    instead = "if you trust it, type datamodule=NAME of its file in configs/datamodule"
    require_known_targets(
        datamodule, OF_CHECKPOINTS, source="the checkpoint", instead=instead, trusted=trusted
    )
    check_value(datamodule, Call, path="datamodule")
    if "dataset" in datamodule:
        check_dataset(datamodule["dataset"])


def check_dataset(node: Any) -> None:
    """Refuse a ``datamodule.dataset`` that cannot be built, before the rest is resolved."""
    check_value(node, Call, path="datamodule.dataset")


def check_node(node: Node, hints: Hints, *, path: str) -> None:
    """Refuse keys of ``node`` that are not among ``hints``, and values of another type."""
    for key, value in node.items():
        full_key = f"{path}.{key}" if path else str(key)
        if key not in hints:
            raise UnknownKeyError(full_key, value, allowed=list(hints))
        check_value(value, hints[key], path=full_key)


def check_value(value: Any, hint: Any, *, path: str) -> None:
    """Refuse a value that is not of the hinted type, or beyond the bounds of its key ``path``."""
    if isinstance(value, Mapping):
        check_mapping(value, hint, path=path)
    elif not fits(value, hint):
        if describe(hint) == GROUP:
            raise no_group(path, value)
        instead = f"'{path}=[{value}]'" if fits([value], hint) else f"{path}=VALUE"
        raise InputError(f"{path}={value} is not allowed: type {instead} with {describe(hint)}")
    else:
        check_range(value, path=path)


def check_range(value: Any, *, path: str) -> None:
    """Refuse numbers beyond the bounds of their key ``path``, and those that no key can mean."""
    for number in value if isinstance(value, list) else [value]:
        require_number(number, path=path)
    if value is not None and path in LEAST and value < LEAST[path]:
        raise InputError(f"{path}={value} is not allowed: type {path}={LEAST[path]} or more")
    if value is not None and path in MOST and value > MOST[path]:
        raise InputError(f"{path}={value} is not allowed: type {path}={MOST[path]} or less")


def require_number(value: Any, *, path: str) -> None:
    """Refuse a number that is infinite, NaN, or too large for torch; leave other values alone."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{path}={value} is not allowed: type a finite number")
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise InputError(f"{path}={value} is not allowed: type a number of fewer digits")


def check_mapping(value: Node, hint: Any, *, path: str) -> None:
    if "_target_" in value:
        check_call(value, path=path)
    elif get_origin(hint) is dict:
        for key, item in value.items():
            check_value(item, get_args(hint)[1], path=f"{path}.{key}")
    elif hint == Call or not fits(value, hint):
        option = dict(leaves_of_files()).get(path)
        instead = f"add {option}, or " if option else "add "
        raise InputError(
            f"{path}={dict(value)} names no class: {instead}{path}._target_=PACKAGE.CLASS"
        )


def check_call(node: Call, *, path: str) -> None:
    """Refuse a ``node`` whose arguments its target does not take, or that lacks any it needs."""
    target = locate(node["_target_"], path=path)
    if not isinstance(node.get("_partial_", False), bool):
        raise InputError(
            f"{path}._partial_={node['_partial_']} is not allowed: type {path}._partial_=true "
            "where the rest of the arguments is given later, else false"
        )
    arguments = {key: value for key, value in node.items() if key not in HYDRA_KEYS}
    parameters = inspect.signature(target).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return  # the target itself refuses what it does not know
    check_node(arguments, accepted(target), path=path)
    if not node.get("_partial_") and "_args_" not in node:
        require(required(target), arguments, path=path)


def require(names: Collection[str], node: Node, *, path: str) -> None:
    """Refuse a ``node`` without one of the keys ``names``."""
    for name in names:
        if name not in node:
            prefix = f"{path}." if path else ""
            raise InputError(
                f"{path or 'the configuration'} lacks {name}: add {prefix}{name}=VALUE"
            )


SIZES = {"channels", "img_size", "latent_dim", "n_classes"}  # of networks and their model alike
LARGEST = 2**63  # the first integer that torch cannot hold
HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


def locate(name: Any, *, path: str) -> Callable[..., Any]:
    """Import the class or function that ``name`` means, as in PACKAGE.CLASS."""
    try:
        found = resolve_name(name)
    except Exception as error:  # whatever importing it raises
        raise InputError(f"{path}._target_={name} cannot be imported: {error}") from error
    if not callable(found):
        raise InputError(f"{path}._target_={name} is no class or function: type PACKAGE.CLASS")
    return found


def accepted(target: Callable[..., Any]) -> Hints:
    """The names and type hints of the parameters of a function or class."""
    function = target.__init__ if inspect.isclass(target) else target
    return {name: hint(function, name) for name in inspect.signature(target).parameters}


def hint(function: Callable[..., Any], name: str) -> Any:
    """The type of a parameter; any, where it says none, or one imported for checkers alone."""
    written = getattr(function, "__annotations__", {})
    space = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        alone = SimpleNamespace(__annotations__={name: written[name]})
        return get_type_hints(alone, space, vars(abc))[name]  # those of abc are known even so
    except (KeyError, NameError):
        return Any


def required(target: Callable[..., Any]) -> list[str]:
    """The names of the parameters of a function or class that have no default."""
    parameters = inspect.signature(target).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]


class UnknownKeyError(InputError):
    """A key that does not exist, with what to type instead."""

    def __init__(self, key: str, value: Any, *, allowed: Sequence[str]) -> None:
        """``allowed`` are the keys beside it."""
        super().__init__(key)
        self.key, self.value, self.allowed = key, value, allowed
        self.config: Node = {}  # the whole, once it is known: other keys in it may be meant

    @override
    def __str__(self) -> str:
        if self.key in INSTEAD:
            guess = f"use {INSTEAD[self.key]}"
        else:
            guess = meant(self.key, self.value, siblings=self.allowed, config=self.config)
        return f"there is no key {self.key}: {guess}"


def no_group(path: str, value: Any) -> InputError:
    """The refusal of a ``value`` in the place of a group of keys, which options may bring."""
    group = path.replace(".", "/")
    instead = f"{path}.KEY=VALUE for each of its keys"
    if is_group(group):
        instead = f"{group}={option_of(group, value)}"
    return InputError(f"{path}={value} is not allowed: type {instead}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value is of the hinted type; hints that YAML cannot express admit all."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, option) for option in options_of(hint))
    if origin is Literal:
        return value in arguments
    if origin is not None and isinstance(origin, type) and issubclass(origin, Sequence):
        items = value if isinstance(value, list) else None
        return items is not None and all(fits(item, arguments[0]) for item in items)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint in (int, str, bool, NoneType):
        return type(value) is hint
    return not hasattr(hint, "__origin__") or isinstance(value, Mapping)


def options_of(union: Any) -> Sequence[Any]:
    """The types of a union that YAML can hold; all of them where it can hold none but null."""
    known = [option for option in get_args(union) if is_plain(option)]
    return get_args(union) if {*known} <= {NoneType} else known


GROUP = "a group of keys"
NAMES = {int: "an integer", float: "a number", str: "a text", bool: "true or false",
         NoneType: "null"}  # fmt: skip


def describe(hint: Any) -> str:
    """Say in a user's words what values a type hint allows."""
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(describe, options_of(hint))))
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if get_origin(hint) is not None and issubclass(get_origin(hint), Sequence):
        return f"a list, each item {describe(get_args(hint)[0])}"
    return NAMES.get(hint, GROUP)
