"""mtdnn: multi-task fine-tuning of text encoders with SMART regularization.

``run``, ``MultiTaskModel`` and ``Predictor`` are imported when they are first used, for they take seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtdnn.model import MultiTaskModel as MultiTaskModel
    from mtdnn.predictor import Predictor as Predictor
    from mtdnn.run_experiment import run as run

__version__ = "0.1.0"

PLACES = {"run": "mtdnn.run_experiment", "MultiTaskModel": "mtdnn.model", "Predictor": "mtdnn.predictor"}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module 'mtdnn' has no attribute '{name}'")
    return getattr(import_module(PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *PLACES])
