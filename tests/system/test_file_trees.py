"""What the pod's file system is to programs here and to processes in the pod at the same time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_trees import PYTHON, Trees, new_trees
from runs import Runner

_MANY = 100_000
_FAR = 3 << 30


@pytest.fixture
def trees(runner: Runner) -> Iterator[Trees]:
    """Two empty directories, here and in the pod."""
    with new_trees(runner) as trees:
        yield trees


# -- logs and pipes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", [["tail", "-n+1", "-s0.1", "-f"], ["busybox", "tail", "-n+1", "-f"]], ids=" ".join)
def test_a_log_is_followed_while_the_pod_writes_it(trees: Trees, tail: list[str]) -> None:
    log = trees.pod / "log"
    log.write_text("first\n")
    with trees.beginning(*tail, f"{trees.there}/log") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        for number in range(3):
            with log.open("a") as file:
                file.write(f"line {number}\n")
            assert process.stdout.readline() == f"line {number}\n"
        # From the pod itself, more than is read ahead.
        trees.inside("sh", "-c", f"seq 100000 >> {trees.there}/log")
        assert [process.stdout.readline() for _ in range(100_000)][-1] == "100000\n"


def test_a_log_that_is_rotated_is_followed_by_name(trees: Trees) -> None:
    log = trees.pod / "log"
    log.write_text("old\n")
    with trees.beginning("tail", "-n+1", "-s0.1", "-F", f"{trees.there}/log") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "old\n"
        log.rename(trees.pod / "log.1")
        log.write_text("new\n")
        assert process.stdout.readline() == "new\n"


def test_a_pipe_of_the_pod_is_read_here(trees: Trees) -> None:
    os.mkfifo(trees.pod / "pipe")
    with trees.beginning("cat", f"{trees.there}/pipe") as reader:
        written = trees.inside("sh", "-c", f"for n in 1 2 3; do echo from the pod $n; done > {trees.there}/pipe")
        assert written.status == 0, written
        out, err = reader.communicate(timeout=30)
    assert (reader.returncode, out) == (0, "from the pod 1\nfrom the pod 2\nfrom the pod 3\n"), err


def test_a_pipe_of_the_pod_is_written_here(trees: Trees) -> None:
    os.mkfifo(trees.pod / "pipe")
    with trees.beginning_inside("lines = open('pipe').read().split(); print(len(lines), lines[-1])") as reader:
        written = trees.traced("seq 50000 > pipe; echo written")
        assert (written.status, written.out) == (0, "written\n"), written
        assert reader.communicate(timeout=30)[0] == "50000 50000\n"


def test_who_waits_at_a_pipe_can_be_interrupted(trees: Trees) -> None:
    script = """
mkfifo pipe
timeout -s INT 0.2 cat pipe || echo $?
timeout 0.2 sh -c 'echo x > pipe' || echo $?
exec 3<> pipe; timeout 0.2 cat <&3 || echo $?
"""
    assert trees.both(script) == "124\n124\n124\n"


_POLLS = """
import os, select
fd = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
poll, other = select.poll(), select.epoll()
poll.register(fd, select.POLLIN)
other.register(fd, select.EPOLLIN)
print(poll.poll(0), other.poll(0), select.select([fd], [], [], 0)[0], flush=True)
for _ in range(3):
    print(poll.poll() == [(fd, select.POLLIN)], other.poll() == [(fd, select.EPOLLIN)], os.read(fd, 100), flush=True)
print(poll.poll(30000) == [(fd, select.POLLHUP)], os.read(fd, 100))
"""


def test_a_pipe_of_the_pod_is_polled(trees: Trees) -> None:
    pipe = trees.pod / "pipe"
    os.mkfifo(pipe)
    with trees.beginning(PYTHON, "-I", "-c", f"import os; os.chdir({trees.there!r})\n{_POLLS}") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "[] [] []\n"
        writer = os.open(pipe, os.O_WRONLY)
        for number in range(3):
            os.write(writer, b"%d" % number)
            assert process.stdout.readline() == f"True True b'{number}'\n"
        os.close(writer)
        assert process.stdout.readline() == "True b''\n"
        assert process.wait(30) == 0


_WATCHES = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
fd = libc.inotify_init()
names = {libc.inotify_add_watch(fd, path.encode(), 0x3CE): path for path in sys.argv[1:]}
print("ready", flush=True)
while True:
    events = os.read(fd, 10000)
    while events:
        watch, mask, _, size = struct.unpack_from("iIII", events)
        print(hex(mask), names[watch][len(sys.argv[1]):] + "/" + events[16:16 + size].rstrip(b"\\0").decode(), flush=True)
        events = events[16 + size:]
"""


def test_changes_in_the_pod_are_told(trees: Trees) -> None:
    (trees.pod / "file").write_text("")
    with trees.beginning(PYTHON, "-I", "-c", _WATCHES, trees.there, f"{trees.there}/file") as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert next(lines) == "ready\n"
        (trees.pod / "file").write_text("changed")
        assert "0x2 /file/\n" in lines
        (trees.pod / "new").write_text("")
        assert "0x100 /new\n" in lines
        assert trees.traced("mv new newer; rm newer").status == 0
        assert "0x40 /new\n" in lines
        assert "0x80 /newer\n" in lines
        assert "0x200 /newer\n" in lines


# -- large things ---------------------------------------------------------------------------------------------------


_SPARSE = f"""
import hashlib, os
fd = os.open("far", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, {_FAR})
for place in (0, 1 << 20, (1 << 31) - 5, {_FAR} - 10):
    print(os.pwrite(fd, b"0123456789", place))
at, found = 0, []
while True:
    try:
        data = os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        print(error.errno)
        break
    at = os.lseek(fd, data, os.SEEK_HOLE)
    found.append((data, at))
print(found, os.fstat(fd).st_size)
print(os.pread(fd, 100, {_FAR} - 10), os.pread(fd, 20, (1 << 31) - 10), os.pread(fd, 10, {_FAR}))
print(os.lseek(fd, -4, os.SEEK_END), os.read(fd, 10), os.lseek(fd, 0, os.SEEK_CUR))
os.posix_fallocate(fd, {_FAR}, 4096)
os.ftruncate(fd, {_FAR} - 5)
print(os.stat("far").st_size, os.stat("far").st_blocks < 100000)
"""


def test_sparse_files_of_gigabytes(trees: Trees) -> None:
    source = trees.runner.folder / "sparse.py"
    source.write_text(_SPARSE)
    script = """
"$1" -I "$2"; cp --sparse=always far copy; stat -c %s copy; tail -c 7 copy; cmp -n 5000 far copy
tail -c +3221225470 far | od -c; dd if=far bs=1 skip=2147483640 count=16 status=none | od -c; rm far copy
"""
    trees.both(script, PYTHON, source)


def test_a_hundred_thousand_entries(trees: Trees) -> None:
    source = f"os.mkdir('many')\nfor n in range(1, {_MANY} + 1): os.close(os.open(f'many/name-{{n:06}}', os.O_CREAT))"
    made = trees.python_inside(source)
    assert made.status == 0, made
    program = trees.runner.folder / "tell.py"
    program.write_text("""
import os, sys
sys.path.insert(0, sys.argv[1])
from file_sequence_calls import Directory
names = [entry.name for entry in os.scandir("many")]
print(len(names), len(set(names)))
directory = Directory(os.open("many", os.O_RDONLY))
first = directory.read(60000)
place = directory.tell()
rest = directory.read()
directory.seek(place)
print(len(first), len(rest), directory.read() == rest)
directory.rewind()
print(directory.read(60000) == first)
""")
    script = """
ls -f many | wc -l; ls many | tail -n 1; find many -name '*99' | wc -l; "$1" -I "$2" "$3"
rm many/name-000001; ls -U many | wc -l; test -e many/name-000001 || echo gone; stat -c %s many/name-099999
"""
    calls = Path(__file__).resolve().parent.parent / "programs"
    ran = trees.traced(script, PYTHON, program, calls)
    assert ran.status == 0, ran
    dots = 2
    assert ran.out.split("\n") == [
        str(_MANY + dots), "name-100000", str(_MANY // 100), f"{_MANY} {_MANY}", f"60000 {_MANY + dots - 60000} True",
        "True", str(_MANY - 1), "gone", "0", "",
    ], ran  # fmt: skip


# -- locks ------------------------------------------------------------------------------------------------------------


_HOLDS = "file = open('lock', 'w'); fcntl.flock(file, 2); print('locked', flush=True); sys.stdin.readline()"
_TRIES = """
try:
    fcntl.flock(open('lock', 'w'), 6)
    print("free")
except BlockingIOError:
    print("not free")
"""
_WAITS = "fcntl.flock(open('lock', 'w'), 2); print('mine now')"


def test_flock_excludes_processes_in_the_pod_and_here(trees: Trees) -> None:
    lock = f"{trees.there}/lock"
    with trees.beginning("bash", "-c", 'exec 9> "$0"; flock 9; echo locked; read -r line', lock) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        assert trees.python_inside(_TRIES).out == "not free\n"
        assert trees.traced("flock -n lock true").status == 1
        with trees.beginning_inside(_WAITS) as waiting:
            holder.communicate("\n", timeout=30)
            assert waiting.communicate(timeout=30)[0] == "mine now\n"
    with trees.beginning_inside(_HOLDS) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        for command in ("flock -n lock true", "flock -w 0.2 lock true", "flock -s -n lock true"):
            assert trees.traced(command).status == 1
        with trees.beginning("flock", lock, "echo", "mine now") as waiting:
            holder.communicate("\n", timeout=30)
            assert waiting.communicate(timeout=30)[0] == "mine now\n"
    assert trees.python_inside(_TRIES).out == "free\n"


_RECORDS = """
import fcntl, os, sys
file = open("records", "r+b")
fcntl.lockf(file, fcntl.LOCK_EX, 10, 100)
print("locked", flush=True)
sys.stdin.readline()
os.close(os.open("records", os.O_RDONLY))
print("closed another", flush=True)
sys.stdin.readline()
"""


def test_record_locks_are_those_of_the_pods_kernel(trees: Trees) -> None:
    (trees.pod / "records").write_bytes(bytes(1000))
    source = f"import os\nos.chdir({trees.there!r})\n{_RECORDS}"
    with (trees.pod / "records").open("r+b") as seen, trees.beginning(PYTHON, "-I", "-c", source) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(BlockingIOError):
            fcntl.lockf(seen, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 105)
        fcntl.lockf(seen, fcntl.LOCK_EX | fcntl.LOCK_NB, 100, 0)
        script = "import fcntl; f = open('records', 'r+b')\ntry: fcntl.lockf(f, 6, 1, 50)\nexcept OSError as e: print(e.errno)"
        assert trees.traced('"$1" -I -c "$2"', PYTHON, script).out == "11\n"
        holder.stdin.write("\n")
        holder.stdin.flush()
        # fcntl(2): closing any descriptor of the file gives up all locks.
        assert holder.stdout.readline() == "closed another\n"
        fcntl.lockf(seen, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 100)
        found = fcntl.fcntl(seen, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
        assert struct.unpack("hhqqi4x", found)[0] == fcntl.F_UNLCK
        holder.communicate("\n", timeout=30)


# -- whose files they are -----------------------------------------------------------------------------------------------


def test_what_is_created_belongs_to_the_pods_user_with_the_modes_asked_for(trees: Trees) -> None:
    script = """
umask 027; echo x > file; mkdir directory; mkfifo pipe; ln -s file link; umask 0; : > open; mkdir -m 1777 sticky
install -m 4711 file program; chmod 2755 directory; mkdir directory/inner; : > directory/inner/file; cp -p open copy
"""
    done = trees.traced(script)
    assert done.status == 0, done
    seen = trees.inside("find", trees.there, "-exec", "stat", "-c", "%n %A %u:%g", "{}", "+")
    listed = sorted(line for line in seen.out.replace(trees.there, "").splitlines() if line.startswith("/"))
    assert listed == [
        "/copy -rw-rw-rw- 0:0", "/directory drwxr-sr-x 0:0", "/directory/inner drwxrwsrwx 0:0",
        "/directory/inner/file -rw-rw-rw- 0:0", "/file -rw-r----- 0:0", "/link lrwxrwxrwx 0:0", "/open -rw-rw-rw- 0:0",
        "/pipe prw-r----- 0:0", "/program -rws--x--x 0:0", "/sticky drwxrwxrwt 0:0",
    ], seen  # fmt: skip
    # And here as there.
    assert trees.traced("stat -c %u:%g file; test -O file; echo $?").out.startswith("0:0\n")


def test_a_sticky_directory_looks_like_one_and_is_the_pods_to_judge(trees: Trees) -> None:
    sticky = trees.pod / "sticky"
    sticky.mkdir()
    (sticky / "old").write_text("old")
    sticky.chmod(0o1777)
    # By path, which is the tracer's answer, by descriptor, which is the kernel's, and both once more where nothing is known.
    script = f"""
{PYTHON} -IB - sticky <<'END'
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print(oct(os.stat(sys.argv[1]).st_mode), oct(os.fstat(fd).st_mode), sorted(os.listdir(fd)))
os.utime(fd)
print(oct(os.fstat(fd).st_mode), oct(os.stat(".", dir_fd=fd).st_mode))
END
echo new >> sticky/old; mv sticky/old sticky/new; cat sticky/new; rm sticky/new; ls sticky
"""
    shown = "0o41777 0o41777 ['old']\n0o41777 0o41777\nold"
    assert trees.traced(script).out == f"{shown}new\n"


@contextlib.contextmanager
def _mounted(trees: Trees, options: str) -> Iterator[Path]:
    done = trees.python_inside(f"os.mkdir('mounted'); kernel.mount('none', 'mounted', 'tmpfs', 0, {options!r})")
    assert done.status == 0, done
    try:
        yield trees.pod / "mounted"
    finally:
        trees.python_inside("kernel.umount('mounted', kernel.MNT_DETACH)")


@pytest.mark.parametrize("behind", [True, False], ids=["behind", "at once"])
def test_a_full_disk_of_the_pod(trees: Trees, behind: bool) -> None:
    trees.settings["write_behind"] = behind
    source = """
import errno, os
fd = os.open("mounted/file", os.O_WRONLY | os.O_CREAT)
told = []
def name(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        told.append(call.__name__ + " " + errno.errorcode[error.errno])
for _ in range(64):
    name(os.write, fd, bytes(65536))
name(os.fsync, fd)
name(os.close, fd)
print(sorted(set(told)))
"""
    with _mounted(trees, "size=1m"):
        ran = trees.traced('"$1" -I -c "$2"; ! dd if=/dev/zero of=mounted/other bs=64k count=1 conv=fsync', PYTHON, source)
        free = os.statvfs(trees.pod / "mounted").f_bfree
    # Behind, writes fail as well once it is known here.
    told = [["fsync ENOSPC"], ["fsync ENOSPC", "write ENOSPC"]] if behind else [["write ENOSPC"]]
    assert free == 0
    assert ran.out in [f"{some}\n" for some in told], ran
    assert "No space left" in ran.err, ran
    assert ran.status == 0, ran


def test_a_file_system_of_the_pod_that_is_read_only(trees: Trees) -> None:
    script = """
for command in 'touch mounted/x' 'mkdir mounted/d' 'ln -s a mounted/l' 'rm mounted/here' 'mv mounted/here mounted/there' \
    'chmod 700 mounted/here' 'truncate -s 0 mounted/here' 'sh -c ": >> mounted/here"' 'touch -c -d 2020-01-01 mounted/here'; do
  eval "$command" 2>&1 | sed 's/.*: //'
done
cat mounted/here; test -w mounted/here || echo not writable
"""
    with _mounted(trees, "size=1m") as mounted:
        (mounted / "here").write_text("here\n")
        assert trees.python_inside("kernel.mount('none', 'mounted', '', 0x20 | 1)").status == 0
        out = trees.traced(script).out
    assert out == "Read-only file system\n" * 9 + "here\nnot writable\n"


# -- the end ----------------------------------------------------------------------------------------------------------


def test_what_was_written_before_sigkill_is_in_the_pod(trees: Trees) -> None:
    source = """
import mmap, os, signal
fd = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for number in range(20000):
    os.write(fd, b"line %d\\n" % number)
os.write(os.open("large", os.O_WRONLY | os.O_CREAT), b"x" * 5_000_000)
if os.fork() == 0:
    os.write(fd, b"the child\\n")
    os.kill(os.getpid(), signal.SIGKILL)
os.wait()
mapped = os.open("mapped", os.O_RDWR | os.O_CREAT)
os.truncate(mapped, 100000)
area = mmap.mmap(mapped, 0)
area[50000:50005] = b"pages"
os.write(fd, b"the end\\n")
os.kill(os.getpid(), signal.SIGKILL)
"""
    ran = trees.run(PYTHON, "-I", "-c", f"import os\nos.chdir({trees.there!r})\n{source}")
    assert ran.status == -9, ran
    lines = (trees.pod / "log").read_text().split("\n")
    assert lines == [*(f"line {number}" for number in range(20000)), "the child", "the end", ""]
    assert (trees.pod / "large").read_bytes() == b"x" * 5_000_000
    assert (trees.pod / "mapped").read_bytes()[50000:50005] == b"pages"


def test_files_without_names_live_until_they_are_closed(trees: Trees) -> None:
    script = """
echo kept > file; exec 3<> file; rm file; ls; cat <&3; echo more >&3; cat /proc/self/fd/3
readlink /proc/self/fd/3 | sed 's/.*\\///'
exec 3>&-; mkdir d; cd d; rmdir ../d; touch x 2>&1 | sed 's/.*: //'; cd ..; pwd
echo one > a; echo two > b; exec 4< b; mv a b; cat <&4; cat b
"""
    trees.both(script)


def test_a_removed_working_directory_is_empty(trees: Trees) -> None:
    trees.both("mkdir d; cd d; exec 3< .; rmdir ../d; ls; ls /proc/self/fd/3/; mkdir x 2>&1 | sed 's/.*: //'; stat -c %h .")


def test_types_of_files(trees: Trees) -> None:
    os.mkfifo(trees.pod / "pipe")
    os.mkfifo(trees.here / "pipe")
    script = "stat -c '%F %a' pipe; test -p pipe && echo a pipe; ls -l pipe | cut -c-10; find . -type p; ls -F"
    trees.both(script)
    assert stat.S_ISFIFO((trees.pod / "pipe").stat().st_mode)
