"""All figures of laws that public data gives, one after the other; the last line is one JSON document.

make bench-laws DATA=../shared/data
python bench/laws/run.py ../shared/data/scaling_laws
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import backtest
import epoch
import gadre
import peers
import porian
import repeated
import steplaw

PARTS = {
    "epoch": epoch,
    "gadre": gadre,
    "repeated": repeated,
    "porian": porian,
    "steplaw": steplaw,
    "peers": peers,
    "backtest": backtest,
}


def main() -> None:
    folder = Path(sys.argv[1])
    found = {}
    for name, part in PARTS.items():
        print(f"\n== {name}")
        found[name] = part.main(folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
