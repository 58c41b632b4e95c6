// unixdial STREAM SEQPACKET DATAGRAM: one echo each by net.Dial, and the peer's name.
package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

func echo(network, path string) error {
	connection, err := net.DialTimeout(network, path, 20*time.Second)
	if err != nil {
		return err
	}
	defer connection.Close()
	if _, err := connection.Write([]byte("hello")); err != nil {
		return err
	}
	back := make([]byte, 100)
	size, err := connection.Read(back)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %q from %s\n", network, back[:size], connection.RemoteAddr())
	return nil
}

func datagram(path string) error {
	// An abstract name of the kernel's choice.
	own, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"})
	if err != nil {
		return err
	}
	defer own.Close()
	peer := &net.UnixAddr{Name: path, Net: "unixgram"}
	if _, _, err := own.WriteMsgUnix([]byte("hello"), nil, peer); err != nil {
		return err
	}
	back := make([]byte, 100)
	size, from, err := own.ReadFromUnix(back)
	if err != nil {
		return err
	}
	fmt.Printf("unixgram: %q from %s\n", back[:size], from)
	return nil
}

func main() {
	for _, err := range []error{echo("unix", os.Args[1]), echo("unixpacket", os.Args[2]), datagram(os.Args[3])} {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}
