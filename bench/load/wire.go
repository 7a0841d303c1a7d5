package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// conn is one HTTP/1.1 connection. It is written by hand, so that the generator
// needs little of the processors that it shares with the measured bridge.
type conn struct {
	address string
	net     net.Conn
	in      *bufio.Reader
	body    []byte
}

// answer is the answer to one request; body is valid until the next request.
type answer struct {
	status  int
	session string
	body    []byte
	at      time.Time
}

// patience bounds one exchange. A longer one counts as failed.
const patience = 10 * time.Second

var errTooMany = errors.New("the event stream ended without an answer")

// do sends one request and reads its whole answer. In an event stream the
// answer is the first event with `"result"` or `"error"`.
func (c *conn) do(request []byte) (answer, error) {
	for retried := false; ; retried = true {
		fresh := c.net == nil
		if fresh {
			dialed, err := net.DialTimeout("tcp", c.address, patience)
			if err != nil {
				return answer{}, err
			}
			c.net, c.in = dialed, bufio.NewReaderSize(dialed, 64<<10)
		}
		c.net.SetDeadline(time.Now().Add(patience))
		_, err := c.net.Write(request)
		if err == nil {
			if _, err = c.in.Peek(1); err == nil {
				break
			}
		}
		c.close()
		// A server may close an idle connection just as it is used again. Nothing was read, so one more try is right.
		if fresh || retried {
			return answer{}, err
		}
	}
	got, keep, err := c.read()
	if err != nil || !keep {
		c.close()
	}
	return got, err
}

func (c *conn) close() {
	if c.net != nil {
		c.net.Close()
		c.net = nil
	}
}

func (c *conn) read() (got answer, keep bool, err error) {
	line, err := c.line()
	if err != nil {
		return got, false, err
	}
	if len(line) < 12 {
		return got, false, fmt.Errorf("status line %q", line)
	}
	if got.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return got, false, err
	}
	length, chunked, events := -1, false, false
	keep = true
	for {
		if line, err = c.line(); err != nil {
			return got, false, err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			length, err = strconv.Atoi(string(value))
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			chunked = true
		case bytes.EqualFold(name, []byte("content-type")):
			events = bytes.HasPrefix(value, []byte("text/event-stream"))
		case bytes.EqualFold(name, []byte("connection")):
			keep = !bytes.EqualFold(value, []byte("close"))
		case bytes.EqualFold(name, []byte("mcp-session-id")):
			got.session = string(value)
		}
		if err != nil {
			return got, false, err
		}
	}
	c.body = c.body[:0]
	switch {
	case chunked:
		err = c.chunks(&got, events)
	case got.status == 204 || length == 0:
	case length > 0:
		c.body = grow(c.body, length)
		_, err = io.ReadFull(c.in, c.body)
	default:
		keep = false
		var rest []byte
		rest, err = io.ReadAll(c.in)
		c.body = append(c.body, rest...)
	}
	if got.at.IsZero() {
		got.at = time.Now()
	}
	if events && got.body == nil && err == nil {
		if got.body = event(c.body); got.body == nil {
			err = errTooMany
		}
	} else if !events {
		got.body = c.body
	}
	return got, keep, err
}

// chunks reads a chunked body. An event stream's answer has arrived with its event, not with the stream's end.
func (c *conn) chunks(got *answer, events bool) error {
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(string(line), 16, 64)
		if err != nil {
			return err
		}
		have := len(c.body)
		c.body = grow(c.body, have+int(size))
		if _, err = io.ReadFull(c.in, c.body[have:]); err != nil {
			return err
		}
		if line, err = c.line(); err != nil || len(line) != 0 {
			return fmt.Errorf("chunk ends with %q: %w", line, err)
		}
		if size == 0 {
			return nil
		}
		if events && got.at.IsZero() && bytes.HasSuffix(c.body, []byte("\n")) && event(c.body) != nil {
			got.at = time.Now()
		}
	}
}

// event returns the data of the stream's first event that is an answer.
func event(stream []byte) []byte {
	for rest := stream; len(rest) > 0; {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		data, found := bytes.CutPrefix(line, []byte("data:"))
		if found && (bytes.Contains(data, []byte(`"result"`)) || bytes.Contains(data, []byte(`"error"`))) {
			return bytes.TrimSpace(data)
		}
	}
	return nil
}

func (c *conn) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

func grow(buffer []byte, size int) []byte {
	if cap(buffer) < size {
		buffer = append(make([]byte, 0, size+size/4), buffer...)
	}
	return buffer[:size]
}
