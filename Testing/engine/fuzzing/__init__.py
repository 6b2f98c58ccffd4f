"""Broken inputs by the thousand, each told by a seed and a number; ``Testing/engine/fuzz.py`` runs them."""
