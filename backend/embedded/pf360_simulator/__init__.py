"""A stand-in for the PF360 scheduling API: own process, invented data, no import from the rest of the project.

Run it with `python -m backend.embedded.pf360_simulator`; docs/simulator.md describes endpoints, faults and settings.
"""
