"""A deterministic simulation: the whole system in one process, by a seed.

A *scenario* is a function that takes a `World`: it adds tenants, starts processes (`World.process`,
`World.keep_running`) and looks at what came of it. The checks of every commit, claim and send run by themselves, and
raise `Broken`, which names the promise. `run_seed` runs one seed, `shrink` finds the fewest faults that break it, and
`python -m ordersync_core.testing.simulation --scenario module:function` runs many.
"""

from ordersync_core.testing.simulation.faults import Fault, Kind
from ordersync_core.testing.simulation.invariants import Broken
from ordersync_core.testing.simulation.process import Process
from ordersync_core.testing.simulation.runs import Outcome, Scenario, run_seed, shrink
from ordersync_core.testing.simulation.whole import whole_system
from ordersync_core.testing.simulation.world import World

__all__ = ["Broken", "Fault", "Kind", "Outcome", "Process", "Scenario", "World", "run_seed", "shrink", "whole_system"]
