"""What the tests here share is imported by its bare name, as is what the tests of inference make models with."""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE), str(_HERE.parent / "infer")]
