// debuggee: a program of several threads that looks at its pod, for debuggers to stop.
//
// With an address it connects there. With "wait" it goes on looking until it gets SIGTERM, with "aloud" it tells each time.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const threads = 4

// look is where debuggers stop: what it returns is the pod's.
func look(number int, address string) string {
	content, err := os.ReadFile("/app/config.json")
	if err != nil {
		return err.Error()
	}
	file := strings.Contains(string(content), "I am a file of the pod")
	hostname, _ := os.Hostname()
	answer := greeting(address)
	return fmt.Sprintf("file %t, hostname %s, env %s, peer %s", file, hostname, os.Getenv("DEMO_GREETING"), answer)
}

func greeting(address string) string {
	connection, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return err.Error()
	}
	defer connection.Close()
	fmt.Fprintf(connection, "GET / HTTP/1.0\r\n\r\n")
	status, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(status)
}

// lookAll looks from several threads at once.
func lookAll(address string) []string {
	var group sync.WaitGroup
	found := make([]string, threads)
	for number := 0; number < threads; number++ {
		group.Add(1)
		go func(number int) {
			defer group.Done()
			runtime.LockOSThread()
			found[number] = look(number, address)
		}(number)
	}
	group.Wait()
	return found
}

func main() {
	address := os.Args[1]
	if len(os.Args) > 2 {
		wait(address)
		return
	}
	for _, line := range lookAll(address) {
		fmt.Println(line)
	}
	tally(1, address)
}

// tally is where a single thread comes, after all have looked.
func tally(rounds int, address string) {
	if len(os.Args) > 3 {
		fmt.Println("round", rounds, "at", address)
	}
}

func wait(address string) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	fmt.Println("ready", os.Getpid())
	rounds := 0
	for {
		select {
		case <-ended:
			fmt.Println("ended after", rounds > 0)
			return
		case <-time.After(20 * time.Millisecond):
			lookAll(address)
			rounds++
			tally(rounds, address)
		}
	}
}
