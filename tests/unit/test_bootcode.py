# SPDX-License-Identifier: GPL-2.0-only
"""The program of an incomplete clone, carried out by a processor of a dozen instructions."""

from __future__ import annotations

from bsync import bootcode
from bsync.model.layout import BOOT_PROGRAM

_LOADED = 0x7C00
_HARMLESS = {0xFA: 1, 0xFC: 1, 0xFB: 1, 0x31: 2, 0x8E: 2}  # flags, ax = 0, segment registers


def printed(program: bytes) -> bytes:
    """What `program` prints through int 10h before it halts.  Fails on anything unexpected."""
    memory = bytes(_LOADED) + program
    at, si, ax = _LOADED, 0, 0
    zero = False
    said = bytearray()
    for _ in range(10_000):
        opcode, operand = memory[at], memory[at + 1 : at + 3]
        match opcode:
            case _ if opcode in _HARMLESS:
                assert opcode != 0x31 or operand[0] == 0xC0
                at += _HARMLESS[opcode]
            case 0xBC | 0xBB | 0xBE:  # mov sp, bx, si
                si = int.from_bytes(operand, "little") if opcode == 0xBE else si
                at += 3
            case 0xAC:  # lodsb
                ax, si, at = ax & 0xFF00 | memory[si], si + 1, at + 1
            case 0x84:  # test al, al
                assert operand[0] == 0xC0
                zero, at = ax & 0xFF == 0, at + 2
            case 0x74 | 0xEB:  # jz, jmp
                distance = int.from_bytes(operand[:1], "little", signed=True)
                at += 2 + (distance if zero or opcode == 0xEB else 0)
            case 0xB4:  # mov ah
                ax, at = operand[0] << 8 | ax & 0xFF, at + 2
            case 0xCD:  # int
                assert operand[0] == 0x10, "only the screen may be touched"
                assert ax >> 8 == 0x0E
                said.append(ax & 0xFF)
                at += 2
            case 0xF4:  # hlt
                assert memory[at + 1 : at + 3] == b"\xeb\xfd", "an interrupt ends hlt"
                return bytes(said)
            case _:
                raise AssertionError(f"instruction {opcode:#x} at {at:#x}")
    raise AssertionError("it does not halt")


def test_it_prints_the_message_and_halts() -> None:
    assert printed(bootcode.disarmed()) == bootcode.MESSAGE
    assert bootcode.MESSAGE.isascii()
    assert b"incomplete clone" in bootcode.MESSAGE


def test_it_leaves_the_disk_signature_alone() -> None:
    assert len(bootcode.disarmed()) == BOOT_PROGRAM == 440


def test_it_is_known_again() -> None:
    assert bootcode.is_disarmed(bootcode.disarmed())
    assert bootcode.is_disarmed(bootcode.disarmed() + bytes(6))
    assert not bootcode.is_disarmed(bytes(446))
    assert not bootcode.is_disarmed(b"")
    assert not bootcode.is_disarmed(bytes(440) + bootcode.MESSAGE)
