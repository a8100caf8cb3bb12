"""The process of a round on an archive: python -m slem_app.adapt.worker ROUND_FOLDER [LOCK], as
`slem_app.rounds.worker`.
"""

from __future__ import annotations

import sys

from slem_app.adapt.round import ArchiveRound
from slem_app.rounds.worker import main

__all__ = []

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], ArchiveRound))
