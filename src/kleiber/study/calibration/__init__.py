"""How this machine is measured: what is run, how its calls are timed, the limits, and what lies between calls."""
