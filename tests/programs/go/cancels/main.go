// Dials that nobody waits for to the end: cancels BLACK_HOLE REFUSED GREETER, each host:port.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

func why(err error) string {
	var number syscall.Errno
	var timeout net.Error
	switch {
	case err == nil:
		return "connected"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.As(err, &number):
		return number.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timed out"
	}
	return err.Error()
}

func main() {
	hole, refused, greeter := os.Args[1], os.Args[2], os.Args[3]
	_, err := net.DialTimeout("tcp", hole, 150*time.Millisecond)
	fmt.Println("DialTimeout into a black hole:", why(err))
	_, err = net.DialTimeout("tcp", refused, 5*time.Second)
	fmt.Println("DialTimeout refused:", why(err))

	var group sync.WaitGroup
	results := make([]string, 60)
	ctx, cancel := context.WithCancel(context.Background())
	for number := range results {
		group.Add(1)
		go func() {
			defer group.Done()
			_, err := (&net.Dialer{}).DialContext(ctx, "tcp", hole)
			results[number] = why(err)
		}()
	}
	time.Sleep(300 * time.Millisecond)
	cancel()
	group.Wait()
	counts := map[string]int{}
	for _, result := range results {
		counts[result]++
	}
	fmt.Println("dials cancelled together:", counts)

	connection, err := net.Dial("tcp", greeter)
	fmt.Println("a dial after that:", why(err))
	fmt.Fprint(connection, "GET /go HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	answer, err := io.ReadAll(connection)
	fmt.Println("bytes that came:", len(answer) > 0, why(err))
	fmt.Println("ready")
	if len(os.Args) > 4 {
		io.ReadAll(os.Stdin) // until it is closed
	}
}
