// Command child is the MCP server on stdio behind every measured bridge.
//
// It answers in the order of the requests and writes as much at once as it can,
// so that the server never limits a bridge. It exits when its stdin ends. If its
// file is called "stubborn", it runs on until it gets a signal, as some real
// servers do.
package main

import (
	"bufio"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"time"

	"mcpmesh.dev/bench/mcp"
)

func main() {
	era := flag.String("era", mcp.Both, "both, or legacy to refuse the stateless revision")
	flag.Parse()
	in := bufio.NewReaderSize(os.Stdin, 256<<10)
	out := bufio.NewWriterSize(os.Stdout, 256<<10)
	var long, answer []byte
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, line...)
			continue
		}
		if len(long) > 0 {
			long = append(long, line...)
			line, long = long, long[:0]
		}
		if answer = mcp.Answer(answer[:0], line, *era); len(answer) > 0 {
			out.Write(answer)
			out.WriteByte('\n')
		}
		if err == nil && in.Buffered() > 0 {
			continue
		}
		if out.Flush() != nil || errors.Is(err, io.EOF) {
			break
		}
	}
	if filepath.Base(os.Args[0]) == "stubborn" {
		time.Sleep(time.Hour)
	}
}
