"""What the library reports about adapters, models and measurements, as dataclasses.

Every class has the field `raw`: the whole report as dictionaries and lists, as `vectile … --json` prints it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Optional

from . import _core

__all__ = [
    "Adapter",
    "BenchReport",
    "Inspection",
    "Precision",
    "PrecisionTiming",
    "Verification",
    "adapters",
]


@dataclass(frozen=True)
class Adapter:
    """A GPU, the CPU, or a driver that computes on the CPU."""

    index: int
    """The adapter's index in the list of `adapters()`, in which the best adapter is first."""
    name: str
    device_type: str
    """`DiscreteGpu`, `IntegratedGpu`, `VirtualGpu`, `Cpu` (the CPU or a software driver) or `Other`."""
    backend: str
    """`Vulkan`, `Metal`, `Dx12` or `Gl`; `Native` for the CPU, which needs no driver."""
    driver: str
    shader_f16: bool
    """True if shaders may use f16."""
    raw: dict[str, Any] = field(repr=False, compare=False)

    @property
    def is_software(self) -> bool:
        """Returns true if the adapter is the CPU or a software driver."""
        return self.device_type == "Cpu"

    @property
    def is_cpu(self) -> bool:
        """Returns true if the adapter is the CPU, and false if it is a software driver or a GPU."""
        return self.backend == "Native"

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Adapter:
        """Returns the adapter that a report describes."""
        names = ("index", "name", "device_type", "backend", "driver", "shader_f16")
        return cls(**{name: raw[name] for name in names}, raw=raw)

    def __str__(self) -> str:
        return f"{self.name} ({self.backend}, {self.driver})"


def adapters() -> list[Adapter]:
    """Returns the machine's adapters, best first. In a constructor, `device=2` means the third of them.

    >>> [adapter.index for adapter in adapters()][:1] in ([], [0])
    True
    """
    return [Adapter.of(raw) for raw in json.loads(_core.adapters())]


@dataclass(frozen=True)
class Precision:
    """The precision of a model: the requested dtype, the chosen storage types, and the reasons.

    `str(precision)` is one sentence.
    """

    requested: str
    """`auto`, `float32`, `float16` or `bfloat16`."""
    checkpoint: str
    """The dtype of the checkpoint."""
    weights: str
    """The storage type of matrices and embedding tables: `f32`, `f16`, `packed_f16` or `packed_bf16`."""
    activations: str
    """The storage type of activations between kernels."""
    weight_bytes: int
    reasons: tuple[str, ...]
    """The reasons why the precision differs from the request; empty if it does not differ."""
    sentence: str = field(repr=False)
    raw: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, sentence: str, raw: dict[str, Any]) -> Precision:
        """Returns the precision that a report describes."""
        return cls(
            requested=raw["requested"],
            checkpoint=raw["checkpoint"]["dtype"],
            weights=raw["weights"],
            activations=raw["activations"],
            weight_bytes=raw["weight_bytes"],
            reasons=tuple(raw["reasons"]),
            sentence=sentence,
            raw=raw,
        )

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class Inspection:
    """A model, and how it runs on this machine."""

    model: str
    model_type: str
    modules: tuple[str, ...]
    dimension: int
    similarity: Optional[str]
    max_seq_length: Optional[int]
    prompts: dict[str, str]
    default_prompt_name: Optional[str]
    precision: Precision
    adapter: Adapter
    batch_tokens: int
    notes: tuple[str, ...]
    """Assumptions that Vectile makes where the model's files say nothing."""
    raw: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, model: _core.Model) -> Inspection:
        """Returns the description of a loaded model."""
        raw: dict[str, Any] = json.loads(model.inspect())
        sentence, _ = model.precision()
        return cls(
            model=raw["model"],
            model_type=raw["model_type"],
            modules=tuple(module["kind"] for module in raw["modules"]),
            dimension=raw["dimension"],
            similarity=raw["similarity"],
            max_seq_length=raw["max_seq_length"],
            prompts=raw["prompts"],
            default_prompt_name=raw["default_prompt_name"],
            precision=Precision.of(sentence, raw["precision"]),
            adapter=Adapter.of(raw["adapter"]),
            batch_tokens=raw["batch_tokens"],
            notes=tuple(raw["notes"]),
            raw=raw,
        )


@dataclass(frozen=True)
class Verification:
    """The result of `verify`: whether a model computes correctly on an adapter, and whether it is safe in f16.

    `str(verification)` is the report as text.
    """

    passed: bool
    failures: tuple[str, ...]
    """The checks that failed, one sentence each."""
    safety: str
    """The verdict on f16: whether the model stays within the range of f16."""
    adapter: Adapter
    texts: int
    agrees_with_cpu: Optional[bool]
    """True if the vectors agree with those that the CPU computes; `None` if the CPU was not compared."""
    sentence: str = field(repr=False)
    raw: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, report: str, text: str) -> Verification:
        """Returns the result that a report of `verify` describes."""
        raw = json.loads(report)
        return cls(
            passed=raw["passed"],
            failures=tuple(raw["failures"]),
            safety=raw["verdict"]["safety"],
            adapter=Adapter.of(raw["adapter"]),
            texts=raw["texts"],
            agrees_with_cpu=raw["against_cpu"]["passed"],
            sentence=text,
            raw=raw,
        )

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class PrecisionTiming:
    """The results of one precision in a report of `bench`; `raw` has all figures."""

    name: str
    weights: str
    raw: dict[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True)
class BenchReport:
    """The result of `bench`: speed, memory and accuracy of a model in several precisions on one adapter."""

    model: str
    adapter: Adapter
    precisions: tuple[PrecisionTiming, ...]
    refused: dict[str, str]
    """The precisions that were not timed, with the reasons."""
    wall_s: float
    raw: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, report: str) -> BenchReport:
        """Returns the results that a report of `bench` describes."""
        raw = json.loads(report)
        of_adapter = raw["adapters"][0]
        precisions = (
            PrecisionTiming(each["name"], each["weights"], each) for each in of_adapter["precisions"]
        )
        return cls(
            model=raw["model"]["name"],
            adapter=Adapter.of(of_adapter["adapter"]),
            precisions=tuple(precisions),
            refused={each["precision"]: each["reason"] for each in of_adapter["refused"]},
            wall_s=raw["wall_s"],
            raw=raw,
        )
