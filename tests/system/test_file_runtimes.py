"""Languages find their own files in the pod: modules, archives, shared libraries, programs, compilers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from build import go_program
from file_trees import PYTHON, Trees, new_trees
from neighbours import program
from runs import Runner


@pytest.fixture
def trees(runner: Runner) -> Iterator[Trees]:
    """Two empty directories, here and in the pod."""
    with new_trees(runner) as trees:
        yield trees


_PACKAGES = """
mkdir -p lib/package/inner lib/space/one more/space/two
echo 'from . import inner; from .inner.leaf import VALUE' > lib/package/__init__.py
echo '' > lib/package/inner/__init__.py
printf 'import os\\nVALUE = 42\\nPLACE = os.path.dirname(__file__)\\n' > lib/package/inner/leaf.py
echo 'resource' > lib/package/inner/text.txt
echo 'ONE = 1' > lib/space/one/x.py; echo 'TWO = 2' > more/space/two/y.py
for n in $(seq 60); do echo "import m$((n + 1))" > lib/m$n.py; done; echo 'LAST = True' > lib/m61.py
find . -exec touch -d 2022-02-02T02:02:02Z {} +
"""
_IMPORTS = """
import importlib, importlib.resources, importlib.util, pkgutil, sys, zipfile, zipimport
sys.path[:0] = [sys.argv[1] + "/lib", sys.argv[1] + "/more"]
import package, space.one.x, space.two.y, m1
print(package.VALUE, package.inner.leaf.PLACE, space.one.x.ONE + space.two.y.TWO, sys.modules["m61"].LAST)
print(importlib.resources.files("package.inner").joinpath("text.txt").read_text())
print(sorted(module.name for module in pkgutil.walk_packages([sys.argv[1] + "/lib"]))[:4])
print(importlib.util.find_spec("package.missing"), importlib.util.find_spec("missing"))
open(sys.argv[1] + "/lib/late.py", "w").write("LATE = 1")
importlib.invalidate_caches()
import late
print(late.LATE, late.__cached__)
with zipfile.ZipFile(sys.argv[1] + "/all.zip", "w") as archive:
    archive.writestr("zipped/__init__.py", "WHERE = __file__")
    archive.writestr("zipped/data", "from the archive")
    archive.writestr("__main__.py", "print('I am the archive')")
sys.path.insert(0, sys.argv[1] + "/all.zip")
import zipped
print(zipped.WHERE, zipped.__loader__.get_data(sys.argv[1] + "/all.zip/zipped/data"))
"""


def test_python_imports_from_the_pod(trees: Trees) -> None:
    source = trees.runner.folder / "imports.py"
    source.write_text(_IMPORTS)
    script = _PACKAGES + """
"$1" -I "$2" "$TREE"; "$1" -I "$2" "$TREE" | sed -n '2,$p' | grep -v "$TREE"
"$1" all.zip
(cd lib && "$1" -c 'import package, sys; print(package.__file__)')
PYTHONPATH=$TREE/lib "$1" -m package.inner.leaf
find . -name '*.pyc' | wc -l
rm -f all.zip; find . -name 'late.*' -delete
"""
    trees.both(script, PYTHON, source, PYTHONDONTWRITEBYTECODE="")


def test_python_works_with_files_of_the_pod(trees: Trees) -> None:
    source = trees.runner.folder / "work.py"
    source.write_text("""
import csv, dbm.dumb, glob, json, mmap, os, pathlib, shelve, shutil, tarfile, tempfile
path = pathlib.Path(".")
(path / "x").mkdir(); (path / "x/y").write_text("text"); print((path / "x/y").resolve().name, path.cwd() == path.absolute())
shutil.copytree("x", "z"); shutil.copy2("x/y", "x/y2"); print(sorted(glob.glob("**", recursive=True)))
with tempfile.TemporaryDirectory(dir=".") as folder, tempfile.TemporaryFile(dir=folder) as file:
    file.write(b"gone"); file.seek(0); print(file.read())
with tempfile.NamedTemporaryFile(dir=".", delete=True) as file:
    print(os.path.samefile(file.name, file.fileno()))
with open("mapped", "w+b") as file:
    file.truncate(100000)
    with mmap.mmap(file.fileno(), 0) as area:
        area[5000:5005] = b"hello"; area.flush(); print(area.find(b"hello"), area.resize(50000) or len(area))
    file.seek(5000); print(file.read(5), os.fstat(file.fileno()).st_size)
with shelve.open("shelf") as shelf: shelf["one"] = [1]
with dbm.dumb.open("base", "c") as base: base["k"] = "v"
with tarfile.open("t.tar", "w") as archive: archive.add("x")
print(tarfile.open("t.tar").getnames())
for name in ("t.tar", *glob.glob("shelf*"), *glob.glob("base*")): os.unlink(name)
os.replace("x/y", "x/y2"); os.symlink("x", "link"); print(os.path.realpath("link/y2").endswith("/x/y2"), os.listdir("link"))
print([(e.name, e.is_dir(), e.is_symlink(), e.stat().st_size) for e in sorted(os.scandir("x"), key=lambda e: e.name)])
with open("locked", "w") as file: print(os.lockf(file.fileno(), os.F_LOCK, 0), os.posix_fallocate(file.fileno(), 0, 1000))
print(os.stat("locked").st_size, os.access("locked", os.W_OK | os.R_OK), os.access("locked", os.X_OK))
print(os.pathconf("locked", "PC_NAME_MAX"), len(os.fspath(path)))
""")
    trees.both('"$1" -I "$2"', PYTHON, source)


_NODE = """
const fs = require('fs'), path = require('path');
console.log(require('plain').name, require('plain/lib/deep').depth, require('@scope/thing')(2), require('./own.json').key);
console.log(require.resolve('plain').slice(__dirname.length), Object.keys(require.cache).length);
try { require('missing'); } catch (error) { console.log(error.code); }
fs.mkdirSync('made/deep', {recursive: true});
fs.writeFileSync('made/deep/file', 'x'.repeat(70000)); fs.appendFileSync('made/deep/file', 'more');
fs.cpSync('made', 'copied', {recursive: true}); fs.renameSync('made/deep', 'made/shallow');
console.log(fs.readdirSync('.', {recursive: true}).filter(name => !name.includes('node_modules')).sort());
console.log(fs.statSync('made/shallow/file').size, fs.existsSync('made/deep'));
console.log(fs.realpathSync('link') === fs.realpathSync('made'));
(async () => {
  const {thing} = await import('esm');
  console.log(thing);
  await Promise.all([...Array(50)].map((_, n) => fs.promises.writeFile('made/' + n, String(n))));
  console.log((await fs.promises.readdir('made')).length);
  const stream = fs.createWriteStream('made/stream');
  for (let n = 0; n < 1000; n++) stream.write('line ' + n + '\\n');
  stream.end(() => fs.createReadStream('made/stream', {start: 10, end: 30}).on('data', data => console.log(String(data)))
    .on('close', () => { fs.rmSync('copied', {recursive: true}); fs.rmSync('made/stream'); }));
})();
"""


def test_node_requires_modules_of_the_pod(trees: Trees) -> None:
    source = trees.runner.folder / "main.js"
    source.write_text(_NODE)
    script = """
mkdir -p node_modules/plain/lib node_modules/@scope/thing node_modules/esm made store/real; ln -s made link
echo '{"name": "plain", "main": "./lib/main"}' > node_modules/plain/package.json
echo 'exports.name = "plain"; exports.inner = require("./deep");' > node_modules/plain/lib/main.js
echo 'exports.depth = 2' > node_modules/plain/lib/deep.js
ln -s ../../../store/real/index.js node_modules/@scope/thing/index.js
echo 'module.exports = n => n * 21' > store/real/index.js
echo '{"name": "esm", "type": "module", "exports": "./thing.js"}' > node_modules/esm/package.json
echo 'export const thing = import.meta.url.split("/").pop();' > node_modules/esm/thing.js
echo '{"key": "value"}' > own.json; cp "$2" main.js
"$1" main.js
"""
    trees.both(script, program("node", "nodejs"), source)


_JAVA = """
import java.io.*; import java.nio.channels.*; import java.nio.file.*; import java.util.*; import java.util.stream.*;
public class Main {
    public static void main(String[] arguments) throws Exception {
        try (var text = Main.class.getResourceAsStream("/words.txt")) { System.out.print(new String(text.readAllBytes())); }
        System.out.println(Class.forName("Other").getDeclaredConstructor().newInstance());
        System.out.println(ServiceLoader.load(Runnable.class).findFirst().get().getClass().getName());
        var tree = Path.of(arguments[0]);
        Files.createDirectories(tree.resolve("made/by/java"));
        Files.writeString(tree.resolve("made/by/java/file"), "hello");
        Files.copy(tree.resolve("made/by/java/file"), tree.resolve("made/copy"), StandardCopyOption.COPY_ATTRIBUTES);
        Files.move(tree.resolve("made/copy"), tree.resolve("made/moved"), StandardCopyOption.ATOMIC_MOVE);
        try (var all = Files.walk(tree.resolve("made"))) {
            System.out.println(all.map(path -> tree.relativize(path).toString()).sorted().toList());
        }
        try (var channel = FileChannel.open(tree.resolve("made/mapped"), EnumSet.of(StandardOpenOption.CREATE,
                StandardOpenOption.READ, StandardOpenOption.WRITE)); var lock = channel.lock()) {
            var area = channel.map(FileChannel.MapMode.READ_WRITE, 0, 10000);
            area.put(9000, (byte) 7);
            area.force();
            System.out.println(lock.isValid() + " " + channel.size());
        }
        System.out.println(Files.readAllBytes(tree.resolve("made/mapped"))[9000]);
    }
}
"""


_OTHER_JAVA = """
public class Other implements Runnable { public String toString() { return "other"; } public void run() {} }
"""


def test_java_with_archives_of_the_pod(trees: Trees) -> None:
    folder = trees.runner.folder / "java"
    (folder / "out/META-INF/services").mkdir(parents=True)
    (folder / "Main.java").write_text(_JAVA)
    (folder / "Other.java").write_text(_OTHER_JAVA)
    (folder / "out/words.txt").write_text("words of the archive\n")
    (folder / "out/META-INF/services/java.lang.Runnable").write_text("Other\n")
    (folder / "manifest").write_text("Main-Class: Main\nClass-Path: lib/other.jar\n")
    script = """
javac -d out Main.java Other.java
jar cfm app.jar manifest -C out Main.class -C out words.txt
jar cf other.jar -C out Other.class -C out META-INF/services
"""
    made = trees.runner.native("bash", "-euc", f"cd {folder}\n{script}")
    assert made.status == 0, made
    script = """
mkdir lib classes; cp "$1/app.jar" .; cp "$1/other.jar" lib; cp "$1"/out/*.class "$1/out/words.txt" classes
java -XX:TieredStopAtLevel=1 -Xshare:auto -jar app.jar "$TREE"; rm -r made
java -XX:TieredStopAtLevel=1 -cp "app.jar:lib/*" Main "$TREE"; rm -r made
java -XX:TieredStopAtLevel=1 -cp "$TREE/classes:lib/other.jar" Main "$TREE"
"""
    trees.both(script, folder)


def test_go_walks_reads_and_renames(trees: Trees) -> None:
    walk = go_program("walk")
    native = trees.runner.native(walk, trees.here)
    traced = trees.run(walk, trees.there)
    assert native.status == 0, native
    assert (traced.status, traced.out) == (native.status, native.out), traced


_LIBRARY = 'const char *answer(void) { return "from the library"; }\n'
_USER = '#include <stdio.h>\nconst char *answer(void);\nint main(void) { puts(answer()); return 0; }\n'
_LOADS = "import ctypes, sys; f = ctypes.CDLL(sys.argv[1]).answer; f.restype = ctypes.c_char_p; print(f())"


@pytest.mark.parametrize("rule", ["read_only", "read_write"])
def test_the_dynamic_loader_finds_libraries_of_the_pod(trees: Trees, rule: str) -> None:
    folder = trees.runner.folder
    (folder / "answer.c").write_text(_LIBRARY)
    (folder / "user.c").write_text(_USER)
    library = "libanswer.so.1"
    script = f"gcc -shared -fPIC -Wl,-soname,{library} -o {library} answer.c; gcc -o user user.c ./{library}"
    made = trees.runner.native("sh", "-ec", script)
    assert made.status == 0, made
    (trees.pod / "lib").mkdir()
    shutil.move(folder / "libanswer.so.1", trees.pod / "lib")
    trees.settings = {"mode": "read", "read_write": [], rule: [trees.pattern]}
    found = trees.run(folder / "user", LD_LIBRARY_PATH=f"{trees.there}/lib")
    assert (found.status, found.out) == (0, "from the library\n"), found
    missing = trees.run(folder / "user")
    assert missing.status == 127, missing
    loaded = trees.run(PYTHON, "-c", _LOADS, f"{trees.there}/lib/libanswer.so.1")
    assert (loaded.status, loaded.out) == (0, "b'from the library'\n"), loaded


def test_a_compiler_and_make_build_in_the_pod(trees: Trees) -> None:
    script = r"""
mkdir src; printf 'const char *answer(void);\n' > src/answer.h
printf '#include "answer.h"\nconst char *answer(void) { return "built"; }\n' > src/answer.c
printf '#include <stdio.h>\n#include "answer.h"\nint main(void) { puts(answer()); return 0; }\n' > src/main.c
printf 'prog: main.o libanswer.a\n\tgcc -o $@ main.o -L. -lanswer\nlibanswer.a: answer.o\n\tar rcsD $@ $^\n' > Makefile
printf '%%.o: src/%%.c src/answer.h\n\tgcc -c -o $@ $<\n' >> Makefile
make -j3 2>&1 | sort; ./prog; "$TREE/prog"; make; touch src/answer.h; make -n | wc -l
strip prog; ./prog; nm libanswer.a | grep -c ' T '
"""
    trees.both(script)


def test_programs_and_scripts_of_the_pod_are_executed(trees: Trees) -> None:
    script = r"""
cp /bin/busybox busybox; ./busybox echo static; "$TREE/busybox" readlink /proc/self/exe; PATH=$TREE:$PATH busybox echo found
cp "$(type -P cat)" kitty; echo meow | ./kitty; exec 3< kitty; chmod +x kitty
printf '#!/bin/sh\necho "$0" "$@"\n' > script; chmod 755 script; ./script 1 '2 3'; "$TREE/script" x; (cd /; "$TREE/script")
printf '#!%s/busybox sh\necho "$0" "$@" in the shell of the tree\n' "$TREE" > own; chmod 755 own; ./own a; PATH=$TREE own b
printf '#!./own with\n' > nested; chmod 755 nested; ./nested c
printf '#!/usr/bin/env sh\necho by env\n' > enved; chmod 755 enved; ./enved; sh enved; . ./enved
printf 'echo no line\n' > plain; chmod 755 plain; ./plain; chmod 644 plain; ./plain 2> /dev/null || echo $?
printf '#!/nowhere/at/all\n' > lost; chmod 755 lost; ./lost 2> /dev/null || echo $?; ./missing 2> /dev/null || echo $?
mkdir directory; ./directory 2> /dev/null || echo $?; : > empty; chmod 755 empty; ./empty; echo $?
(exec -a another ./kitty /proc/self/cmdline) | tr '\0' ' '; env -i "$TREE/busybox" env; find . -name script -exec {} found \;
echo one two | xargs ./script; timeout 20 ./script timed; nice ./script niced; ./busybox sh -c '"$TREE/busybox" true; echo $?'
echo "$(./script captured)"; ./script a & wait $!; ./busybox sh ./script; cp script copied; ./copied
(echo busy >> kitty) 2> /dev/null; ./kitty < plain; ln -s kitty linked; ./linked plain; ln script hard; ./hard
"""
    trees.both(script)
