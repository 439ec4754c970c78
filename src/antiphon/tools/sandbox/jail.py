"""The walls of a sandbox: namespaces, a root of its own, no privileges, a filter of system calls. Linux 5.12 or newer.

Everything here changes the process that calls it, for good. A step that fails raises `OSError` or `Refused`, and then
nothing is run. Standard library only.
"""

import ctypes
import os
import platform
import resource
from pathlib import Path
from typing import Final

from antiphon.tools.sandbox import seccomp

NOBODY: Final = 65534
ROOT: Final = "/tmp"  # noqa: S108 (any folder will do to build the new root upon: nothing is written to it)
SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""What programs need; none of it can be written, and none of it is this server's."""
SETTINGS: Final = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts")
DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

_NEWUSER = 0x10000000
_UNSHARED = 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000 | 0x02000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR = 442
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 1, 4, 22, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_SECCOMP_MODE_FILTER = 2
_CAPABILITIES_MAX = 64
_CAPABILITY_VERSION_3 = 0x20080522
_SIGKILL = 9

_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """A sandbox cannot be had here; the message says why."""


def die_with(parent: int) -> None:
    """Ends this process when its parent ends."""
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, _SIGKILL)
    if parent and os.getppid() != parent:
        raise Refused("The server ended meanwhile.")


def part() -> bool:
    """New namespaces of processes (for children), mounts, network, IPC, names and control groups, and of users.

    The last may be left for `become_nobody`: root can build a root from what only root can read. Returns whether it is.
    """
    if os.geteuid() == 0:
        if not _libc.unshare(_UNSHARED):
            return True
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    _own_users(_UNSHARED)
    return False


def become_nobody() -> None:
    """Leaves root, and for users that nobody else is."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    _own_users(0)


def _own_users(more: int) -> None:
    uid, gid = os.geteuid(), os.getegid()
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, 1)  # else /proc/self is root's, and the ids cannot be mapped
    if _libc.unshare(_NEWUSER | more):
        number = ctypes.get_errno()
        raise Refused(f"The kernel makes no namespaces for user {uid} ({os.strerror(number)}). {_WHY_NOT}")
    try:
        Path("/proc/self/setgroups").write_bytes(b"deny")
        Path("/proc/self/gid_map").write_bytes(b"%d %d 1" % (NOBODY, gid))
        Path("/proc/self/uid_map").write_bytes(b"%d %d 1" % (NOBODY, uid))
    except OSError as error:
        raise Refused(f"The kernel maps no users into a namespace ({error.strerror}). {_WHY_NOT}") from error


_WHY_NOT = (
    "User namespaces may be switched off (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces,"
    " kernel.apparmor_restrict_unprivileged_userns), or a container's filter forbids them."
)


def build_root(disk_bytes: int, paths: list[str]) -> None:
    """A root with the system's programs and `paths`, read-only, and room to write in: /mnt/data, /tmp and /dev/shm."""
    _mount("none", "/", "", flags=_MS_REC | _MS_PRIVATE)
    sources = {path: _opened(path) for path in (*SYSTEM, *SETTINGS, *paths)}
    devices = {path: _opened(path) for path in DEVICES}
    _mount("root", ROOT, "tmpfs", flags=_MS_NOSUID | _MS_NODEV, options="size=1m,nr_inodes=512,mode=755")
    shown: list[str] = []
    for path, source in sources.items():
        if source is None or any(path.startswith(f"{each}/") for each in shown):
            continue
        shown.append(path)
        if Path(path).is_symlink() and path in SYSTEM:
            Path(ROOT + path).symlink_to(Path(path).readlink())
        else:
            _bind(source, path)
            _seal(ROOT + path, _ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV)
    for path, source in devices.items():
        if source is not None:
            _bind(source, path)
    _room_to_write(disk_bytes)
    _etc()
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        Path(f"{ROOT}/dev/{name}").symlink_to(f"/proc/self/{target}")
    Path(f"{ROOT}/proc").mkdir()
    try:
        _mount("proc", f"{ROOT}/proc", "proc", flags=_MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options="subset=pid")
    except OSError as error:
        message = f"A /proc of its own cannot be had ({error.strerror}): is this a container that masks parts of it?"
        raise Refused(message) from error
    _seal(ROOT, _ATTR_RDONLY, recursive=False)
    for source in (*sources.values(), *devices.values()):
        if source is not None:
            os.close(source)
    _enter()


def _room_to_write(disk_bytes: int) -> None:
    room = f"{ROOT}/mnt"
    Path(room).mkdir()
    inodes = max(1024, disk_bytes // 4096)
    _mount(
        "room", room, "tmpfs", flags=_MS_NOSUID | _MS_NODEV, options=f"size={disk_bytes},nr_inodes={inodes},mode=755"
    )
    for name, path in (("data", ""), ("tmp", "/tmp"), ("shm", "/dev/shm")):  # noqa: S108 (inside)
        Path(f"{room}/{name}").mkdir()
        Path(f"{room}/{name}").chmod(0o1777)
        if path:
            Path(ROOT + path).mkdir(parents=True, exist_ok=True)
            _mount(f"{room}/{name}", ROOT + path, "", flags=_MS_BIND)


def _etc() -> None:
    Path(f"{ROOT}/etc").mkdir(exist_ok=True)
    Path(f"{ROOT}/etc/passwd").write_bytes(b"nobody:x:%d:%d:nobody:/tmp:/bin/sh\n" % (NOBODY, NOBODY))
    Path(f"{ROOT}/etc/group").write_bytes(b"nobody:x:%d:\n" % NOBODY)


def _enter() -> None:
    """Makes the new root the only one there is."""
    os.chdir(ROOT)
    if _libc.syscall(_PIVOT_ROOT[platform.machine()], b".", b"."):
        raise _failed("pivot_root")
    if _libc.umount2(b".", _MNT_DETACH):
        raise _failed("umount2")
    os.chdir("/")


def give_up_privileges() -> None:
    """Without capabilities, without a way to get any, and with the filter."""
    _libc.sethostname(b"sandbox", 7)
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)
    _prctl("PR_CAP_AMBIENT", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(_CAPABILITIES_MAX):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            break  # this kernel has no more
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    if _libc.capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)())):
        raise _failed("capset")
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, 0)  # so that /proc shows nothing of this process
    try:
        instructions = seccomp.program(platform.machine())
    except LookupError as error:
        raise Refused(f"There is no filter of system calls for this machine ({platform.machine()}).") from error
    content = ctypes.create_string_buffer(instructions, len(instructions))
    program = _Program(len(instructions) // 8, ctypes.cast(content, ctypes.c_void_p))
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        raise _failed("seccomp")


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def limit(memory_bytes: int, disk_bytes: int, processes: int) -> None:
    """What one process may take; what all may take together is for the warden to see to."""
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_NPROC: processes,
        resource.RLIMIT_FSIZE: disk_bytes,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: 256,
    }
    for name, most in limits.items():
        hard = resource.getrlimit(name)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(name, (least, least))


# ---------------------------------------------------------------- mounts


def _opened(path: str) -> int | None:
    """Holds what is there now, whatever is mounted over it later; None: nothing is there."""
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise Refused(f"{path} cannot be read by user {os.geteuid()}, as whom the sandbox runs.") from error


def _bind(source: int, path: str) -> None:
    target = Path(ROOT + path)
    is_folder = os.path.isdir(f"/proc/self/fd/{source}")  # noqa: PTH112 (Path would follow it as a link's text)
    (target if is_folder else target.parent).mkdir(parents=True, exist_ok=True)
    if not is_folder:
        target.touch()
    _mount(f"/proc/self/fd/{source}", str(target), "", flags=_MS_BIND | _MS_REC)


class _Attributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns"))


def _seal(path: str, attributes: int, *, recursive: bool = True) -> None:
    wanted = _Attributes(attributes, 0, 0, 0)
    how = _AT_RECURSIVE if recursive else 0
    if _libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, path.encode(), how, ctypes.byref(wanted), ctypes.sizeof(wanted)):
        raise _failed(f"mount_setattr of {path}")


def _mount(source: str, target: str, kind: str, *, flags: int, options: str = "") -> None:
    arguments = (source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), options.encode())
    if _libc.mount(*arguments):
        raise _failed(f"mount of {target}")


def _prctl(name: str, option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        raise _failed(name)


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
