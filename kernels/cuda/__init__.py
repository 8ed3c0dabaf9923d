"""CUDA sources (``*.cu``), shipped as text and compiled at first use for the card that is there."""
