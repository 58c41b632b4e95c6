// walk works on the tree that is its argument in the ways of Go's os, io/fs and path/filepath, and prints what it finds.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"
)

func must(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

func must1[T any](value T, err error) T {
	must(err)
	return value
}

func main() {
	must(os.Chdir(os.Args[1]))
	fmt.Println(must1(os.Getwd()) == os.Args[1])
	build()
	walk()
	change()
	many()
	fails()
	must(os.RemoveAll("tree"))
	_, err := os.Stat("tree")
	fmt.Println(errors.Is(err, fs.ErrNotExist))
}

func build() {
	must(os.MkdirAll("tree/a/b/c", 0o755))
	must(os.Mkdir("tree/empty", 0o700))
	for number := 0; number < 20; number++ {
		name := filepath.Join("tree/a", fmt.Sprintf("file%02d.txt", number))
		must(os.WriteFile(name, []byte(strings.Repeat("x", number*1000)), 0o640))
	}
	must(os.WriteFile("tree/a/b/c/deep", []byte("deep\n"), 0o600))
	must(os.Symlink("a/b", "tree/link"))
	must(os.Symlink("nowhere", "tree/dangling"))
	must(os.Link("tree/a/file03.txt", "tree/hard"))
	when := time.Date(2021, 2, 3, 4, 5, 6, 789, time.UTC)
	must(os.Chtimes("tree/hard", when, when))
	must(os.Chmod("tree/a/file04.txt", 0o400))
}

func walk() {
	must(filepath.WalkDir("tree", func(path string, entry fs.DirEntry, err error) error {
		info := must1(entry.Info())
		size := info.Size()
		if info.IsDir() {
			size = 0
		}
		fmt.Println(path, entry.Type(), info.Mode(), size)
		return err
	}))
	tree := os.DirFS("tree")
	fmt.Println(must1(fs.Glob(tree, "a/file1*.txt")))
	fmt.Println(must1(filepath.Glob("tree/*/file0[1-3].txt")))
	fmt.Printf("%q %d\n", must1(fs.ReadFile(tree, "a/b/c/deep")), len(must1(fs.ReadDir(tree, "a"))))
	_, err := fs.ReadFile(tree, "../outside")
	fmt.Println(errors.Is(err, fs.ErrInvalid))
	fmt.Println(must1(filepath.EvalSymlinks("tree/link/c")), must1(os.Readlink("tree/dangling")))
	one, other := must1(os.Stat("tree/hard")), must1(os.Stat("tree/a/file03.txt"))
	fmt.Println(os.SameFile(one, other), one.ModTime().UTC().Format(time.RFC3339Nano))
	fmt.Println(one.Sys().(*syscall.Stat_t).Nlink)
	directory := must1(os.Open("tree/a"))
	defer directory.Close()
	var names []string
	for {
		some, err := directory.Readdirnames(7)
		names = append(names, some...)
		if err == io.EOF {
			break
		}
		must(err)
	}
	sort.Strings(names)
	fmt.Println(len(names), names[0], names[len(names)-1])
}

func change() {
	file := must1(os.OpenFile("tree/log", os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644))
	for number := 0; number < 100; number++ {
		must1(fmt.Fprintf(file, "line %d\n", number))
	}
	must1(file.Seek(0, io.SeekStart))
	lines := 0
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		lines++
	}
	buffer := make([]byte, 7)
	must1(file.ReadAt(buffer, 10))
	must(file.Sync())
	must(file.Truncate(100))
	info := must1(file.Stat())
	fmt.Printf("%d %q %d\n", lines, buffer, info.Size())
	must(os.Rename("tree/log", "tree/a/moved"))
	must1(file.WriteString("after the move\n"))
	must(file.Close())
	fmt.Println(len(must1(os.ReadFile("tree/a/moved"))))
	must(os.Rename("tree/a/b", "tree/b"))
	fmt.Printf("%q\n", must1(os.ReadFile("tree/b/c/deep")))
	copied := must1(os.Create("tree/copy"))
	source := must1(os.Open("tree/a/file19.txt"))
	fmt.Println(must1(io.Copy(copied, source)))
	must(copied.Close())
	must(source.Close())
	temporary := must1(os.CreateTemp("tree", "temporary-*"))
	must(os.Remove(temporary.Name()))
	must1(temporary.WriteString("nobody else sees this"))
	must1(temporary.Seek(0, io.SeekStart))
	fmt.Printf("%q\n", must1(io.ReadAll(temporary)))
	must(temporary.Close())
}

// As many at once as Go likes: each blocks a thread of its own.
func many() {
	var group sync.WaitGroup
	for number := 0; number < 200; number++ {
		group.Add(1)
		go func(number int) {
			defer group.Done()
			name := fmt.Sprintf("tree/empty/%03d", number)
			must(os.WriteFile(name, []byte(name), 0o644))
			if string(must1(os.ReadFile(name))) != name {
				fmt.Println("not what was written:", name)
			}
			must(os.Rename(name, name+".done"))
		}(number)
	}
	group.Wait()
	fmt.Println(len(must1(os.ReadDir("tree/empty"))))
}

func fails() {
	_, err := os.Open("tree/missing")
	fmt.Println(err)
	fmt.Println(os.Remove("tree/empty"))
	fmt.Println(os.Mkdir("tree/a", 0o755))
	_, err = os.ReadFile("tree")
	fmt.Println(err)
	_, err = os.ReadDir("tree/copy")
	fmt.Println(err)
	fmt.Println(os.Rename("tree", "tree/a/tree"))
	_, err = os.OpenFile("tree/copy", os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	fmt.Println(err)
}
