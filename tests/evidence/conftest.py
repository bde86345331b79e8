"""The victims of the nudge's tests serve the readings too."""

from tests.helper.conftest import start, victim_program

__all__ = ["start", "victim_program"]
