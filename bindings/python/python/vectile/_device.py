"""The strings that name a device, and the adapter for which each string stands."""

from __future__ import annotations

from typing import Any, Optional, Union

from .errors import AdapterError, OptionError
from .reports import Adapter, adapters

Device = Union[str, int, None]


def _listed(found: list[Adapter]) -> str:
    if not found:
        return "there is no adapter at all; install a driver for your GPU"
    return "the adapters are " + ", ".join(f"{each.index}: {each}" for each in found)


def _pick(word: str, wanted: list[Adapter], number: int, what: str, found: list[Adapter]) -> int:
    if number < len(wanted):
        return wanted[number].index
    raise AdapterError(f"device {word!r} means {what}, and there is none here; {_listed(found)}")


def _is_nvidia(adapter: Adapter) -> bool:
    names = f"{adapter.name} {adapter.driver}".lower()
    return "nvidia" in names or "geforce" in names or "nvk" in names


def adapter_of(device: Any) -> Union[int, str, None]:
    """Returns the adapter for a `device` argument: an index, a part of a name, or `None` for the best adapter."""
    if device is None or isinstance(device, bool):
        if device is not None:
            raise OptionError(f"device is {device!r}; give a word, an index or an adapter's name")
        return None
    if isinstance(device, int):
        if device < 0:
            raise OptionError(f"device is {device}; an index starts at 0")
        return device
    word = str(device).strip()
    kind, _, rest = word.lower().partition(":")
    number = 0
    if rest.isdigit():
        number = int(rest)
    if word.isdigit():
        return int(word)
    if kind not in ("cpu", "cuda", "gpu", "mps") or (rest and not rest.isdigit()):
        if not word:
            raise OptionError("device is empty; give a word, an index or an adapter's name")
        return word
    if kind == "cpu" and not number:
        # The library opens the CPU without the drivers of GPUs, which `adapters` loads into memory.
        return "cpu"
    found = adapters()
    if kind == "cuda":
        wanted = [each for each in found if _is_nvidia(each)]
        return _pick(word, wanted, number, "an NVIDIA adapter", found)
    if kind == "mps":
        wanted = [each for each in found if each.backend == "Metal"]
        return _pick(word, wanted, number, "an adapter of Metal", found)
    if kind == "gpu":
        wanted = [each for each in found if not each.is_software]
        return _pick(word, wanted, number, "a GPU", found)
    # The CPU is faster than a software driver, so a software driver is used only if the package has no code for the CPU.
    wanted = [each for each in found if each.is_cpu] or [each for each in found if each.is_software]
    return _pick(word, wanted, number, "an adapter that computes on the CPU", found)


def name_of(device: Optional[Any]) -> str:
    """Returns the device as users write it, for messages."""
    return "the best adapter" if device is None else repr(str(device))
