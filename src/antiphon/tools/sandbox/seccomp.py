"""The system calls that a sandbox does without, as a program for the kernel's filter (seccomp, classic BPF).

A list of what is denied, and not of what is allowed: an interpreter of the operator's choice runs in it. Denied is what
could undo the other walls (mounts, namespaces, other processes), what a namespace does not hold (keys, performance
counters, sockets of other families), what no limit counts (memory without a file or a mapping), and what has broken
kernels most often (io_uring, bpf, userfaultfd). Standard library only.
"""

import struct
from typing import Final, NamedTuple

EPERM: Final = 1
ENOSYS: Final = 38
AF_UNIX: Final = 1


class Machine(NamedTuple):
    """A processor's name in audit records, and which column of `NUMBERS` is its own."""

    audit: int
    column: int


MACHINES: Final = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}

# Name: number on x86_64, on aarch64; None: there is no such call.
DENIED: Final[dict[str, tuple[int | None, int | None]]] = {
    # what is where
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    # namespaces
    "unshare": (272, 97),
    "setns": (308, 268),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # memory that no limit counts
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # the kernel itself
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "syslog": (103, 116),
    "acct": (163, 89),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "personality": (135, 92),
    "vhangup": (153, 58),
    "lookup_dcookie": (212, 18),
    "remap_file_pages": (216, 234),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
}
# Their arguments decide.
CLONE: Final = (56, 220)
CLONE3: Final = (435, 435)
SOCKET: Final = (41, 198)
SOCKETPAIR: Final = (53, 199)
IOCTL: Final = (16, 29)
NEW_NAMESPACES: Final = 0x7E020000
"""The flags of `clone` that make namespaces: cgroup, uts, ipc, user, pid, net, mount."""
TERMINAL_INPUT: Final = (0x5412, 0x541C)
"""TIOCSTI, TIOCLINUX: typing for another."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _AUDIT = 0, 4
_X32: Final = 0x40000000


def program(machine: str) -> bytes:
    """The filter for a machine, as instructions of the kernel's. Raises `LookupError` for one that is not known."""
    audit, column = MACHINES[machine]
    steps = [_step(_LOAD, _AUDIT), _step(_EQUAL, audit, yes=1), _step(_RETURN, _KILL), _step(_LOAD, _NUMBER)]
    if column == 0:
        steps += [_step(_AT_LEAST, _X32, no=1), _step(_RETURN, _KILL)]
    steps += [_step(_EQUAL, CLONE3[column], no=1), _step(_RETURN, _ERRNO | ENOSYS)]  # its flags cannot be read here
    steps += _checked(CLONE[column], _argument(0), [_step(_ANY_BIT, NEW_NAMESPACES, no=1), _denied()])
    for call in (SOCKET, SOCKETPAIR):
        steps += _checked(call[column], _argument(0), [_step(_EQUAL, AF_UNIX, yes=1), _denied()])
    for request in TERMINAL_INPUT:
        steps += _checked(IOCTL[column], _argument(1), [_step(_EQUAL, request, no=1), _denied()])
    for numbers in DENIED.values():
        number = numbers[column]
        if number is not None:
            steps += [_step(_EQUAL, number, no=1), _denied()]
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _checked(number: int, load: bytes, then: list[bytes]) -> list[bytes]:
    """Instructions that look at an argument of one call, and load the call's number again."""
    body = [load, *then, _step(_LOAD, _NUMBER)]
    return [_step(_EQUAL, number, no=len(body)), *body]


def _argument(index: int) -> bytes:
    """Loads the lower half of an argument: both machines are little-endian."""
    return _step(_LOAD, 16 + 8 * index)


def _denied() -> bytes:
    return _step(_RETURN, _ERRNO | EPERM)


def _step(code: int, value: int, yes: int = 0, *, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)
