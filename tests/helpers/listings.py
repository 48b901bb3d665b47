"""Listings of MTRRs as people paste them."""

import json

EXPECTED = {
    0: {0x2FF: 0xC06, 0x200: 0x80000000, 0x201: 0xFF80000800},
    1: {0x2FF: 0xC00, 0x200: 0x80000000, 0x201: 0xFF80000800},
}


ONE_A_LINE = """\
# made by a loop over rdmsr
cpu 0: msr 0x2ff = 0xc06
cpu 0: 200 80000000
cpu0 IA32_MTRR_PHYSMASK0: ff80000800
CPU 1:
  0x2ff: c00            # default UC
  MTRR_PHYSBASE0 = 0x80000000
  [0x201] ff80000800
  0x10 = 123456         # the TSC is none of ours
"""


ALL_CPUS_A_LINE = "0x2ff: c06 c00\n0x200 80000000 80000000\nPHYSMASK0 = ff80000800 ff80000800\n"


RDMSR_A = """\
+ rdmsr -a 0x2ff
c06
c00
$ sudo rdmsr -a 0x200
80000000
80000000
# rdmsr -p 0 0x201
ff80000800
# rdmsr -p 1 0x201
0xff80000800
"""


IN_CPUS = json.dumps(
    {"cpus": {f"cpu{cpu}": {f"{msr:x}": v for msr, v in f.items()} for cpu, f in EXPECTED.items()}}
)


ITEMS = json.dumps(
    [
        {"cpu": cpu, "msr": msr, "value": f"{value:x}"}
        for cpu, found in EXPECTED.items()
        for msr, value in found.items()
    ]
)


PROC = """\
reg00: base=0x000000000 (    0MB), size= 2048MB, count=1: write-back
reg01: base=0x07c000000 ( 1984MB), size=   64MB, count=1: uncachable
reg02: base=0x0d0000000 ( 3328MB), size=  512KB, count=1: write-combining
"""


OLD_PROC = """\
reg00: base=0x00000000 (   0MB), size=2048MB: write-back, count=1
reg01: base=0x7c000000 (1984MB), size=  64MB: uncachable, count=1
reg02: base=0xd0000000 (3328MB), size= 512KB: write-combining, count=1
"""


CLEANUP = """\
[    0.000000] original variable MTRRs
[    0.000000] reg 0, base: 0GB, range: 4GB, type WB
[    0.000000] New variable MTRRs
[    0.000000] reg 0, base: 0GB, range: 2GB, type WB
[    0.000000] reg 1, base: 1984MB, range: 64MB, type UC
[    0.000000] reg 2, base: 3328MB, range: 512KB, type WC
"""


LOG = """\
[    0.000000] MTRR default type: uncachable
[    0.000000] MTRR variable ranges disabled:
[    0.000000] Linux version 6.1.0
[    0.004974] MTRR default type: write-back
[    0.004974] MTRR fixed ranges enabled:
[    0.004976]   00000-9FFFF write-back
[    0.004977]   A0000-BFFFF uncachable
[    0.004977]   C0000-D3FFF write-protect
[    0.004977]   D4000-FFFFF write-through
[    0.004978] MTRR variable ranges enabled:
[    0.004979]   0 base 0080000000 mask FF80000000 uncachable
[    0.004983]   1 disabled
[    0.004985]   7 base 00FF000000 mask FFFF000000 write-protect
[    0.004985]   8 disabled
[    0.005621] x86/PAT: Configuration [0-7]: WB  WC  UC- UC  WB  WP  UC- WT
"""


REAL = """\
[    0.000000] MTRR default type: write-back
[    0.000000] MTRR fixed ranges enabled:
[    0.000000]   00000-9FFFF write-back
[    0.000000]   A0000-BFFFF uncachable
[    0.000000]   C0000-FFFFF write-protect
[    0.000000] MTRR variable ranges enabled:
[    0.000000]   0 base 00000C0000000 mask 000FFC0000000 uncachable
[    0.000000]   1 disabled
[    0.000000]   7 disabled
[    0.000000] MTRR map: 4 entries (3 fixed + 1 variable; max 19), built from 8 variable MTRRs
[    0.000000]   0: 0000000000000000-000000000009ffff write-back
[    0.000000]   1: 00000000000a0000-00000000000bffff uncachable
[    0.000000]   2: 00000000000c0000-00000000000fffff write-protect
[    0.000000]   3: 00000000c0000000-00000000ffffffff uncachable
[    0.000000] ACPI: Early table checksum verification disabled
"""
"""Of Debian's Linux 6.12.117 with mtrr=debug under SeaBIOS, in QEMU's TCG with 40 bits."""


ALONE = REAL[REAL.index("MTRR map") :]

IOMEM = """\
root@box:~# cat /proc/iomem
00000000-00000fff : Reserved
00001000-bfffffff : System RAM
  01000000-01ffffff : Kernel code
c0000000-cfffffff : System RAM
d0000000-dfffffff : PCI Bus 0000:00
  d0000000-d0ffffff : 0000:00:02.0
e0000000-efffffff : Reserved
100000000-1ffffffff : System RAM
200000000-2ffffffff : PCI Bus 0000:00
"""
E820 = """\
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x00000000afffffff] usable
[    0.000000] BIOS-e820: [mem 0x00000000b0000000-0x00000000b0ffffff] reserved
[    0.000000] BIOS-e820: [mem 0x0000000100000000-0x000000013fffffff] usable
[    0.000000] Linux version 6.1.0
"""
OLD_E820 = """\
 BIOS-e820: 0000000000000000 - 00000000b0000000 (usable)
 BIOS-e820: 00000000b0000000 - 00000000b1000000 (reserved)
 BIOS-e820: 0000000100000000 - 0000000140000000 (usable)
"""
XEN_E820 = """\
(XEN)  [0000000000000000, 00000000afffffff] (usable)
(XEN)  [00000000b0000000, 00000000b0ffffff] (reserved)
(XEN)  [0000000100000000, 000000013fffffff] (usable)
"""
