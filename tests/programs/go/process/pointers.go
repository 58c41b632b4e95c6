package main

import (
	"os"
	"syscall"
	"unsafe"
)

const huge = 0xffffffff

type call struct {
	name      string
	number    uintptr
	arguments [6]uintptr
}

// A page with one after it that cannot be read: the file ends before that. (Unmapped, the runtime could put something
// there; and with PROT_NONE the tracer can read it, see docs/invisible.md.)
func edge() []byte {
	page := syscall.Getpagesize()
	file, err := os.CreateTemp("", "process")
	must(err)
	defer file.Close()
	must(os.Remove(file.Name()))
	must(file.Truncate(int64(page)))
	both, err := syscall.Mmap(int(file.Fd()), 0, 2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	must(err)
	return both[:page]
}

// Where `content` begins, if it lies at the end of a page.
func before(content string) uintptr {
	page := edge()
	at := len(page) - len(content)
	copy(page[at:], content)
	return uintptr(unsafe.Pointer(&page[at]))
}

func pointers() {
	stream, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	must(err)
	datagrams, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	must(err)
	calls := append(pathCalls(), socketCalls(uintptr(stream), uintptr(datagrams))...)
	for _, bad := range calls {
		_, _, failed := syscall.Syscall6(
			bad.number, bad.arguments[0], bad.arguments[1], bad.arguments[2], bad.arguments[3], bad.arguments[4], bad.arguments[5],
		)
		see(bad.name, failed)
	}
}

func pathCalls() []call {
	here := ^uintptr(99) // AT_FDCWD
	var found []call
	for _, path := range []struct {
		name string
		at   uintptr
	}{
		{"no path", 0},
		{"a path that is not mapped", 8},
		{"a path at the top", ^uintptr(0)},
		{"a path with no end", before("/nowhere/at/all")},
		{"a path that ends with the page", before("/nowhere/at/all\x00")},
		{"an empty path", before("\x00")},
		{"a long path", before("/" + long() + "\x00")},
	} {
		found = append(found,
			call{"openat, " + path.name, syscall.SYS_OPENAT, [6]uintptr{here, path.at}},
			call{"readlinkat, " + path.name, syscall.SYS_READLINKAT, [6]uintptr{here, path.at, 8, 100}},
			call{"faccessat, " + path.name, syscall.SYS_FACCESSAT, [6]uintptr{here, path.at}},
			call{"execve, " + path.name, syscall.SYS_EXECVE, [6]uintptr{path.at}},
			call{"chdir, " + path.name, syscall.SYS_CHDIR, [6]uintptr{path.at}},
			call{"unlinkat, " + path.name, syscall.SYS_UNLINKAT, [6]uintptr{here, path.at}},
		)
	}
	return append(found,
		call{"execve, no arguments there", syscall.SYS_EXECVE, [6]uintptr{before("/proc/self/exe\x00"), 8, 8}},
		call{"uname", syscall.SYS_UNAME, [6]uintptr{8}},
		call{"getcwd", syscall.SYS_GETCWD, [6]uintptr{8, 100}},
	)
}

// Of 3,000 bytes, of which each name is too long.
func long() string {
	name := make([]byte, 3000)
	for at := range name {
		name[at] = 'x'
	}
	return string(name)
}

func socketCalls(stream, datagrams uintptr) []call {
	const nowhere = uintptr(8)
	family := before("\x02\x00") // of 16 bytes that would be needed
	whole := before("\x02\x00\x00\x09\x7f\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00")
	return []call{
		{"connect, no such descriptor", syscall.SYS_CONNECT, [6]uintptr{99999, nowhere, 16}},
		{"connect, not mapped", syscall.SYS_CONNECT, [6]uintptr{stream, nowhere, 16}},
		{"connect, half mapped", syscall.SYS_CONNECT, [6]uintptr{stream, family, 16}},
		{"connect, too short", syscall.SYS_CONNECT, [6]uintptr{stream, whole, 8}},
		{"connect, no length", syscall.SYS_CONNECT, [6]uintptr{stream, whole, 0}},
		{"connect, a huge length", syscall.SYS_CONNECT, [6]uintptr{stream, whole, huge}},
		{"bind, not mapped", syscall.SYS_BIND, [6]uintptr{stream, nowhere, 16}},
		{"bind, a huge length", syscall.SYS_BIND, [6]uintptr{stream, whole, huge}},
		{"getsockname, not mapped", syscall.SYS_GETSOCKNAME, [6]uintptr{stream, nowhere, nowhere}},
		{"getpeername, not connected", syscall.SYS_GETPEERNAME, [6]uintptr{stream, nowhere, nowhere}},
		{"accept4, not listening", syscall.SYS_ACCEPT4, [6]uintptr{stream, nowhere, nowhere}},
		{"accept4, no such flag", syscall.SYS_ACCEPT4, [6]uintptr{stream, 0, 0, 0x10000}},
		{"sendto, no address there", syscall.SYS_SENDTO, [6]uintptr{datagrams, whole, 4, 0, nowhere, 16}},
		{"sendto, not connected", syscall.SYS_SENDTO, [6]uintptr{datagrams, whole, 4}},
		{"sendmsg, not mapped", syscall.SYS_SENDMSG, [6]uintptr{datagrams, nowhere}},
		{"recvmsg, not mapped", syscall.SYS_RECVMSG, [6]uintptr{datagrams, nowhere, syscall.MSG_DONTWAIT}},
		{"readv, a huge count", syscall.SYS_READV, [6]uintptr{datagrams, whole, huge}},
	}
}
