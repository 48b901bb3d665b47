"""What ``import mtrrzap`` offers, in seven lines; run it with ``python examples/face.py``."""

from pathlib import Path

import mtrrzap

DUMP = Path(__file__).with_name("dump.txt")


def main() -> None:
    """Ask one recording, one protocol and one MSR dump what there is to know of them."""
    trace = mtrrzap.load("ovmf-8")
    requests = list(mtrrzap.replay(trace, "Base2+9"))
    print(f"{trace}: {len(requests)} zap requests under Base2+9, the first for {requests[0].why}")
    print(mtrrzap.compare([trace], ["v6.1", "ticket"]))
    print(mtrrzap.check("v4", vcpus=3)["lost zap"].counterexample)
    print(mtrrzap.memory_map(DUMP).at(0xC000_0000))
    print(mtrrzap.audit(trace, "Base2").verdict)
    print(f"{mtrrzap.simulate(trace, 'ticket').cycles / 1e6:.0f} modelled Mcycles under ticket")


if __name__ == "__main__":
    main()
