#!/usr/bin/env python3
"""Boots Debian's user-mode-linux on the host's file system with a script as init, and prints what the script prints.

usage: guest.py SCRIPT [ARG ...]        the exit status is the script's; the guest may mount over /tmp and /run

On CPUs whose XSAVE area is larger than the guest kernel knows (AVX-512 with AMX) it dies restoring floating-point
registers. A seccomp filter makes the host refuse PTRACE_GETREGSET(NT_X86_XSTATE); the guest then falls back to the
classic 512-byte area (its arch_init_registers), which every CPU has. That area lacks the wide registers, so a task switch
loses them: programs are kept off them (GLIBC_TUNABLES, OPENSSL_ia32cap), also those in containers.
"""
import ctypes
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

TUNABLES = "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX,-XSAVE,-XSAVEC"
PTRACE, GETREGSET, NT_X86_XSTATE, EINVAL = 101, 0x4204, 0x202, 22


def refuse_xstate():
    """Installs the filter; inherited by the guest kernel."""
    def op(code, jt, jf, k):
        return struct.pack("HBBI", code, jt, jf, k)

    load, equal, done = 0x20, 0x15, 0x06
    program = b"".join([
        op(load, 0, 0, 0), op(equal, 0, 5, PTRACE),
        op(load, 0, 0, 16), op(equal, 0, 3, GETREGSET),
        op(load, 0, 0, 32), op(equal, 0, 1, NT_X86_XSTATE),
        op(done, 0, 0, 0x00050000 | EINVAL),
        op(done, 0, 0, 0x7FFF0000)])
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(program, len(program))

    class Fprog(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    fprog = Fprog(len(program) // 8, ctypes.addressof(code))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(fprog), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp filter")


def main():
    with tempfile.TemporaryDirectory(prefix="hoy-guest-") as base:
        init, out = pathlib.Path(base, "init"), pathlib.Path(base, "out")
        words = " ".join("'" + a.replace("'", "'\\''") + "'" for a in sys.argv[1:])
        out.touch()
        init.write_text(
            "#!/bin/sh\nmount -t proc proc /proc\nmount -t sysfs sys /sys\n"
            f"export GLIBC_TUNABLES={TUNABLES} OPENSSL_ia32cap=~0x1000000000000000:0\n"
            f"export PATH={os.environ['PATH']}:/usr/sbin:/sbin; cd '{os.getcwd()}'\n"
            f"{{ setsid sh {words}; echo \"guest-status $?\"; }} >{out} 2>&1 </dev/null\nsync\n"
            "echo o >/proc/sysrq-trigger; sleep 10\n")
        init.chmod(0o755)
        proc = subprocess.run(["linux.uml", "mem=1024M", "rootfstype=hostfs", "rootflags=/", "rw", f"init={init}",
                               "con=null", "quiet"], preexec_fn=refuse_xstate, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=3500, check=False)
        text, mark, status = out.read_text(errors="replace").rpartition("guest-status ")
        if not mark:
            print(status + "the guest ended without a status:\n" + "\n".join(proc.stdout.splitlines()[-15:]))
            return 1
        sys.stdout.write(text)
        return int(status)


if __name__ == "__main__":
    sys.exit(main())
