"""Retraining a model with the structure that it was given: its zeros, codes and factors."""
