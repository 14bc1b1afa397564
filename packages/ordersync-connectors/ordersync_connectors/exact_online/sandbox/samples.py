"""Item files that come with the sandbox."""

from pathlib import Path

SAMPLE_ITEMS = Path(__file__).parent / "data" / "uci-online-retail-items.csv"
"""The items of a real gift-ware seller; origin and licence stand in the README beside it."""
