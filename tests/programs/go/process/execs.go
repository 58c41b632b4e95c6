package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
)

const crowd = 100

func command(what string) *exec.Cmd {
	return exec.Command(self, hostname, what)
}

// How it ended, and what it said.
func ended(command *exec.Cmd) (string, string) {
	said, err := command.Output()
	return why(err), string(bytes.TrimSpace(said))
}

func sentence(status, said string) string {
	return status + ", " + said
}

func why(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// How many of so many at once, each in a goroutine of its own, find everything right.
func inACrowd(isRight func() bool) int64 {
	var group sync.WaitGroup
	var right atomic.Int64
	for number := 0; number < crowd; number++ {
		group.Add(1)
		go func() {
			defer group.Done()
			if isRight() {
				right.Add(1)
			}
		}()
	}
	group.Wait()
	return right.Load()
}

// fork and exec (by CLONE_VM and CLONE_VFORK) from many threads at once.
func manyAtOnce() {
	see("executed at once", inACrowd(func() bool {
		status, said := ended(command("leaf"))
		return status == "exit status 7" && said == "leaf"
	}))
}

func kinds() {
	user := []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
	for _, kind := range []struct {
		name       string
		attributes syscall.SysProcAttr
	}{
		{"a session of its own", syscall.SysProcAttr{Setsid: true}},
		{"a group of its own", syscall.SysProcAttr{Setpgid: true}},
		{"a signal at the parent's death", syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}},
		{"a user namespace", syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: user}},
	} {
		leaf := command("leaf")
		leaf.SysProcAttr = &kind.attributes
		see(kind.name, sentence(ended(leaf)))
	}
}

func failures() {
	for _, path := range []string{"/nowhere/x", "/etc", "/dev/null", "/etc/hostname/x"} {
		see("fork and exec "+path, why(exec.Command(path).Run()))
		see("exec "+path, why(syscall.Exec(path, []string{"x"}, nil)))
	}
	in := command("leaf")
	in.Dir = nowhere
	status, _ := ended(in)
	see("in a folder that is not there", status)
	see("a call after that", look())
}

func waysToExecute() {
	folder, err := os.MkdirTemp("", "process")
	must(err)
	defer os.RemoveAll(folder)
	script := filepath.Join(folder, "script")
	must(os.WriteFile(script, []byte("#!/bin/sh\nexec \"$PROGRAM\" \"$@\"\n"), 0o755))
	by := exec.Command(script, hostname, "leaf")
	by.Env = append(os.Environ(), "PROGRAM="+self)
	see("a script", sentence(ended(by)))
	content, err := os.ReadFile(self)
	must(err)
	must(os.WriteFile(filepath.Join(folder, "copy"), content, 0o755))
	see("a copy", sentence(ended(exec.Command(filepath.Join(folder, "copy"), hostname, "leaf"))))
	opened, err := os.Open(self)
	must(err)
	defer opened.Close()
	passed := exec.Command("/proc/self/fd/3", hostname, "leaf")
	passed.ExtraFiles = []*os.File{opened}
	see("a descriptor", sentence(ended(passed)))
}

// Not by a child: exec in a thread while others make calls, and after one that failed.
func executeFromAThread() {
	for number := 0; number < 4; number++ {
		go func() {
			for {
				look()
			}
		}()
	}
	see("exec of what is not there", why(syscall.Exec(nowhere, []string{"x"}, nil)))
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread() // not the leader: that one is locked to the main goroutine
		see("thread", syscall.Gettid() != os.Getpid())
		must(syscall.Exec(self, []string{self, hostname, "leaf"}, os.Environ()))
		close(done)
	}()
	<-done
}

func threads() {
	see("threads that end", inACrowd(func() bool {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		return look()
	}))
}
