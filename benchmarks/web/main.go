// A static web server and its load, for programs.py.
//
//	web serve          prints its port, and serves until it is ended
//	web load PORT N    makes N requests on 16 connections, and prints how many seconds they took
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

const connections = 16

func serve() error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, os.Args[0]+".txt")
	}))
}

func load(port string, requests int) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	var workers sync.WaitGroup
	failures := make(chan error, connections)
	began := time.Now()
	for worker := 0; worker < connections; worker++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for n := 0; n < requests/connections; n++ {
				response, err := client.Get("http://127.0.0.1:" + port + "/")
				if err != nil {
					failures <- err
					return
				}
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		}()
	}
	workers.Wait()
	if len(failures) > 0 {
		return <-failures
	}
	fmt.Println(time.Since(began).Seconds())
	return nil
}

func main() {
	var err error
	if os.Args[1] == "serve" {
		err = serve()
	} else {
		requests, _ := strconv.Atoi(os.Args[3])
		err = load(os.Args[2], requests)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
