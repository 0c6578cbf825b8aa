"""`kleiber bench`: every engine and model in one run in turns, beside the limits of this machine."""

from kleiber.infer.bench.bench import OnProgress, bench
from kleiber.infer.bench.compared import Compared, compared
from kleiber.infer.bench.ledger import add_to_ledgers

__all__ = ["Compared", "OnProgress", "add_to_ledgers", "bench", "compared"]
