// traffic makes and measures network traffic; each measurement prints one JSON object.
//
//	traffic serve HTTP RAW               serve on two addresses, "-" for none; says "ready HTTP-PORT RAW-PORT"
//	traffic bulk RAW down|up|both BYTES  one connection; both: that many bytes each way at the same time
//	traffic connects RAW COUNT PARALLEL  connect, a byte there and back, close
//	traffic http HTTP CONNECTIONS SECONDS RATE
//	                                     keep-alive requests; RATE 0: one after the other on each connection
//	traffic hold RAW COUNT               that many connections at once, a round over all; again after a line of stdin
//	traffic stall RAW BYTES              bulk down, next to a connection that asked for bytes and does not read them
//
// RAW speaks: a byte 'd', 'u', 'b' or 'e' and a size of 8 bytes, big endian. d: the server sends that much. u: it reads
// that much, then sends a byte. b: both at once. e: it sends back what comes.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strconv"
	"time"
)

type result map[string]any

func main() {
	commands := map[string]func([]string) (result, error){
		"serve": serve, "bulk": bulk, "connects": connects, "http": requests, "hold": hold, "stall": stall,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "traffic serve|bulk|connects|http|hold|stall ...")
		os.Exit(2)
	}
	found, err := commands[os.Args[1]](os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	say(found)
}

func say(found result) {
	json.NewEncoder(os.Stdout).Encode(found)
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return value
}

// quantiles in microseconds of durations, which it sorts.
func quantiles(found result, name string, times []time.Duration) {
	if len(times) == 0 {
		return
	}
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	at := func(q float64) float64 { return float64(times[int(q*float64(len(times)-1))].Nanoseconds()) / 1000 }
	found[name+"p50_us"] = at(0.50)
	found[name+"p99_us"] = at(0.99)
	found[name+"max_us"] = at(1)
}
