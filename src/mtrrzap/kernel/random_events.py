"""Random events: valid and invalid MTRR writes by guest and host, CR0, INIT and RESET."""

from random import Random

from mtrrzap import __version__
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Header, Trace
from mtrrzap.x86 import msr as m

NO_FIRMWARE = "none"
_TYPES = (0, 1, 4, 5, 6)
_FIXED = tuple(fixed.msr for fixed in m.FIXED)
_CR0 = (0x11, 0x40000011, 0x60000011)
_BAD_CR0 = (0x20000011, 0x80000010, 0x1_0000_0011)
_NO_MTRR = (m.MTRRCAP, 0x210, 0x251, 0x2FE)


def random_trace(seed: int, events: int, vcpus: int = 4, maxphyaddr: int = 40) -> Trace:
    """Return so many events on so many vCPUs; the same arguments give the same trace."""
    random = Random(seed)
    made = tuple(_event(random, random.randrange(vcpus), maxphyaddr) for _ in range(events))
    header = Header(
        firmware=NO_FIRMWARE,
        guest_kernel="none",
        vcpus=vcpus,
        memory=0,
        maxphyaddr=maxphyaddr,
        machine="none",
        recorder=f"mtrrzap {__version__}, random events",
        date="unknown",
        command=f"seed {seed}, {events} events",
        host_writes="random",
    )
    return Trace(header, made)


def _event(random: Random, vcpu: int, maxphyaddr: int) -> Event:
    what = random.random()
    if what < 0.88:
        kind = Kind.WRMSR if random.random() < 0.7 else Kind.HOST_WRMSR
        return Event(vcpu, kind, *_write(random, what, maxphyaddr))
    if what < 0.985:
        bad = random.random() < 0.05
        return Event(vcpu, Kind.CR0, 0, random.choice(_BAD_CR0 if bad else _CR0))
    return Event(vcpu, Kind.INIT if what < 0.995 else Kind.RESET)


def _write(random: Random, what: float, maxphyaddr: int) -> tuple[int, int]:
    if what < 0.24:
        return m.DEF_TYPE, _flipped(random, _type(random) | random.choice((0, 1, 3, 3, 3)) << 10)
    if what < 0.48:
        return random.choice(_FIXED), sum(_type(random) << 8 * i for i in range(8))
    if what < 0.84:
        msr = random.choice(m.VARIABLE)
        value = _mask(random, maxphyaddr) if msr & 1 else _base(random, maxphyaddr)
        return msr, _flipped(random, value)
    if what < 0.87:
        return m.PAT, sum(random.choice((0, 1, 4, 5, 6, 7)) << 8 * i for i in range(8))
    return random.choice(_NO_MTRR), random.getrandbits(64)


def _type(random: Random) -> int:
    """Return a memory type, mostly one that exists."""
    return random.choice(_TYPES) if random.random() < 0.97 else random.randrange(256)


def _mask(random: Random, maxphyaddr: int) -> int:
    """Return a mask, mostly contiguous and valid."""
    top = 1 << maxphyaddr
    mask = -(1 << random.randrange(12, maxphyaddr + 1))
    if random.random() < 0.2:
        mask = random.getrandbits(maxphyaddr)
    return mask & top - 0x1000 | random.choice((0, m.PHYSMASK_V, m.PHYSMASK_V))


def _base(random: Random, maxphyaddr: int) -> int:
    if random.random() < 0.2:
        return _type(random)
    return random.getrandbits(maxphyaddr) & ~0xFFF | _type(random)


def _flipped(random: Random, value: int) -> int:
    """Flip a bit now and then: mostly a reserved one."""
    return value ^ 1 << random.randrange(64) if random.random() < 0.05 else value
