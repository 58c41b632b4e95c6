// What package net knows of the interfaces: by netlink, without libc.
package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	links, err := net.Interfaces()
	if err != nil {
		fmt.Println("interfaces:", err)
		os.Exit(1)
	}
	for _, link := range links {
		addresses, err := link.Addrs()
		fmt.Println(link.Index, link.Name, link.MTU, link.HardwareAddr, link.Flags, addresses, err)
	}
	all, err := net.InterfaceAddrs()
	fmt.Println(all, err)
	one, err := net.InterfaceByName("eth0")
	fmt.Println(one != nil && one.Name == "eth0", err)
}
