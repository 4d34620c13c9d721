# SPDX-License-Identifier: GPL-2.0-only
"""The program in the first 440 bytes of a disk, while the disk is an incomplete clone.

It says so on the console and halts, so that a half-written clone does not boot.  Pure.
Source of the format: the BIOS loads sector 0 to 0000:7C00 and jumps there in real mode.
"""

from __future__ import annotations

from bsync.model.layout import BOOT_PROGRAM

MESSAGE = b"bsync: this disk is an incomplete clone. Run bsync again to complete it.\r\n"


def is_disarmed(boot_code: bytes) -> bool:
    """Whether `boot_code` is the program of an incomplete clone."""
    return MESSAGE in boot_code[:BOOT_PROGRAM]


def disarmed() -> bytes:
    """440 bytes: the program that prints `MESSAGE` (int 10h, AH=0Eh) and halts."""
    program = bytes(
        (
            0xFA,                    # cli
            0xFC,                    # cld
            0x31, 0xC0,              # xor ax, ax
            0x8E, 0xD8,              # mov ds, ax
            0x8E, 0xD0,              # mov ss, ax
            0xBC, 0x00, 0x7C,        # mov sp, 0x7c00
            0xFB,                    # sti
            0xBE, 0x20, 0x7C,        # mov si, 0x7c20: the message
            0xAC,                    # next: lodsb
            0x84, 0xC0,              # test al, al
            0x74, 0x09,              # jz halt
            0xB4, 0x0E,              # mov ah, 0x0e: teletype output
            0xBB, 0x07, 0x00,        # mov bx, 7: page 0, grey
            0xCD, 0x10,              # int 0x10
            0xEB, 0xF2,              # jmp next
            0xF4,                    # halt: hlt
            0xEB, 0xFD,              # jmp halt
        )
    )  # fmt: skip
    return (program + MESSAGE + b"\0").ljust(BOOT_PROGRAM, b"\0")
