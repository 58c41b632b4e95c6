package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Longer than anything takes that works.
const patience = 30 * time.Second

func bulk(arguments []string) (result, error) {
	return transfer(arguments[0], arguments[1], int64(number(arguments[2])))
}

func transfer(address, way string, size int64) (result, error) {
	kind, ok := map[string]byte{"down": 'd', "up": 'u', "both": 'b'}[way]
	if !ok {
		return nil, fmt.Errorf("down, up or both, not %q", way)
	}
	began := time.Now()
	conn, err := order(address, kind, size)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(began.Add(patience))
	sent := make(chan error, 1)
	if kind != 'd' {
		go func() { sent <- send(conn, size) }()
	} else {
		sent <- nil
	}
	expected := map[byte]int64{'d': size, 'u': 1, 'b': size + 1}[kind]
	if err := receive(conn, expected); err != nil {
		return nil, err
	}
	if err := <-sent; err != nil {
		return nil, err
	}
	return result{"bytes": size, "seconds": time.Since(began).Seconds()}, nil
}

func connects(arguments []string) (result, error) {
	count, parallel := number(arguments[1]), number(arguments[2])
	tickets := make(chan struct{}, count)
	for i := 0; i < count; i++ {
		tickets <- struct{}{}
	}
	close(tickets)
	var lock sync.Mutex
	var all []time.Duration
	var failure error
	failed := 0
	var workers sync.WaitGroup
	began := time.Now()
	for i := 0; i < parallel; i++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for range tickets {
				lock.Lock()
				enough := failed >= parallel // a way that is dead keeps nobody waiting for each one
				lock.Unlock()
				if enough {
					return
				}
				taken, err := once(arguments[0])
				lock.Lock()
				if err != nil {
					failure = err
					failed++
				} else {
					all = append(all, taken)
				}
				lock.Unlock()
			}
		}()
	}
	workers.Wait()
	if len(all) == 0 {
		return nil, failure
	}
	found := result{"count": len(all), "failed": count - len(all), "seconds": time.Since(began).Seconds()}
	quantiles(found, "", all)
	return found, nil
}

func once(address string) (time.Duration, error) {
	began := time.Now()
	conn, err := order(address, 'd', 1)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	conn.SetDeadline(began.Add(patience / 3))
	err = receive(conn, 1)
	return time.Since(began), err
}

// Two rounds over many open connections, so that somebody can look at the processes in between.
func hold(arguments []string) (result, error) {
	count := number(arguments[1])
	rounds := make([]chan struct{}, 2)
	for i := range rounds {
		rounds[i] = make(chan struct{})
	}
	done := make(chan error, count)
	for i := 0; i < count; i++ {
		go func() {
			conn, err := order(arguments[0], 'e', 0)
			if err != nil {
				done <- err
				<-rounds[1]
				done <- err
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			for round := range rounds {
				<-rounds[round]
				_, err := conn.Write([]byte("ping"))
				if err == nil {
					_, err = io.ReadFull(conn, make([]byte, 4))
				}
				done <- err
			}
		}()
	}
	for round := range rounds {
		began := time.Now()
		close(rounds[round])
		failed := 0
		var last error
		for i := 0; i < count; i++ {
			if err := <-done; err != nil {
				failed, last = failed+1, err
			}
		}
		found := result{"round": round, "count": count, "failed": failed, "seconds": time.Since(began).Seconds()}
		if last != nil {
			found["error"] = last.Error()
		}
		if round == len(rounds)-1 {
			return found, nil
		}
		say(found)
		bufio.NewReader(os.Stdin).ReadString('\n')
	}
	return nil, nil
}

func stall(arguments []string) (result, error) {
	idle, err := order(arguments[0], 'd', 1<<40)
	if err != nil {
		return nil, err
	}
	defer idle.Close()
	if err := receive(idle, 1); err != nil {
		return nil, err
	}
	found, err := transfer(arguments[0], "down", int64(number(arguments[1])))
	if err != nil {
		return result{"error": err.Error()}, nil
	}
	return found, nil
}
