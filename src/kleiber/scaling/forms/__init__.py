"""Forms of a law, one interface: `FORMS[name]` knows its equation, its fit's maths and its predictions."""

from kleiber.scaling.forms.design import INPUTS, Array, Design, Points, rule_of_thumb_flops
from kleiber.scaling.forms.families import CHINCHILLA, FORMS, form_of
from kleiber.scaling.forms.form import Coefficient, Form

__all__ = [
    "CHINCHILLA",
    "FORMS",
    "INPUTS",
    "Array",
    "Coefficient",
    "Design",
    "Form",
    "Points",
    "form_of",
    "rule_of_thumb_flops",
]
