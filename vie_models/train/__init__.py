"""Training, on anything from one CPU to many GPUs. Needs the extra `train`."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .export import export_run
    from .logs import read_metrics
    from .loop import pretrain
    from .plot import plot_runs
    from .recipes import RECIPES, finetuning, recipe
    from .run import NotFiniteError, Run, count_failed
    from .settings import TrainConfig

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".export": ["export_run"],
        ".logs": ["read_metrics"],
        ".loop": ["pretrain"],
        ".plot": ["plot_runs"],
        ".recipes": ["RECIPES", "finetuning", "recipe"],
        ".run": ["NotFiniteError", "Run", "count_failed"],
        ".settings": ["TrainConfig"],
    },
)
