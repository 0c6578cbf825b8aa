"""Smaller and faster models, each with a receipt."""
