"""The first process of a sandbox: starts what is to be run, watches it, and ends it at a limit.

It belongs to the same user as what it watches, and is out of its reach all the same: signals to the first process of a
namespace are lost, its memory and files are hidden, and no call of the kernel's is left that could change them. What
it hears from the code is bounded and handed on unread. Between two runs everything else stands still.

Standard library only.
"""

import contextlib
import os
import selectors
import signal
import stat
import struct
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from antiphon.tools.sandbox import jail
from antiphon.tools.sandbox.frames import frame, read_frame, write_all

FOLDER: Final = "/mnt/data"
LOOK_S: Final = 0.05
"""How often it is looked at what is used."""
SHORT_S: Final = 0.005
GRACE_S: Final = 0.5
"""How long code may take to end that was interrupted."""
FILES_MAX: Final = 1000
DEPTH_MAX: Final = 8
READ_BYTES: Final = 2**16
DRAIN_BYTES_MAX: Final = 2**20
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Plan(NamedTuple):
    """What a sandbox is made of: its interpreter, the worker's source, what it sees, and its limits."""

    worker: str
    python: str
    paths: list[str]
    path: str
    memory_bytes: int
    disk_bytes: int
    processes: int
    output_bytes: int
    result_bytes: int


class Limits(NamedTuple):
    """When a run must have ended, in the monotonic clock, and how much of the processors it may have used by then."""

    until: float
    cpu_s: float


class Bounded:
    """The beginning of what is said, and how much more there was."""

    def __init__(self, most: int) -> None:
        self.content = bytearray()
        self.dropped = 0
        self._most = most

    def go_on(self, fd: int) -> bool:
        """Hears what is there to be heard; whether more may come."""
        try:
            piece = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return True
        self._add(piece)
        return bool(piece)

    def drain(self, fd: int) -> None:
        """Hears what has been said already; nobody says more."""
        for _ in range(DRAIN_BYTES_MAX // READ_BYTES):
            try:
                piece = os.read(fd, READ_BYTES)
            except BlockingIOError:
                return
            if not piece:
                return
            self._add(piece)

    def _add(self, piece: bytes) -> None:
        kept = piece[: max(0, self._most - len(self.content))]
        self.content += kept
        self.dropped += len(piece) - len(kept)


class Saying:
    """What is to be said to one who may not listen."""

    def __init__(self, content: bytes) -> None:
        self._rest = memoryview(content)

    def go_on(self, fd: int) -> bool:
        """Says as much as is heard; whether there is more to say."""
        try:
            self._rest = self._rest[os.write(fd, self._rest) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return bool(self._rest)


class Answer(Bounded):
    """The worker's: the mark of the question, a length, and so much. The code may forge it, but hardly by mistake."""

    def __init__(self, mark: bytes, most: int) -> None:
        super().__init__(len(mark) + 4 + most)
        self._mark = mark

    @property
    def is_forged(self) -> bool:
        """Whether this is no answer to the question, or more than one."""
        start = bytes(self.content[:16])
        return not self._mark.startswith(start) or len(self.content) > self._end

    @property
    def is_whole(self) -> bool:
        """Whether all of it is there, and nothing else."""
        return len(self.content) == self._end and not self.is_forged

    @property
    def _end(self) -> int:
        return 20 + (int.from_bytes(self.content[16:20]) if len(self.content) >= 20 else self._most)


class Interpreter(NamedTuple):
    """The worker's process, and how it is asked, answers, and prints."""

    pid: int
    requests: int
    results: int
    log: int


class Warden:
    """Answers the server's frames, one at a time."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._worker: Interpreter | None = None

    def serve(self) -> None:
        """Returns when the server has closed its side."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what the first process has no handler for never reaches it
        while (asked := read_frame(0)) is not None:
            header, payload = asked
            try:
                answer, content = getattr(self, f"_do_{header['do']}")(header, payload)
            except OSError as error:
                answer, content = {"error": error.strerror or "It cannot be done"}, b""
            write_all(1, frame(answer, content))

    # ------------------------------------------------------------ runs

    def _do_python(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        _everybody(signal.SIGCONT)
        worker = self._worker = self._worker or self._interpreter()
        mark = os.urandom(16)
        asking = Saying(mark + struct.pack("!I", len(payload)) + payload)
        log, result = Bounded(self._plan.output_bytes), Answer(mark, self._plan.result_bytes)
        limits = self._limits(header)
        outcome, interrupted = "", False
        with selectors.DefaultSelector() as waiting:
            waiting.register(worker.requests, selectors.EVENT_WRITE, asking)
            waiting.register(worker.results, selectors.EVENT_READ, result)
            waiting.register(worker.log, selectors.EVENT_READ, log)
            while not outcome:
                _go_on(waiting)
                outcome = self._state(worker.pid, result, limits)
                if outcome == "ended" and interrupted:
                    outcome = "time"
                elif outcome == "time" and not interrupted:
                    interrupted, outcome = True, ""  # the code may end by itself, so that what it knew is kept
                    limits = limits._replace(until=time.monotonic() + GRACE_S)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker.pid, signal.SIGINT)
        # Who was interrupted and has children left may never be able to make one again.
        lost = not result.is_whole or (interrupted and len(_pids()) > 2)
        self._calm(lost=lost)
        log.drain(worker.log)
        if lost:
            self._forget()
        answer = {"outcome": outcome, "lost": lost, "dropped": log.dropped, "stdout": len(log.content)}
        return answer | self._look(), bytes(log.content + (result.content[20:] if result.is_whole else b""))

    def _state(self, worker: int, result: Answer, limits: Limits) -> str:
        """How a run of the interpreter has ended, or ""."""
        if result.is_forged:
            return "died"
        if result.is_whole:
            return "ended"
        if result.dropped:
            return "output"
        return "died" if worker in _reaped() else self._over(limits)

    def _do_shell(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        _everybody(signal.SIGCONT)
        had = self._worker
        shell = "/bin/bash" if os.access("/bin/bash", os.X_OK) else "/bin/sh"
        (out, out_in), (err, err_in) = os.pipe(), os.pipe()
        pid = self._spawn([shell, "-c", payload.decode("utf-8", "surrogateescape")], out_in, err_in, keep=())
        os.close(out_in)
        os.close(err_in)
        stdout, stderr = Bounded(self._plan.output_bytes), Bounded(self._plan.output_bytes)
        limits, outcome, code = self._limits(header), "", 0
        with selectors.DefaultSelector() as waiting:
            for fd, said in ((out, stdout), (err, stderr)):
                os.set_blocking(fd, False)
                waiting.register(fd, selectors.EVENT_READ, said)
            while not outcome:
                _go_on(waiting)
                ended = _reaped()
                if had and had.pid in ended:
                    self._forget()
                if pid in ended:
                    outcome, code = "ended", os.waitstatus_to_exitcode(ended[pid])
                else:
                    outcome = self._over(limits)
        self._calm(lost=outcome != "ended")
        for fd, said in ((out, stdout), (err, stderr)):
            said.drain(fd)
            os.close(fd)
        if outcome != "ended" or (self._worker and _ends(self._worker.pid)):
            self._forget()
        lost = had is not None and self._worker is None
        answer = {"outcome": outcome, "code": code, "lost": lost, "dropped": stdout.dropped + stderr.dropped}
        answer |= {"stdout": len(stdout.content), "stderr": len(stderr.content)}
        return answer | self._look(), bytes(stdout.content + stderr.content)

    def _interpreter(self) -> Interpreter:
        (asked, requests), (results, answered), (log, logged) = os.pipe(), os.pipe(), os.pipe()
        command = [self._plan.python, "-I", "-B", "-c", self._plan.worker, str(asked), str(answered)]
        pid = self._spawn(command, logged, logged, keep=(asked, answered))
        for fd in (asked, answered, logged):
            os.close(fd)
        for fd in (requests, results, log):
            os.set_blocking(fd, False)
        return Interpreter(pid, requests, results, log)

    def _spawn(self, command: list[str], out: int, err: int, *, keep: tuple[int, ...]) -> int:
        plan = self._plan
        pid = os.fork()
        if pid:
            return pid
        try:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.setsid()
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(out, 1)
            os.dup2(err, 2)
            for fd in keep:
                os.set_inheritable(fd, True)
            os.chdir(FOLDER)
            os.nice(10)
            jail.limit(plan.memory_bytes, plan.disk_bytes, plan.processes)
            os.execve(command[0], command, _environment(plan.path))
        finally:
            os._exit(127)

    def _limits(self, header: dict[str, Any]) -> Limits:
        return Limits(time.monotonic() + header["wall_s"], sum(_cpu_s(pid) for pid in _pids()) + header["cpu_s"])

    def _over(self, limits: Limits) -> str:
        """The limit that is reached, or ""."""
        if time.monotonic() > limits.until:
            return "time"
        pids = _pids()
        if sum(map(_cpu_s, pids)) > limits.cpu_s:
            return "cpu"
        most = self._plan.memory_bytes
        # What processes share is counted once only where the cheap sum says that it matters.
        if sum(map(_resident, pids)) > most and sum(map(_own_memory, pids)) > most:
            return "memory"
        return ""

    def _calm(self, *, lost: bool) -> None:
        """Ends everything, or makes it stand still until the next run."""
        _everybody(signal.SIGKILL if lost else signal.SIGSTOP)
        if lost:
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.waitpid(-1, 0)

    def _forget(self) -> None:
        for fd in (self._worker or ())[1:]:
            os.close(fd)
        self._worker = None

    # ------------------------------------------------------------ files

    def _do_files(self, _header: dict[str, Any], _payload: bytes) -> tuple[dict[str, Any], bytes]:
        return self._look(), b""

    def _look(self) -> dict[str, Any]:
        found: list[tuple[str, int, int]] = []
        skipped = 0
        for path, about in _walk("", os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY), DEPTH_MAX):
            if about is None or len(found) == FILES_MAX or not _is_name(path):
                skipped += 1
            else:
                found.append((path, about.st_size, about.st_mtime_ns))
            if skipped > FILES_MAX:
                break
        return {"files": sorted(found), "skipped": skipped}

    def _do_put(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        with _folder_of(header["path"], make=True) as (folder, name):
            how = os.O_WRONLY | os.O_NOFOLLOW
            if not header["start"]:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
                how |= os.O_CREAT | os.O_EXCL
            with open(os.open(name, how, 0o644, dir_fd=folder), "wb", buffering=0) as file:
                file.seek(header["start"])
                rest = memoryview(payload)
                while rest:
                    rest = rest[file.write(rest) :]
                return {"changed": os.fstat(file.fileno()).st_mtime_ns}, b""

    def _do_get(self, header: dict[str, Any], _payload: bytes) -> tuple[dict[str, Any], bytes]:
        with _folder_of(header["path"]) as (folder, name):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            with open(fd, "rb", buffering=0) as file:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    return {"error": "It is no file"}, b""
                file.seek(header["start"])
                return {}, file.read(header["length"])

    def _do_remove(self, header: dict[str, Any], _payload: bytes) -> tuple[dict[str, Any], bytes]:
        with contextlib.suppress(FileNotFoundError), _folder_of(header["path"]) as (folder, name):
            os.unlink(name, dir_fd=folder)
        return {}, b""


# ---------------------------------------------------------------- pipes


def _go_on(waiting: selectors.BaseSelector) -> None:
    """Hears and says what can be heard and said now; waits a moment for that."""
    if not waiting.get_map():
        time.sleep(SHORT_S)
        return
    for key, _ in waiting.select(LOOK_S):
        if not key.data.go_on(key.fd):
            waiting.unregister(key.fd)


# ---------------------------------------------------------------- processes


def _everybody(number: int) -> None:
    """A signal to all other processes here; refused outside, where they would be all of the user's."""
    if os.getpid() != 1:
        raise RuntimeError("the warden is not the first process of a sandbox")
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, number)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _cpu_s(pid: int) -> float:
    """What a process has used, and its children that are over."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return sum(int(each) for each in fields[11:15]) / _TICKS


def _resident(pid: int) -> int:
    if pid == 1:
        return 0
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0


def _own_memory(pid: int) -> int:
    """Resident memory, with what is shared divided among those who share it; all of it for one who hides that."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:")), 0)
    except OSError:
        return _resident(pid)


def _reaped() -> dict[int, int]:
    """The processes that have ended, and how."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = found[1]
    return ended


def _ends(pid: int) -> bool:
    """Whether a child that was told to stand still ends instead: who killed it may be over before it is."""
    until = time.monotonic() + GRACE_S
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if found:
            return not os.WIFSTOPPED(status)
        time.sleep(0.001)
    return False


def _environment(path: str) -> dict[str, str]:
    return {
        "PATH": path,
        "HOME": "/tmp",  # noqa: S108 (inside)
        "TMPDIR": "/tmp",  # noqa: S108
        "USER": "nobody",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


# ---------------------------------------------------------------- names


def _walk(prefix: str, folder: int, depth: int) -> Iterator[tuple[str, os.stat_result | None]]:
    """The files below a folder; links are not followed, and folders that lie too deep are one thing without size."""
    try:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = prefix + entry.name
            about = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(about.st_mode):
                yield path, about
            elif stat.S_ISDIR(about.st_mode):
                below = _below(entry.name, folder) if depth else None
                if below is None:
                    yield path, None
                else:
                    yield from _walk(f"{path}/", below, depth - 1)
    finally:
        os.close(folder)


def _below(name: str, folder: int) -> int | None:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    except OSError:
        return None


def _is_name(path: str) -> bool:
    return len(path) <= 255 and path.isprintable()


@contextlib.contextmanager
def _folder_of(path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """The folder of a file, opened without following a link, and the file's name in it."""
    *folders, name = path.split("/")
    if any(part in ("", ".", "..") for part in (*folders, name)):
        raise OSError(0, "It is no name of a file")
    folder = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in folders:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = below
        yield folder, name
    finally:
        os.close(folder)
