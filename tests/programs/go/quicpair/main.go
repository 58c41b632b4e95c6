// QUIC with quic-go: segmentation offload, ECN, path MTU discovery and all.
//
//	quicpair serve ADDRESS          echoes every stream; prints "ready"
//	quicpair ask ADDRESS BYTES      sends BYTES on each of four streams at once and compares what comes back
package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

const protocol = "echo"

func certificate() tls.Certificate {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	check(err)
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	content, err := x509.CreateCertificate(rand.Reader, &template, &template, public, private)
	check(err)
	return tls.Certificate{Certificate: [][]byte{content}, PrivateKey: private}
}

func serve(address string) {
	config := &tls.Config{Certificates: []tls.Certificate{certificate()}, NextProtos: []string{protocol}}
	listener, err := quic.ListenAddr(address, config, nil)
	check(err)
	fmt.Println("ready")
	for {
		connection, err := listener.Accept(context.Background())
		check(err)
		go func() {
			for {
				stream, err := connection.AcceptStream(context.Background())
				if err != nil {
					return
				}
				go func() {
					io.Copy(stream, stream)
					stream.Close()
				}()
			}
		}()
	}
}

func ask(address string, size int) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}
	connection, err := quic.DialAddr(ctx, address, config, nil)
	check(err)
	fmt.Println("peer", connection.RemoteAddr())
	var all sync.WaitGroup
	right := make([]bool, 4)
	for index := range right {
		all.Add(1)
		go func() {
			defer all.Done()
			stream, err := connection.OpenStreamSync(ctx)
			check(err)
			sent := make([]byte, size)
			rand.Read(sent)
			go func() {
				stream.Write(sent)
				stream.Close()
			}()
			received, err := io.ReadAll(stream)
			check(err)
			right[index] = bytes.Equal(sent, received)
		}()
	}
	all.Wait()
	fmt.Println("right", right)
	check(connection.CloseWithError(0, ""))
}

func check(err error) {
	if err != nil {
		if refused, ok := err.(*net.OpError); ok {
			err = refused.Err
		}
		fmt.Println("error", err)
		os.Exit(1)
	}
}

func main() {
	if os.Args[1] == "serve" {
		serve(os.Args[2])
	}
	size, err := strconv.Atoi(os.Args[3])
	check(err)
	ask(os.Args[2], size)
}
