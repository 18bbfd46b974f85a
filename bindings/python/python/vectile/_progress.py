"""The progress bar of a call, which needs the package tqdm."""

from __future__ import annotations

import logging
from typing import Any, Callable, Optional

logger = logging.getLogger("vectile")


class Bar:
    """A context manager. Within it, `bar.update` is called with the number of finished inputs."""

    def __init__(self, show: Optional[bool], total: int, desc: str) -> None:
        if show is None:
            show = logger.getEffectiveLevel() in (logging.INFO, logging.DEBUG)
        self._bar: Any = None
        if show:
            try:
                from tqdm.auto import tqdm  # type: ignore[import-untyped, unused-ignore]
            except ImportError:
                logger.warning("there is no progress bar, because tqdm is not installed")
            else:
                self._bar = tqdm(total=total, desc=desc, unit="text")

    @property
    def update(self) -> Optional[Callable[[int], object]]:
        """Returns the function that receives the number of finished inputs, or `None` if no bar is shown."""
        return None if self._bar is None else self._advance

    def _advance(self, done: int) -> None:
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
