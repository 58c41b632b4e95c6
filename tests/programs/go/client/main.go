// client URL...: fetches each URL with Go's own resolver and HTTP client and prints the status and the first line.
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	net.DefaultResolver.PreferGo = true
	client := &http.Client{Timeout: 20 * time.Second}
	failed := false
	for _, url := range os.Args[1:] {
		response, err := client.Get(url)
		if err != nil {
			fmt.Printf("%s: %v\n", url, err)
			failed = true
			continue
		}
		line, _ := bufio.NewReader(response.Body).ReadString('\n')
		response.Body.Close()
		fmt.Printf("%s: %d %s", url, response.StatusCode, line)
	}
	if failed {
		os.Exit(1)
	}
}
