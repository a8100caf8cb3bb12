"""What keeps people out of a page, as axe-core finds it."""

from pathlib import Path

__all__ = ["AXE", "SERIOUS"]

AXE = Path(__file__).parents[2] / ".axe/axe.min.js"
"""axe-core, to be run in a page first; `make e2e` fetches it."""
SERIOUS = """async where => (await axe.run(where ?? document)).violations
    .filter(one => ['serious', 'critical'].includes(one.impact))
    .map(one => [one.id, ...one.nodes.map(node => node.html)].join(' '))"""
"""The serious findings in a part of a page (a selector), or in all of it."""
