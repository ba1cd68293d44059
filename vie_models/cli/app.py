"""`vie app`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .arguments import command


@command(features="[FEATURES]")
@dataclasses.dataclass(kw_only=True)
class App:
    """Opens a page to look at videos with an encoder, to search, and to compare.

    It is for this machine alone, unless --host says otherwise. Needs `pip install 'vie_models[app]'`.
    """

    features: Path | None = None
    """Folder of features to search in, from `vie extract`, or of an index of them."""
    host: str = "127.0.0.1"
    """Name or address to serve at. Any but this machine's own needs --user and --password-file."""
    port: int = 7860
    """Port to serve at. 0: a free one."""
    user: str | None = None
    """Name that visitors must give."""
    password_file: Path | None = None
    """Text file whose first line is the password."""
    max_megabytes: float = 500.0
    """Largest video that is taken."""
    max_seconds: float = 600.0
    """How much of a video is looked at, from its beginning."""

    def run(self) -> int:
        from ..app.serve import serve

        password = None
        if self.password_file is not None:
            password = self.password_file.read_text().splitlines()[0:1]
            if not password or not password[0]:
                raise ValueError(f"{self.password_file} has no password in its first line")
        serve(
            self.features,
            host=self.host,
            port=self.port,
            user=self.user,
            password=password[0] if password else None,
            max_bytes=self.max_megabytes * 1e6,
            max_seconds=self.max_seconds,
        )
        return 0
