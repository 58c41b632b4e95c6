// target is the application that the tests attach to: a static binary in an image FROM scratch. Every answer of it
// names the pod, so that it cannot be mistaken for one given on the developer's machine.
//
//	GET /             pod:<hostname>
//	GET /peer         the address that the connection came from
//	GET /env/NAME     the value of that variable, 404 if unset
//	GET /file?path=P  the contents of that file
//	GET /headers      the request's headers, one a line, sorted
//	POST /echo        the request's body
//	GET /bytes?n=N    N bytes, each the low byte of its offset
//	TCP               a second port gives back the bytes it gets, then closes when the peer has
//	UDP               the same port number gives back datagrams
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sort"
	"strconv"
)

func main() {
	httpAddress := flag.String("http", ":80", "where to serve HTTP")
	echoAddress := flag.String("echo", ":7", "where to echo TCP and UDP")
	flag.Parse()

	go echoTCP(*echoAddress)
	go echoUDP(*echoAddress)
	log.Fatal(http.ListenAndServe(*httpAddress, routes()))
}

func routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		hostname, _ := os.Hostname()
		fmt.Fprintf(w, "pod:%s\n", hostname)
	})
	mux.HandleFunc("/peer", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.RemoteAddr)
	})
	mux.HandleFunc("/env/{name}", func(w http.ResponseWriter, r *http.Request) {
		value, ok := os.LookupEnv(r.PathValue("name"))
		if !ok {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, value)
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		content, err := os.ReadFile(r.URL.Query().Get("path"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.Write(content)
	})
	mux.HandleFunc("/headers", headers)
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("/bytes", bytes)
	return mux
}

func headers(w http.ResponseWriter, r *http.Request) {
	var lines []string
	for name, values := range r.Header {
		for _, value := range values {
			lines = append(lines, name+": "+value+"\n")
		}
	}
	sort.Strings(lines)
	for _, line := range lines {
		io.WriteString(w, line)
	}
}

func bytes(w http.ResponseWriter, r *http.Request) {
	left, err := strconv.Atoi(r.URL.Query().Get("n"))
	if err != nil || left < 0 {
		http.Error(w, "n must be a number of bytes", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(left))
	block := make([]byte, 64<<10) // a multiple of 256, so that every block is the same
	for i := range block {
		block[i] = byte(i)
	}
	for left > 0 {
		n, err := w.Write(block[:min(left, len(block))])
		if err != nil {
			return
		}
		left -= n
	}
}

func echoTCP(address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer conn.Close()
			io.Copy(conn, conn)
		}()
	}
}

func echoUDP(address string) {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		log.Fatal(err)
	}
	datagram := make([]byte, 64<<10)
	for {
		n, peer, err := conn.ReadFrom(datagram)
		if err != nil {
			log.Fatal(err)
		}
		conn.WriteTo(datagram[:n], peer)
	}
}
