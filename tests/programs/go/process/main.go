// process HOSTNAME: processes, waits, signals and bad pointers, as the Go runtime meets them. It ends as a leaf, by an exec.
//
// Every process that is started looks whether its host's name is HOSTNAME, so that none passes that is not supervised.
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

const (
	leafStatus = 7
	nowhere    = "/nowhere/at/all"
)

var self, hostname string

// A line that has to be the same with and without supervision.
func see(what string, facts ...any) {
	fmt.Printf("%s: %s", what, fmt.Sprintln(facts...))
}

// Ends the program: what it is to test could not be set up.
func must(err error) {
	if err != nil {
		fmt.Println("cannot go on:", err)
		os.Exit(1)
	}
}

// Whether a call that the supervisor looks at has the result that it has to have.
func look() bool {
	_, err := os.Open(nowhere)
	return os.IsNotExist(err)
}

func leaf() {
	if name, err := os.Hostname(); err != nil || name != hostname || !look() {
		fmt.Println("leaf of another host:", name, err)
		os.Exit(1)
	}
	fmt.Println("leaf")
	os.Exit(leafStatus)
}

// What a child of this program does.
func child(what string) {
	switch what {
	case "leaf":
		leaf()
	case "waits": // ends as a leaf when its input does
		os.Stdout.WriteString("ready\n")
		io.ReadAll(os.Stdin)
		leaf()
	case "busy": // until it is killed
		for thread := 0; thread < 4; thread++ {
			go func() {
				for {
					look()
				}
			}()
		}
		os.Stdout.WriteString("ready\n")
		select {}
	case "parent":
		parentOfOrphan()
	case "panics":
		panic("on purpose")
	case "faults":
		var none *int
		*none = 1
	case "blocked": // dies all the same: Go unblocks what ends it
		signal.Reset()
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
		select {}
	}
}

func init() {
	runtime.LockOSThread() // so that main runs in the first thread, and all else in others
}

func main() {
	hostname = os.Args[1]
	self = "/proc/self/exe"
	if len(os.Args) > 2 {
		child(os.Args[2])
		return
	}
	must(syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}))
	var err error
	self, err = os.Executable()
	must(err)
	manyAtOnce()
	kinds()
	failures()
	waysToExecute()
	statuses()
	stops()
	killed()
	deathOfAThread()
	orphan()
	signals()
	restarts()
	pointers()
	threads()
	executeFromAThread()
}
