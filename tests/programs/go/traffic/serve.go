package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

const block = 128 << 10

// Serves until SIGTERM; says then how many requests it has answered.
func serve(arguments []string) (result, error) {
	var answered atomic.Int64
	ports := [2]int{}
	for place, address := range arguments[:2] {
		if address == "-" {
			continue
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return nil, err
		}
		ports[place] = listener.Addr().(*net.TCPAddr).Port
		if place == 0 {
			go http.Serve(listener, http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
				answered.Add(1)
				io.WriteString(writer, "hello, world\n")
			}))
		} else {
			go accept(listener)
		}
	}
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, syscall.SIGTERM, syscall.SIGINT)
	fmt.Printf("ready %d %d\n", ports[0], ports[1])
	<-stopped
	return result{"answered": answered.Load()}, nil
}

func accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go answer(conn)
	}
}

func answer(conn net.Conn) {
	defer conn.Close()
	var order [9]byte
	if _, err := io.ReadFull(conn, order[:]); err != nil {
		return
	}
	size := int64(binary.BigEndian.Uint64(order[1:]))
	switch order[0] {
	case 'd':
		send(conn, size)
	case 'u':
		if receive(conn, size) == nil {
			conn.Write([]byte{1})
		}
	case 'b':
		sent := make(chan error)
		go func() { sent <- send(conn, size) }()
		received := receive(conn, size)
		if <-sent == nil && received == nil {
			conn.Write([]byte{1})
		}
	case 'e':
		io.Copy(conn, conn)
	}
}

// Not io.Copy from something endless: splice and sendfile would be other paths than those of an ordinary program.
func send(conn net.Conn, size int64) error {
	buffer := make([]byte, block)
	for size > 0 {
		n, err := conn.Write(buffer[:min(size, block)])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

func receive(conn net.Conn, size int64) error {
	buffer := make([]byte, block)
	for size > 0 {
		n, err := conn.Read(buffer[:min(size, block)])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

// Connects and gives the order.
func order(address string, kind byte, size int64) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", address, 20*time.Second)
	if err != nil {
		return nil, err
	}
	var words [9]byte
	words[0] = kind
	binary.BigEndian.PutUint64(words[1:], uint64(size))
	if _, err := conn.Write(words[:]); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
