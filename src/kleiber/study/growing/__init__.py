"""`kleiber study`: what growing the parameter count of a family does, on given data, in a given time."""
