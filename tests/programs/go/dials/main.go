// dials ADDRESS N: N connections at once while goroutines keep the processors busy; counts echoes that came back right.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

func dial(address string, number int) error {
	connection, err := net.DialTimeout("tcp", address, 20*time.Second)
	if err != nil {
		return err
	}
	defer connection.Close()
	sent := []byte(fmt.Sprintf("connection %08d", number))
	if _, err := connection.Write(sent); err != nil {
		return err
	}
	back := make([]byte, len(sent))
	if _, err := io.ReadFull(connection, back); err != nil {
		return err
	}
	if string(back) != string(sent) {
		return fmt.Errorf("%q came back as %q", sent, back)
	}
	return nil
}

func main() {
	runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	total, _ := strconv.Atoi(os.Args[2])
	var right atomic.Int64
	var stop atomic.Bool
	for busy := 0; busy < 2; busy++ {
		go func() {
			for !stop.Load() {
			}
		}()
	}
	var group sync.WaitGroup
	limit := make(chan struct{}, 64)
	for number := 0; number < total; number++ {
		group.Add(1)
		limit <- struct{}{}
		go func(number int) {
			defer group.Done()
			if err := dial(os.Args[1], number); err != nil {
				fmt.Println(err)
			} else {
				right.Add(1)
			}
			<-limit
		}(number)
	}
	group.Wait()
	stop.Store(true)
	fmt.Printf("%d of %d\n", right.Load(), total)
	if right.Load() != int64(total) {
		os.Exit(1)
	}
}
