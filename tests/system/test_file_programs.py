"""Programs that nobody here wrote work on the pod's files as they do on local ones: same output, same trees afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from file_trees import Trees, new_trees
from neighbours import program
from runs import Runner

_SOURCE = """
mkdir -p src/deep/er src/empty
printf 'hello\\n' > src/hello.py
head -c 300000 /dev/zero | tr '\\0' x > src/deep/big
: > src/deep/er/nothing
ln -s ../hello.py src/deep/link
ln -s /nowhere src/dangling
ln src/hello.py src/deep/hard
chmod 751 src/deep/er
chmod 600 src/deep/big
umask 022
touch -d 2020-02-03T04:05:06.789Z src/hello.py src/deep/er src/deep src
truncate -s 100000 src/hole
"""


@pytest.fixture
def trees(runner: Runner) -> Iterator[Trees]:
    """Two empty directories, here and in the pod."""
    with new_trees(runner) as trees:
        yield trees


def test_tar_makes_compares_and_extracts(trees: Trees) -> None:
    script = _SOURCE + """
tar -cf all.tar src
tar -czSf sparse.tgz src
tar -df all.tar && echo the same
mkdir out && tar -xf all.tar -C out
(cd out && tar -df ../all.tar) && echo the same
mkdir other && tar -xzf sparse.tgz -C other
echo more >> out/src/hello.py
(cd out && tar -df ../all.tar) || echo differs: $?
tar -tvf all.tar | awk '{print $1, $3, $6, $7, $8}' | grep -v ' src/$' | sort
tar -rf all.tar other/src/hello.py
tar --delete -f all.tar src/deep/big
tar -tf all.tar | sort
rm all.tar sparse.tgz
"""
    out = trees.both(script)
    assert out.count("the same\n") == 2


def test_rsync_to_the_pod_and_back(trees: Trees) -> None:
    rsync = program("rsync", "rsync")
    local = trees.runner.folder / "local"
    local.mkdir()
    script = f"cd {local}\n{_SOURCE}find src -depth -exec touch -h -d 2020-01-02T03:04:05.6Z {{}} +"
    made = trees.runner.native("bash", "-euc", script)
    assert made.status == 0, made
    # The pod of an ordinary user has no other users than its root.
    script = """
own="--no-owner --no-group"
"$1" -aHS $own --info=stats0 "$2/src" .
"$1" -ai $own --checksum --delete "$2/src/" src/
echo changed > src/deep/er/nothing; rm src/dangling; echo new > src/new
touch -d 2001-01-01Z src/deep/er/nothing src/deep/er src/new src
"$1" -aHi $own --delete "$2/src/" src/ | sort
echo partly >> src/deep/big
"$1" -aH $own --inplace --no-whole-file "$2/src/" src/
"$1" -aH $own --delete src/ "$3"
"$1" -aHni $own --checksum --delete "$2/src/" "$3"
"""
    out = trees.both(script, rsync, local, trees.runner.folder / "back")
    assert "deleting   new" in out
    assert not (difference := trees.difference(times=True)), "\n".join(difference)


def test_git_works_in_the_pod(trees: Trees) -> None:
    # The pod's root, whose the trees are, has another number than an ordinary user here.
    (trees.runner.folder / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    script = """
git init -q -b main work
cd work
for number in $(seq 40); do mkdir -p d$((number % 5)); echo "line $number" > d$((number % 5))/file$number.py; done
git add .
git commit -qm 'the first'
git status --porcelain
echo more >> d1/file1.py; rm d2/file2.py; echo new > new; git mv d3/file3.py moved.py
git status --porcelain
git add -A
git commit -qm 'the second'
git log --stat --format='%H %s'
git checkout -q -b side HEAD~1
echo side > side && git add side && git commit -qm side
git merge -q -m merged main
git log --oneline --graph
git stash list; git diff HEAD~1 --stat
git tag -a -m 'a tag' v1
cd ..
git clone -q work cloned
git clone -q --no-local --bare work bare.git
git -C cloned log --format=%H -1
git -C work gc -q --prune=now
git -C work fsck --full 2>&1
git -C work count-objects -v | grep -v size
git -C cloned pull -q --rebase origin main 2>&1
git -C cloned push -q origin side:other 2>&1
git -C work branch -a
git -C work status --porcelain
git -C work worktree add -q ../tree main 2>&1
ls tree
rm -rf work/.git/index cloned/.git/index tree/.git work/.git/worktrees bare.git/packed-refs
find . -name '*.pack' -o -name '*.idx' -o -name '*.rev' | xargs rm -f
"""
    trees.both(script)


_SQLITE = """
import sqlite3, sys
mode, path = sys.argv[1:]
one = sqlite3.connect(path, timeout=0, isolation_level=None)
print(one.execute(f"pragma journal_mode={mode}").fetchone(), one.execute("pragma synchronous=full").fetchall())
one.execute("create table t (n integer primary key, text)")
one.execute("begin")
one.executemany("insert into t values (?, ?)", ((n, "x" * (n % 500)) for n in range(3000)))
one.execute("commit")
two = sqlite3.connect(path, timeout=0, isolation_level=None)
one.execute("begin immediate")
one.execute("delete from t where n % 2")
try:
    two.execute("begin immediate")
except sqlite3.OperationalError as error:
    print(error)
print(two.execute("select count(*) from t").fetchone() if mode == "wal" else "")
one.execute("rollback")
two.execute("update t set text = 'y' where n < 100")
print(one.execute("select count(*), sum(length(text)) from t").fetchone())
one.execute("vacuum")
print(one.execute("pragma integrity_check").fetchone())
two.close(); one.close()
"""


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "wal"])
def test_sqlite_with_every_journal(trees: Trees, mode: str) -> None:
    source = trees.runner.folder / "use.py"
    source.write_text(_SQLITE)
    trees.both(f"python3 {source} {mode} base.db; ls; rm -f base.db-*; od -c base.db | sed -n '2,$p' | md5sum", status=0)


_CONTENDING = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], timeout=50, isolation_level=None)
base.execute("pragma synchronous=off")
for _ in range(30):
    base.execute("begin immediate")
    (n,) = base.execute("select n from t").fetchone()
    base.execute("update t set n = ?", (n + 1,))
    base.execute("commit")
"""


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_processes_that_contend_for_one_database(trees: Trees, mode: str) -> None:
    source = trees.runner.folder / "contend.py"
    source.write_text(_CONTENDING)
    sqlite = "import sqlite3; base = sqlite3.connect('base.db', isolation_level=None);"
    made = f"base.execute('pragma journal_mode={mode}'); base.execute('create table t (n)')"
    script = f"""
python3 -c "{sqlite} {made}; base.execute('insert into t values (0)')"
python3 {source} base.db & one=$!
python3 {source} base.db & two=$!
wait $one; wait $two
python3 -c "{sqlite} print(base.execute('select n from t').fetchone(), base.execute('pragma integrity_check').fetchall())"
rm base.db
"""
    assert trees.both(script) == "(60,) [('ok',)]\n"


def test_vim_saves_with_backup_and_swap_file(trees: Trees) -> None:
    vim = program("vim.tiny", "vim-tiny")
    script = """
seq 1000 > numbers; chmod 640 numbers; ln -s numbers link; ln numbers hard; mkdir backups
for copy in yes no auto; do
  "$1" -Nu NONE -n -es -c "set backup backupcopy=$copy backupdir=./backups" -c '%s/$/ more/' -c 'wq!' numbers
  "$1" -Nu NONE -es -c 'set backup swapfile directory=.' -c 'normal Gofurther' -c 'wq' link
done
"$1" -Nu NONE -es -c 'set swapfile directory=.' -c 'normal ggOfirst' -c preserve -c 'silent !ls -a | sort' -c 'wq' numbers
ls -A; wc numbers hard backups/*; ls -l numbers | cut -c-10
"""
    trees.both(script, vim)


def test_ed_and_sed_and_patch_change_files_in_place(trees: Trees) -> None:
    script = """
seq 500 > numbers; cp numbers before; chmod 604 numbers
printf '10,20d\\n$a\\nthe end\\n.\\nw\\nq\\n' | busybox ed numbers > /dev/null
sed -i.bak -e 's/^1/one /' -e 30d numbers
busybox sed -i 's/^2/two /' numbers
busybox diff -u before numbers > change || true
busybox patch before change
cmp before numbers && echo the same
stat -c '%a %s' numbers numbers.bak
rm change numbers.bak
"""
    trees.both(script)


def test_everyday_tools(trees: Trees) -> None:
    script = _SOURCE + """
cp -a src copy; cp -r --sparse=always src/hole hole; cp --reflink=auto src/deep/big big
cmp src/deep/big copy/deep/big && cmp src/deep/big big
diff -r --no-dereference src copy && echo no difference
busybox cp -a src copy2; diff -r --no-dereference copy copy2
find . -newer src/hello.py -type f | sort
busybox find src -type l -exec busybox readlink {} + | sort
find . -samefile src/hello.py | sort
busybox grep -rl hello . | sort; grep -c x src/deep/big
du -a --apparent-size -b src | grep -v '\\(src\\|deep\\|er\\|empty\\)$' | sort -k 2
dd if=src/deep/big of=part bs=4k skip=2 count=3 conv=notrunc status=none
dd if=src/deep/big of=part bs=1000 seek=50 count=3 conv=notrunc status=none
busybox dd if=part of=direct bs=512 2> /dev/null; dd if=/dev/zero bs=8k count=2 oflag=append conv=notrunc of=part status=none
split -b 100000 src/deep/big piece.; cat piece.* | cmp - src/deep/big
sort -R src/deep/hard > /dev/null; shuf -n 1 src/hello.py; tac src/hello.py
install -m 700 src/hello.py there; mv there here; mv -n here src; ln -sf src/here short; ln -sfT deep src/short
mktemp -p . XXX.tmp > name; rm $(cat name) name; mkfifo pipe; test -p pipe && rm pipe
touch -r src/hello.py part; test part -ot src/here; truncate -s +10 part; truncate -s '<5' big
chmod -R go-w copy; chmod u+s,g+s here 2> /dev/null || echo no such file
busybox tail -n 1 src/hello.py; busybox md5sum part big direct; md5sum -c <(md5sum part)
(flock 9; echo locked >&9) 9> lock; rmdir copy/empty; rm -r copy2; ls -lR src | awk 'NF > 3 {print $1, $5, $9}'
"""
    out = trees.both(script)
    assert "no difference\n" in out


def test_bash_at_home_in_the_pod(trees: Trees) -> None:
    script = """
mkdir -p a/b/c 'with space'; pwd; cd a; pwd; pushd b/c > /dev/null; dirs -l; popd > /dev/null; pwd; cd ..; cd -; cd ..
echo one > f1; echo two >> f1; cat < f1 > f2; echo {a..c} >| f2; set -o noclobber; (echo x > f2) 2> /dev/null || echo refused
set +o noclobber; exec 3<> f1; read -r line <&3; echo "$line"; echo three >&3; exec 3>&-; cat f1
cat > here <<-END
	$(pwd) and $((6 * 7))
	END
cat here; cat <<< "string" > 'with space/f'; echo *; echo */; echo a/*/c; echo [a-f]*; shopt -s globstar; echo **
for f in f?; do [[ -f $f && -s $f && ! -x $f && $f -nt a || -r $f ]] && echo "$f"; done; [[ f1 -ef a/../f1 ]] && echo equal
source <(echo 'echo sourced'); printf 'echo "$0 $#"\\n' > run.sh; chmod +x run.sh; . ./run.sh; bash run.sh 1 2
mapfile -t lines < f1; echo "${#lines[@]} ${lines[-1]}"; (cd a/b && cd ../.. && pwd -P); cd "$TREE/a/../a/b/.."; pwd
cd "$TREE"; ln -s a/b sym; cd a/../sym; pwd; pwd -P; cd ..;
pwd; rm -rf a sym; cd "$TREE"; test -e a || echo gone; type -P ls > /dev/null
(umask 027; : > masked; umask 777; : > nobody); stat -c %a masked nobody; chmod 600 nobody
coproc cat f1; cat <&"${COPROC[0]}"; wait
cd "with space"; cd "$OLDPWD"; echo ~+ ; CDPATH=$TREE cd 'with space'
cat f; exec 4< f; cat /dev/fd/4; cat /proc/self/fd/4 4< f
"""
    trees.both(script, status=0)


def test_a_local_tree_is_moved_to_the_pod_and_back(trees: Trees) -> None:
    outside = trees.runner.folder / "outside"
    script = _SOURCE + """
mv src "$1"; test ! -e src; mv "$1" again; ls again
mv again/hello.py "$1"; cat "$1"; ln "$1" hard 2>&1 | sed 's/.*: //'; mv "$1" again/hello.py
"""
    assert "Invalid cross-device link" in trees.traced(script, outside).out
    moved = trees.native(_SOURCE + "mv src again", outside)
    assert moved.status == 0, moved
    # A move from file system to file system is a copy that loses hard links to what stays.
    assert [entry for entry in trees.difference() if "hello.py" not in entry and "hard" not in entry] == []
