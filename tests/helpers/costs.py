"""Round costs of the simulator."""

from mtrrzap.simulator import Costs

COSTS = Costs(
    visit=10,
    handoff=100,
    retry=1000,
    pages=3,
    flush=20,
    free=500,
    leave=50,
    wake=0,
    stagger=0,
    again=1,
    unpaged_blocks=0,
    firmware_blocks=0,
    kernel_blocks=0,
    mmio_blocks=0,
)
