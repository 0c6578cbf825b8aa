"""What a job takes in energy and in money."""

from __future__ import annotations

import math

from kleiber.cost.devices import Device
from kleiber.errors import RecipeError

__all__ = ["LOAD_FRAC", "PUE", "energy_kwh", "usd"]

LOAD_FRAC = 1.0
"""Power drawn, of the devices' limit. Published accounts of training count the limit (LLaMA, arXiv:2302.13971, table 15;
Llama 3, arXiv:2407.21783): devices draw somewhat less, the servers' processors and fans, not counted, make up for it."""

PUE = 1.1
"""Power usage effectiveness: energy of the site by energy of its computers. 1.1 is what LLaMA's account takes, and what
large clouds publish; the industry's average was 1.56 in 2024 (Uptime Institute's survey)."""

_S_PER_HOUR = 3600
_J_PER_KWH = 3.6e6


def energy_kwh(
    device: Device,
    num_devices: int,
    time_s: float,
    *,
    load_frac: float = LOAD_FRAC,
    pue: float = PUE,
    watts: float | None = None,
) -> float:
    """Return the energy that devices and their site take [kWh]: watts x devices x load x PUE x time.

    Args:
        device: Its power limit is taken.
        num_devices: At work for the whole time.
        time_s: Of the job.
        load_frac: Power drawn, of the limit.
        pue: Of the site, 1 or more.
        watts: Of one device instead of its limit.

    Raises:
        RecipeError: The device has no known power, or a number is out of its range.

    Source:
        Touvron et al. 2023, "LLaMA", arXiv:2302.13971, section 6.

    Example:
        >>> from kleiber.cost.devices import find_device
        >>> round(energy_kwh(find_device("a100-80gb"), 8, 3600), 2)
        3.52
    """
    power = device.watts if watts is None else watts
    if power is None:
        raise RecipeError(f"the power of {device.name} is not known; give it.", hint="--watts 400")
    _check_work(num_devices, time_s)
    if not 0 < power < math.inf:
        raise RecipeError("--watts must be a positive number.", got=power, hint="--watts 400")
    if not 0 < load_frac <= 1:
        raise RecipeError("the load must be above 0 and at most 1.", got=load_frac)
    if not 1 <= pue < math.inf:
        raise RecipeError("PUE is 1 or more: the site takes what its computers take, and more.", got=pue)
    return power * num_devices * load_frac * pue * time_s / _J_PER_KWH


def usd(
    device: Device, num_devices: int, time_s: float, *, usd_per_hour: float | None = None
) -> float | None:
    """Return the rent of devices [USD]; None where there is no price.

    Args:
        device: Its list price is taken, whose date is `device.price_date`.
        num_devices: Rented for the whole time.
        time_s: Of the job.
        usd_per_hour: Of one device instead of the list price.

    Raises:
        RecipeError: A number is out of its range.

    Example:
        >>> from kleiber.cost.devices import find_device
        >>> usd(find_device("h100-sxm"), 8, 7200, usd_per_hour=2.0)
        32.0
    """
    price = device.usd_per_hour if usd_per_hour is None else usd_per_hour
    _check_work(num_devices, time_s)
    if price is None:
        return None
    if not 0 <= price < math.inf:
        raise RecipeError("--usd-per-hour must not be negative.", got=price, hint="--usd-per-hour 2.5")
    return price * num_devices * time_s / _S_PER_HOUR


def _check_work(num_devices: int, time_s: float) -> None:
    if num_devices < 1:
        raise RecipeError("at least one device works.", got=num_devices)
    if not 0 <= time_s < math.inf:
        raise RecipeError("a job's time must be finite and not negative [s].", got=time_s)
