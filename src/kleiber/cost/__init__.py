"""What a model needs: operations, memory, time, money."""

from kleiber.cost.flops import FLOP_CONVENTIONS, FlopConvention, FlopCount

__all__ = ["FLOP_CONVENTIONS", "FlopConvention", "FlopCount"]
