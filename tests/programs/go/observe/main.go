// observe: tells what a program sees of the machine it believes to run on, one "name: value" a line.
//
// The program that `make demo` runs twice. It is static (CGO_ENABLED=0), so no preloaded library could change its view.
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func tell(what, value string, err error) {
	if err != nil {
		value = "-  (" + reason(err) + ")"
	}
	fmt.Printf("%s: %s\n", what, strings.TrimSpace(value))
}

// The last part of an error's text: what went wrong, without the path to it.
func reason(err error) string {
	parts := strings.Split(err.Error(), ": ")
	return parts[len(parts)-1]
}

func firstLine(path string) (string, error) {
	content, err := os.ReadFile(path)
	return strings.SplitN(string(content), "\n", 2)[0], err
}

func main() {
	hostname, err := os.Hostname()
	tell("hostname", hostname, err)
	value, found := os.LookupEnv("DEMO_GREETING")
	if !found {
		value = "-  (not set)"
	}
	tell("$DEMO_GREETING", value, nil)
	line, err := firstLine("/app/config.json")
	tell("/app/config.json", line, err)
	line, err = firstLine("/var/run/secrets/kubernetes.io/serviceaccount/token")
	tell("service account", line, err)
	line, err = firstLine("/etc/resolv.conf")
	tell("/etc/resolv.conf", line, err)
	addresses, err := net.LookupHost("greeter")
	tell("DNS of greeter", strings.Join(addresses, " "), err)
	client := &http.Client{Timeout: 5 * time.Second}
	response, err := client.Get("http://greeter/")
	if err == nil {
		line, err = bufio.NewReader(response.Body).ReadString('\n')
		response.Body.Close()
	}
	tell("http://greeter/", line, err)
}
