"""`vie doctor`."""

from __future__ import annotations

import dataclasses
import json

from .exit_codes import EXIT_FAILED


@dataclasses.dataclass(kw_only=True)
class Doctor:
    """Checks this machine: versions, GPU, arithmetic, weights, caches and network, each with a remedy.

    ok: it works. warn: it works, but less well. bad: something that the package does cannot work; the exit code is then 1.
    """

    json: bool = False
    """Print one JSON array of {status, name, found, remedy}."""

    def run(self) -> int:
        from .checks import findings

        found = []
        for finding in findings():
            found.append(finding)
            if not self.json:
                print(f"{finding.status:5}{finding.name:20}{finding.found}", flush=True)
                if finding.remedy:
                    print(f"{'':25}remedy: {finding.remedy}", flush=True)
        if self.json:
            print(json.dumps([dataclasses.asdict(finding) for finding in found], indent=2))
        count = {status: sum(finding.status == status for finding in found) for status in ("ok", "warn", "bad")}
        if not self.json:
            print(", ".join(f"{number} {status}" for status, number in count.items()))
        return EXIT_FAILED if count["bad"] else 0
