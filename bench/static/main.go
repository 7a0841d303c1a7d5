// Command static answers MCP over HTTP itself, without a server process and
// without a bridge. No bridge on net/http can be faster than this reference.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"

	"mcpmesh.dev/bench/mcp"
)

func main() {
	port := flag.Int("port", 0, "where to listen on loopback")
	flag.Parse()
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", *port))
	if err != nil {
		log.Fatal(err)
	}
	var sessions atomic.Int64
	http.HandleFunc("/mcp", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		answer := mcp.Answer(nil, body, mcp.Both)
		if len(answer) == 0 {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		header := w.Header()
		if r.Header.Get("Mcp-Session-Id") == "" && r.Header.Get("Mcp-Protocol-Version") != mcp.Modern {
			header.Set("Mcp-Session-Id", strconv.FormatInt(sessions.Add(1), 10))
		}
		header.Set("Content-Type", "application/json")
		header.Set("Content-Length", strconv.Itoa(len(answer)))
		w.Write(answer)
	})
	log.Fatal(http.Serve(listener, nil))
}
