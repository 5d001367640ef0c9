"""glibc stand-ins for Android's libc, libm, libdl and liblog: a desktop's JVM loads an Android library unchanged.

For tests only. Each function that the library imports becomes a jump, in a library with the name of Android's; the
targets of the jumps are in ../desktop/bionic/helper.c.
"""

from __future__ import annotations

from pathlib import Path

from steps import PROJECT, Stamp, emptied, run, tool

HELPER = PROJECT / "desktop" / "bionic" / "helper.c"
EMPTY = ("libm.so", "libdl.so", "liblog.so")  # all functions are in the stand-in for libc.so
X86_64, AARCH64 = 62, 183  # e_machine of an ELF header
COMPILERS = {X86_64: ("gcc", "gcc"), AARCH64: ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")}


def make_shim(library: Path, out: Path) -> Path:
    """Build the stand-ins for a library; return their folder, for LD_LIBRARY_PATH.

    Raises: Unavailable without a C compiler for its machine.
    """
    stamp = Stamp(out, [library, HELPER, Path(__file__)])
    if stamp.is_current():
        return out
    emptied(out)
    machine = library.read_bytes()[18]
    names = imported(library)
    (out / "jumps.s").write_text(assembly(names, machine))
    (out / "versions.map").write_text("LIBC { global: *; };\n")
    (out / "empty.c").write_text("static int unused __attribute__((used));\n")
    compiler = [tool(*COMPILERS[machine]), "-shared", "-fPIC", "-O1"]
    alone = ["-nostdlib", "-Wl,--version-script=versions.map"]
    helper = "libbionicshim.so"
    run([*compiler, "-o", helper, f"-Wl,-soname,{helper}", HELPER, "-ldl"], cwd=out)
    run([*compiler, *alone, "-o", "libc.so", "-Wl,-soname,libc.so", "-Wl,-rpath,$ORIGIN", "jumps.s", helper], cwd=out)
    for name in EMPTY:
        run([*compiler, *alone, "-o", name, f"-Wl,-soname,{name}", "empty.c"], cwd=out)
    stamp.set()
    return out


def imported(library: Path) -> list[str]:
    """Return the names of the functions that a library imports."""
    rows = [line.split() for line in run([tool("readelf", "binutils"), "--dyn-syms", "-W", library]).splitlines()]
    return sorted({row[7].split("@")[0] for row in rows if len(row) >= 8 and row[3] == "FUNC" and row[6] == "UND"})


def assembly(names: list[str], machine: int) -> str:
    """Return a jump through a table for each name, and code that calls helper.c at loading to fill the table."""
    jump, initialize = (_X86_JUMP, _X86_INIT) if machine == X86_64 else (_ARM_JUMP, _ARM_INIT)
    slots = [jump.format(slot=f"jumps + {8 * index}") for index in range(len(names))]
    jumps = "\n".join(_FUNCTION.format(name=name, jump=slot) for name, slot in zip(names, slots, strict=True))
    texts = "\n".join(f'.Lname{index}: .string "{name}"' for index, name in enumerate(names))
    pointers = "\n".join(f".quad .Lname{index}" for index in range(len(names)))
    return _ASSEMBLY.format(
        jumps=jumps, initialize=initialize, texts=texts, pointers=pointers, table_bytes=8 * len(names) + 8
    )


_FUNCTION = """
.globl {name}
.type {name}, %function
{name}:
{jump}
.size {name}, . - {name}"""
_X86_JUMP = "    jmp *{slot}(%rip)"
_X86_INIT = """
    leaq names(%rip), %rdi
    leaq jumps(%rip), %rsi
    leaq streams(%rip), %rdx
    jmp bionic_shim_fill@PLT"""
_ARM_JUMP = "    adrp x16, {slot}\n    ldr x16, [x16, :lo12:{slot}]\n    br x16"
_ARM_INIT = """
    adrp x0, names
    add x0, x0, :lo12:names
    adrp x1, jumps
    add x1, x1, :lo12:jumps
    adrp x2, streams
    add x2, x2, :lo12:streams
    b bionic_shim_fill"""
_ASSEMBLY = """
.text
{jumps}
initialize:{initialize}

.section .init_array, "aw"
.align 8
.quad initialize

.section .rodata
{texts}

.section .data.rel, "aw"
.align 8
names:
{pointers}
.quad 0

.bss
.align 8
jumps: .zero {table_bytes}
.align 16
.globl __sF
.type __sF, %object
__sF:
streams: .zero 456
.size __sF, 456

.section .note.GNU-stack, "", %progbits
"""
