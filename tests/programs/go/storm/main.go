// storm ADDRESS FILE N: goroutines that keep all processors busy, and collect garbage, while N others dial and open; the
// runtime sends itself SIGURG all the time. Stacks grow and move during the calls.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var garbage atomic.Pointer[[]byte]

// A stack of its own size for each depth, and something on it to be moved.
func deep(depth int, do func() error) error {
	var room [512]byte
	room[depth%512] = byte(depth)
	if depth > 0 {
		err := deep(depth-1, do)
		if room[depth%512] != byte(depth) {
			return fmt.Errorf("the stack has changed at depth %d", depth)
		}
		return err
	}
	return do()
}

func echo(address string, number int) error {
	connection, err := net.DialTimeout("tcp", address, 20*time.Second)
	if err != nil {
		return err
	}
	defer connection.Close()
	if connection.RemoteAddr().String() != address {
		return fmt.Errorf("connected to %v", connection.RemoteAddr())
	}
	sent := []byte(fmt.Sprintf("storm %08d", number))
	back := make([]byte, len(sent))
	if _, err := connection.Write(sent); err != nil {
		return err
	}
	if _, err := io.ReadFull(connection, back); err != nil {
		return err
	}
	if !bytes.Equal(sent, back) {
		return fmt.Errorf("%q came back as %q", sent, back)
	}
	return nil
}

func read(path string, wanted []byte) error {
	content, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(content, wanted) {
		err = fmt.Errorf("%s has other content", path)
	}
	return err
}

func main() {
	address, path := os.Args[1], os.Args[2]
	total, _ := strconv.Atoi(os.Args[3])
	runtime.GOMAXPROCS(runtime.NumCPU() * 2)
	wanted, err := os.ReadFile(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var stop atomic.Bool
	var right atomic.Int64
	for busy := 0; busy < runtime.NumCPU()*2; busy++ {
		go func() {
			for !stop.Load() {
				block := make([]byte, 1<<16)
				garbage.Store(&block)
			}
		}()
	}
	usr1 := make(chan os.Signal, 16)
	signal.Notify(usr1, syscall.SIGUSR1)
	var group sync.WaitGroup
	limit := make(chan struct{}, 32)
	for number := 0; number < total; number++ {
		group.Add(1)
		limit <- struct{}{}
		go func(number int) {
			defer group.Done()
			defer func() { <-limit }()
			err := deep(number%40, func() error { return echo(address, number) })
			if err == nil {
				err = deep(number%60, func() error { return read(path, wanted) })
			}
			if err == nil && number%50 == 0 {
				err = exec.Command("/bin/true").Run()
			}
			if err != nil {
				fmt.Println(err)
			} else {
				right.Add(1)
			}
		}(number)
	}
	group.Wait()
	stop.Store(true)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	<-usr1
	fmt.Printf("%d of %d\n", right.Load(), total)
	if right.Load() != int64(total) {
		os.Exit(1)
	}
}
