// dns answers for the cluster's names from a hosts file, over UDP and TCP. It stands in for CoreDNS: there is no
// controller that would keep Endpoints, so the tests write the addresses of their pods into the file.
//
// A name outside of the file is NXDOMAIN; a name with no address of the asked family is an empty answer, as in CoreDNS.
package main

import (
	"encoding/binary"
	"flag"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const ttlSeconds = 1

func main() {
	address := flag.String("listen", ":53", "where to answer, UDP and TCP")
	hosts := flag.String("hosts", "/records/hosts", "the hosts file; read anew for each question")
	flag.Parse()

	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	go serveTCP(listener, *hosts)
	conn, err := net.ListenPacket("udp", *address)
	if err != nil {
		log.Fatal(err)
	}
	datagram := make([]byte, 4096)
	for {
		n, peer, err := conn.ReadFrom(datagram)
		if err != nil {
			log.Fatal(err)
		}
		if reply := answer(datagram[:n], *hosts); reply != nil {
			conn.WriteTo(reply, peer)
		}
	}
}

func serveTCP(listener net.Listener, hosts string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer conn.Close()
			var size [2]byte
			for {
				if _, err := io.ReadFull(conn, size[:]); err != nil {
					return
				}
				query := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(conn, query); err != nil {
					return
				}
				reply := answer(query, hosts)
				if reply == nil {
					return
				}
				conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
			}
		}()
	}
}

func answer(query []byte, hosts string) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(query)
	if err != nil {
		return nil
	}
	question, err := parser.Question()
	if err != nil {
		return nil
	}
	addresses, known := lookup(hosts, question.Name.String())
	reply := dnsmessage.Header{
		ID: header.ID, Response: true, Authoritative: true,
		RecursionDesired: header.RecursionDesired, RecursionAvailable: true,
	}
	if !known {
		reply.RCode = dnsmessage.RCodeNameError
	}
	builder := dnsmessage.NewBuilder(nil, reply)
	builder.EnableCompression()
	builder.StartQuestions()
	builder.Question(question)
	builder.StartAnswers()
	for _, address := range addresses {
		addAnswer(&builder, question, address)
	}
	message, err := builder.Finish()
	if err != nil {
		log.Print(err)
		return nil
	}
	return message
}

func addAnswer(builder *dnsmessage.Builder, question dnsmessage.Question, address netip.Addr) {
	resource := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: ttlSeconds}
	switch {
	case question.Type == dnsmessage.TypeA && address.Is4():
		builder.AResource(resource, dnsmessage.AResource{A: address.As4()})
	case question.Type == dnsmessage.TypeAAAA && address.Is6():
		builder.AAAAResource(resource, dnsmessage.AAAAResource{AAAA: address.As16()})
	}
}

func lookup(hosts, name string) (addresses []netip.Addr, known bool) {
	content, err := os.ReadFile(hosts)
	if err != nil {
		log.Print(err)
		return nil, false
	}
	wanted := strings.ToLower(strings.TrimSuffix(name, "."))
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !contains(fields[1:], wanted) {
			continue
		}
		known = true
		if address, err := netip.ParseAddr(fields[0]); err == nil {
			addresses = append(addresses, address)
		}
	}
	return addresses, known
}

func contains(names []string, wanted string) bool {
	for _, name := range names {
		if strings.ToLower(name) == wanted {
			return true
		}
	}
	return false
}
