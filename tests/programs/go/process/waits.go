package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// A child that has said a line; what it says after that, and its input.
func started(what string, attributes *syscall.SysProcAttr) (*exec.Cmd, *bufio.Reader, io.WriteCloser) {
	child := command(what)
	child.SysProcAttr = attributes
	input, err := child.StdinPipe()
	must(err)
	output, err := child.StdoutPipe()
	must(err)
	must(child.Start())
	said := bufio.NewReader(output)
	_, err = said.ReadString('\n')
	must(err)
	return child, said, input
}

func statuses() {
	for _, what := range []string{"leaf", "panics", "faults", "blocked"} {
		status, _ := ended(command(what))
		see("a child that "+what, status)
	}
	func() {
		defer func() { see("a fault that is recovered from", recover()) }()
		var none *int
		*none = 1
	}()
}

func waited(pid, options int) (syscall.WaitStatus, int) {
	var status syscall.WaitStatus
	found, err := syscall.Wait4(pid, &status, options, nil)
	must(err)
	return status, found
}

// A child with all threads of a Go program is stopped and continued, and its parent is told of both once.
func stops() {
	child, said, input := started("waits", &syscall.SysProcAttr{Setpgid: true})
	pid, right := child.Process.Pid, 0
	_, found := waited(pid, syscall.WNOHANG|syscall.WUNTRACED|syscall.WCONTINUED)
	see("nothing to be told", found)
	for number := 0; number < 50; number++ {
		sent := []syscall.Signal{syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU}[number%4]
		must(syscall.Kill(-pid, sent))
		status, _ := waited(pid, syscall.WUNTRACED)
		if !status.Stopped() || status.StopSignal() != sent {
			see("stopped", status)
		}
		_, again := waited(pid, syscall.WUNTRACED|syscall.WNOHANG)
		must(syscall.Kill(-pid, syscall.SIGCONT))
		status, _ = waited(pid, syscall.WCONTINUED)
		_, further := waited(pid, syscall.WCONTINUED|syscall.WNOHANG)
		if status.Continued() && again == 0 && further == 0 {
			right++
		}
	}
	see("stopped and continued", right)
	input.Close()
	rest, _ := io.ReadAll(said)
	see("goes on after that", strings.TrimSpace(string(rest)), why(child.Wait()))
}

func killed() {
	right := 0
	for number := 0; number < 30; number++ {
		child, _, _ := started("busy", nil)
		must(child.Process.Kill())
		if why(child.Wait()) == "signal: killed" {
			right++
		}
	}
	see("killed among calls of four threads", right)
}

// PR_SET_PDEATHSIG is about the thread that made the child: it ends with its goroutine, which is locked to it.
func deathOfAThread() {
	made := make(chan *exec.Cmd)
	go func() {
		runtime.LockOSThread()
		child, _, _ := started("waits", &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL})
		made <- child
	}()
	see("after the end of its parent's thread", why((<-made).Wait()))
}

// Run by a child: leaves a process behind, and says which.
func parentOfOrphan() {
	left := command("waits")
	left.Stdin, left.ExtraFiles = os.Stdin, []*os.File{os.Stdout}
	output, err := left.StdoutPipe()
	must(err)
	must(left.Start())
	_, err = bufio.NewReader(output).ReadString('\n')
	must(err)
	os.Stdout.WriteString(strconv.Itoa(left.Process.Pid) + "\n")
}

// A child's child comes to this process as its subreaper, and its status, too.
func orphan() {
	const setChildSubreaper = 36
	_, _, failed := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0)
	see("to be a subreaper", failed)
	parent := command("parent")
	input, err := parent.StdinPipe()
	must(err)
	output, err := parent.StdoutPipe()
	must(err)
	must(parent.Start())
	line, err := bufio.NewReader(output).ReadString('\n')
	must(err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	must(err)
	_, err = parent.Process.Wait()
	must(err)
	_, found := waited(pid, syscall.WNOHANG)
	see("an orphan that runs", found)
	input.Close()
	status, found := waited(-1, 0)
	see("an orphan's status", status.ExitStatus(), found == pid)
}

func signals() {
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, syscall.SIGUSR1, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCHLD, syscall.SIGTRAP, syscall.SIGSYS)
	defer signal.Reset()
	for _, sent := range []syscall.Signal{
		syscall.SIGUSR1, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGTRAP, syscall.SIGSYS,
	} {
		right := 0
		for number := 0; number < 20; number++ {
			must(syscall.Kill(os.Getpid(), sent))
			if <-taken == sent {
				right++
			}
		}
		see("notified of "+sent.String(), right)
	}
	status, _ := ended(command("leaf"))
	see("notified of a child's end", <-taken, status)
	signal.Ignore(syscall.SIGUSR1)
	must(syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	see("ignored", signal.Ignored(syscall.SIGUSR1))
}

// A read that 200 signals of its thread interrupt goes on, as the runtime has SA_RESTART.
func restarts() {
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, syscall.SIGUSR1)
	defer signal.Reset()
	var pipe [2]int
	must(syscall.Pipe(pipe[:]))
	thread, result := make(chan int), make(chan string)
	go func() {
		runtime.LockOSThread()
		thread <- syscall.Gettid()
		size, err := syscall.Read(pipe[0], make([]byte, 8))
		result <- strconv.Itoa(size) + " " + why(err)
	}()
	tid := <-thread
	for number := 0; number < 200; number++ {
		_, _, failed := syscall.Syscall(syscall.SYS_TGKILL, uintptr(os.Getpid()), uintptr(tid), uintptr(syscall.SIGUSR1))
		if failed != 0 {
			see("tgkill", failed)
		}
	}
	<-taken
	_, err := syscall.Write(pipe[1], []byte("abc"))
	must(err)
	see("a read that was interrupted", <-result)
}
