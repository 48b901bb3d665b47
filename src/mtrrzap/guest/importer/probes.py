"""What kprobes on KVM's functions tell (docs/capture.md): user space's writes, resets, and zaps."""

from collections.abc import Callable

from mtrrzap.guest.importer.event_text import EventLine, Probe, leaf_cleared, probe
from mtrrzap.guest.importer.records import Record, Seen, Thread, What, ZapRecord
from mtrrzap.guest.trace import MAX_VCPUS
from mtrrzap.x86 import cr0 as cr0_rules
from mtrrzap.x86 import msr as m


class ProbeReader:
    """Turn the lines of kprobes into records of ``seen``."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._handlers: dict[tuple[bytes, bool], Callable[[Thread, EventLine, Probe], None]] = {
            (b"kvm_zap_gfn_range", False): self._zap,
            (b"kvm_zap_gfn_range", True): self._zapped,
            (b"kvm_mtrr_set_msr", False): self._mtrr,
            (b"kvm_mtrr_set_msr", True): self._mtrr_set,
            (b"kvm_set_msr_common", False): self._set_msr,
            (b"kvm_post_set_cr0", False): self._cr0,
            (b"kvm_vcpu_reset", False): self._reset,
            (b"kvm_arch_vcpu_ioctl_set_sregs", False): self._sregs,
            (b"kvm_arch_register_noncoherent_dma", False): self._dma,
            (b"kvm_arch_unregister_noncoherent_dma", False): self._dma,
        }

    def read(self, thread: Thread, line: EventLine) -> str | None:
        """Take one line. Returns what is wrong with it, None if nothing is."""
        found = probe(line)
        if found is None:
            return "a malformed kprobe"
        handler = self._handlers.get((found.function, found.returns))
        if handler is None:
            return None
        vcpu = found.values.get(b"vcpu", 0)
        if not 0 <= vcpu < MAX_VCPUS:
            return f"vCPU {vcpu}: the probe's offset of vcpu_id is another kernel's"
        try:
            handler(thread, line, found)
        except KeyError as lacks:
            return f"a kprobe of {found.function.decode()} without {lacks.args[0].decode()}="
        self._seen.probes.add(found.function)
        return None

    def spte(self, thread: Thread, line: EventLine) -> None:
        """Count a leaf that was cleared inside a zap."""
        self._seen.leaves_told = True
        if thread.zap is not None:
            thread.zap.leaves += leaf_cleared(line.body)

    def _keep(self, thread: Thread, record: Record) -> None:
        seen = self._seen
        seen.counted_time = seen.counted_time and record.time_ns is not None
        record.probed = True
        thread.cr0_write = None
        seen.records.append(record)

    def _set_msr(self, thread: Thread, _: EventLine, found: Probe) -> None:
        thread.host = bool(found.values[b"host"])

    def _mtrr(self, thread: Thread, line: EventLine, found: Probe) -> None:
        number, value, vcpu = (found.values[name] for name in (b"msr", b"data", b"vcpu"))
        if number not in m.MTRR_MSRS | {m.PAT}:
            return
        what = What.HOST_WRITE if thread.host else What.WRITE
        record = Record(what, thread.tid, line.time_ns, number, value, vcpu=vcpu)
        if what is What.WRITE:
            thread.vcpu = vcpu
            thread.told = record
        thread.host = None
        thread.setting = record
        thread.msrs[number] = value
        self._keep(thread, record)

    def _mtrr_set(self, thread: Thread, _: EventLine, found: Probe) -> None:
        record, thread.setting = thread.setting, None
        if record is not None and found.values[b"ret"]:
            record.refused = True
            thread.msrs.pop(record.number, None)

    def _cr0(self, thread: Thread, line: EventLine, found: Probe) -> None:
        old, new, vcpu = (found.values[name] for name in (b"old", b"new", b"vcpu"))
        self._seen.cr0_events += 1
        told, thread.cr0_told = thread.cr0_told, None
        thread.vcpu = vcpu
        if told is not None and not (told ^ new) & ~cr0_rules.ET:
            return
        if thread.cr0 is None or (thread.cr0 ^ old) & cr0_rules.CD_NW:
            self._keep(thread, Record(What.READ_CR0, thread.tid, line.time_ns, 0, old, vcpu=vcpu))
        thread.cr0 = new
        if (old ^ new) & cr0_rules.CD_NW:
            record = Record(What.WRITE_CR0, thread.tid, line.time_ns, 0, new, vcpu=vcpu)
            self._keep(thread, record)
            thread.cr0_write = record

    def _reset(self, thread: Thread, line: EventLine, found: Probe) -> None:
        vcpu = found.values[b"vcpu"]
        if found.values[b"init"]:
            self._keep(thread, Record(What.INIT, thread.tid, line.time_ns, vcpu, vcpu=vcpu))
            return
        thread.forget()
        self._keep(thread, Record(What.CREATED, thread.tid, line.time_ns, vcpu=vcpu))

    def _sregs(self, thread: Thread, line: EventLine, found: Probe) -> None:
        value, vcpu = found.values[b"cr0"], found.values[b"vcpu"]
        record = Record(What.SREGS, thread.tid, line.time_ns, 0, value, vcpu=vcpu)
        self._keep(thread, record)
        thread.cr0 = None

    def _dma(self, thread: Thread, line: EventLine, found: Probe) -> None:
        came = found.function == b"kvm_arch_register_noncoherent_dma"
        self._keep(thread, Record(What.DMA, thread.tid, line.time_ns, int(came)))

    def _zap(self, thread: Thread, line: EventLine, found: Probe) -> None:
        cause = thread.setting
        if cause is None and (not found.caller or b"cr0" in found.caller):
            cause = thread.cr0_write
        record = ZapRecord(
            What.ZAP,
            thread.tid,
            line.time_ns,
            found.values[b"start"],
            found.values[b"end"],
            cause=cause,
            caller=found.caller,
        )
        if cause is None and (not found.caller or b"mtrr" in found.caller):
            thread.early = record
        self._keep(thread, record)
        thread.zap = record

    def _zapped(self, thread: Thread, line: EventLine, _: Probe) -> None:
        record, thread.zap = thread.zap, None
        if record is not None and record.time_ns is not None and line.time_ns is not None:
            record.cost_ns = max(0, line.time_ns - record.time_ns)
