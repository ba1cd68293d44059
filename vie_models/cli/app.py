"""`vie app`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .arguments import command


@command(named="[VIDEO | FOLDER | FEATURES ...]")
@dataclasses.dataclass(kw_only=True)
class App:
    """Opens a page to look at videos with an encoder, to search, and to compare.

    It is for this machine alone. Needs `pip install 'vie_models[app]'`.
    """

    named: list[Path] = dataclasses.field(default_factory=list)
    """Videos, folders of videos, and folders of features from `vie extract`, to search in. Default: an example."""
    port: int = 7860
    """Port to serve at. 0: a free one."""
    browser: bool = True
    """Open the page in the browser."""

    def run(self) -> int:
        from ..app import serve

        serve(self.named, port=self.port, browser=self.browser)
        return 0
