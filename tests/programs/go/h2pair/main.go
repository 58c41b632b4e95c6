// h2pair: a client and a server that talk as gRPC does, over HTTP/2 with prior knowledge, without TLS.
//
//	h2pair serve ADDRESS     says "ready PORT"; ends at SIGTERM with status 0
//	h2pair call URL          a unary call, a failing one, and a stream in both directions at once; prints what came
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func cleartext() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return protocols
}

func main() {
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(os.Args[2])
	case "call":
		err = call(os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	http.HandleFunc("/echo.Echo/Unary", unary)
	http.HandleFunc("/echo.Echo/Fails", fails)
	http.HandleFunc("/echo.Echo/Stream", stream)
	server := &http.Server{Protocols: cleartext()}
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, syscall.SIGTERM, syscall.SIGINT)
	done := make(chan struct{})
	go func() {
		<-stopped
		limit, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		server.Shutdown(limit)
		close(done)
	}()
	fmt.Printf("ready %d\n", listener.Addr().(*net.TCPAddr).Port)
	if err := server.Serve(listener); err != http.ErrServerClosed {
		return err
	}
	<-done
	return nil
}

func unary(writer http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	writer.Header().Set("Content-Type", "application/grpc")
	writer.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
	host, _, _ := net.SplitHostPort(request.RemoteAddr)
	fmt.Fprintf(writer, "%s %d bytes %s from %s", request.Proto, len(body), request.Header.Get("X-User"), host)
	writer.Header().Set("Grpc-Status", "0")
	writer.Header().Set("Grpc-Message", "fine")
}

// Trailers only: no body, as gRPC says an error.
func fails(writer http.ResponseWriter, request *http.Request) {
	writer.Header().Set("Grpc-Status", "5")
	writer.WriteHeader(http.StatusOK)
}

func stream(writer http.ResponseWriter, request *http.Request) {
	writer.Header().Set("Trailer", "Grpc-Status")
	lines := bufio.NewScanner(request.Body)
	for lines.Scan() {
		fmt.Fprintf(writer, "heard %s\n", lines.Text())
		writer.(http.Flusher).Flush()
	}
	writer.Header().Set("Grpc-Status", "0")
}

func call(url string) error {
	client := &http.Client{Transport: &http.Transport{Protocols: cleartext()}, Timeout: 30 * time.Second}
	for _, size := range []int{0, 3_000_000} {
		answer, err := post(client, url+"/echo.Echo/Unary", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			return err
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			return err
		}
		fmt.Printf("unary %s: %s, %s\n", body, answer.Trailer.Get("Grpc-Status"), answer.Trailer.Get("Grpc-Message"))
	}
	answer, err := post(client, url+"/echo.Echo/Fails", http.NoBody)
	if err != nil {
		return err
	}
	answer.Body.Close()
	fmt.Printf("fails %s%s\n", answer.Header.Get("Grpc-Status"), answer.Trailer.Get("Grpc-Status"))
	return both(client, url)
}

func post(client *http.Client, url string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequest("POST", url, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("X-User", os.Getenv("H2PAIR_USER"))
	request.Header.Set("Te", "trailers")
	return client.Do(request)
}

// Each line is written only when the answer to the one before has come: nothing on the way may wait for more.
func both(client *http.Client, url string) error {
	reader, writer := io.Pipe()
	go fmt.Fprintln(writer, "line 0")
	answer, err := post(client, url+"/echo.Echo/Stream", reader)
	if err != nil {
		return err
	}
	heard := bufio.NewScanner(answer.Body)
	count, last := 0, ""
	for heard.Scan() {
		last = heard.Text()
		count++
		if count < 100 {
			fmt.Fprintf(writer, "line %d\n", count)
		} else {
			writer.Close()
		}
	}
	fmt.Printf("stream %d lines: %s, last %q\n", count, answer.Trailer.Get("Grpc-Status"), last)
	return heard.Err()
}
