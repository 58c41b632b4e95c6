package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Requests over connections of our own: Go's client would repeat silently what was lost on a kept connection.
func requests(arguments []string) (result, error) {
	address := arguments[0]
	connections, rate := number(arguments[1]), number(arguments[3])
	length, err := time.ParseDuration(arguments[2] + "s")
	if err != nil {
		return nil, err
	}
	run := &load{address: address, began: time.Now(), length: length, rate: rate}
	var workers sync.WaitGroup
	for i := 0; i < connections; i++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			run.work()
		}()
	}
	workers.Wait()
	found := result{
		"sent": run.sent.Load(), "answered": len(run.answers), "seconds": time.Since(run.began).Seconds(),
		"lost": run.sent.Load() - int64(len(run.answers)), "connects": run.dialled.Load(),
	}
	if run.failure != nil {
		found["error"] = run.failure.Error()
	}
	quantiles(found, "", run.answers)
	quantiles(found, "due_", run.due)
	return found, nil
}

type load struct {
	address string
	began   time.Time
	length  time.Duration
	rate    int
	tickets atomic.Int64
	sent    atomic.Int64
	dialled atomic.Int64
	lock    sync.Mutex
	answers []time.Duration // from the sending of the request
	due     []time.Duration // from when it should have been sent: shows what waited behind a slow one
	failure error
}

// One connection's requests, each due at its own time if there is a rate.
func (run *load) work() {
	var conn net.Conn
	var reader *bufio.Reader
	var answers, due []time.Duration
	for {
		at := time.Since(run.began)
		if run.rate > 0 {
			at = time.Duration(run.tickets.Add(1)-1) * time.Second / time.Duration(run.rate)
		}
		if at >= run.length {
			break
		}
		time.Sleep(time.Until(run.began.Add(at)))
		run.sent.Add(1)
		if conn == nil {
			var err error
			run.dialled.Add(1)
			if conn, err = net.DialTimeout("tcp", run.address, 10*time.Second); err != nil {
				conn = nil
				run.failed(err)
				continue
			}
			reader = bufio.NewReader(conn)
		}
		sent := time.Now()
		if err := exchange(conn, reader); err != nil {
			run.failed(err)
			conn.Close()
			conn = nil
			continue
		}
		answers = append(answers, time.Since(sent))
		due = append(due, time.Since(run.began.Add(at)))
	}
	if conn != nil {
		conn.Close()
	}
	run.lock.Lock()
	run.answers = append(run.answers, answers...)
	run.due = append(run.due, due...)
	run.lock.Unlock()
}

func (run *load) failed(err error) {
	run.lock.Lock()
	run.failure = err
	run.lock.Unlock()
}

func exchange(conn net.Conn, reader *bufio.Reader) error {
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: traffic\r\nUser-Agent: traffic\r\n\r\n"); err != nil {
		return err
	}
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = &net.AddrError{Err: response.Status, Addr: "answer"}
	}
	return err
}
