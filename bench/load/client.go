package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"mcpmesh.dev/bench/mcp"
)

// The verdicts on an answer.
const (
	right = iota
	crossed
	wrong
	failed
)

// client is one MCP client: a session of the legacy era, or only metadata of the modern era.
type client struct {
	target  *target
	number  int
	session string
	version string
}

// target is the measured MCP endpoint.
type target struct {
	address string
	path    string
	modern  bool
}

func (t *target) head(extra string, size int) []byte {
	return append([]byte(nil), "POST "+t.path+" HTTP/1.1\r\nHost: "+t.address+
		"\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"+extra+
		"Content-Length: "+strconv.Itoa(size)+"\r\n\r\n"...)
}

func (c *client) post(on *conn, method, name string, body []byte) (answer, error) {
	return on.do(append(c.target.head(c.headers(method, name), len(body)), body...))
}

func (c *client) headers(method, name string) string {
	if c.target.modern {
		extra := "MCP-Protocol-Version: " + mcp.Modern + "\r\nMcp-Method: " + method + "\r\n"
		if name != "" {
			extra += "Mcp-Name: " + name + "\r\n"
		}
		return extra
	}
	extra := ""
	if c.version != "" {
		extra += "MCP-Protocol-Version: " + c.version + "\r\n"
	}
	if c.session != "" {
		extra += "Mcp-Session-Id: " + c.session + "\r\n"
	}
	return extra
}

// open opens a session. The modern era has no sessions, so it does nothing there.
func (c *client) open(on *conn) error {
	if c.target.modern {
		return nil
	}
	got, err := c.post(on, "initialize", "", []byte(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":`+
		`{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"load","version":"1"}}}`))
	if err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	var reply struct {
		Result struct {
			Version string `json:"protocolVersion"`
		} `json:"result"`
	}
	if err = json.Unmarshal(got.body, &reply); err != nil || got.status != 200 || reply.Result.Version == "" {
		return fmt.Errorf("initialize: status %d, %.200s", got.status, got.body)
	}
	c.session, c.version = got.session, reply.Result.Version
	got, err = c.post(on, "", "", []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`))
	if err == nil && got.status >= 300 {
		err = fmt.Errorf("status %d", got.status)
	}
	if err != nil {
		return fmt.Errorf("notifications/initialized: %w", err)
	}
	return nil
}

// leave ends the session. Not every server supports that.
func (c *client) leave(on *conn) {
	if c.session != "" {
		on.do([]byte("DELETE " + c.target.path + " HTTP/1.1\r\nHost: " + c.target.address + "\r\n" + c.headers("", "") + "\r\n"))
	}
}

const pad = "................................................................"

// tag is a text that no other call of a run has. Its length varies, as with real arguments.
func tag(client, worker, n int) string {
	return fmt.Sprintf("c%d-w%d-n%d-%s", client, worker, n, pad[:n%64])
}

// call calls a tool with a text that no other call has, and checks whether the answer has it too.
func (c *client) call(on *conn, tool string, worker, n int) (verdict int, at time.Time, err error) {
	// Ids are unique in a session, as the protocol requires, and the same in all sessions.
	id := worker*10_000_000 + n
	text := tag(c.number, worker, n)
	meta := ""
	if c.target.modern {
		meta = `,"_meta":{"io.modelcontextprotocol/protocolVersion":"` + mcp.Modern +
			`","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"load","version":"1"}}`
	}
	body := make([]byte, 0, 512)
	body = append(body, `{"jsonrpc":"2.0","id":`...)
	body = strconv.AppendInt(body, int64(id), 10)
	body = append(body, `,"method":"tools/call","params":{"name":"`+tool+`","arguments":{"text":"`+text+`"}`+meta+`}}`...)
	got, err := c.post(on, "tools/call", tool, body)
	if err != nil {
		return failed, time.Now(), err
	}
	if got.status != 200 {
		return failed, got.at, fmt.Errorf("status %d: %.200s", got.status, got.body)
	}
	if tool == "blob" {
		verdict, err = judgeBlob(got.body, id, text)
	} else {
		verdict, err = judge(got.body, id, text)
	}
	return verdict, got.at, err
}

func judge(body []byte, id int, text string) (int, error) {
	var reply struct {
		ID     int `json:"id"`
		Result struct {
			Content []struct {
				Text string `json:"text"`
			} `json:"content"`
			IsError bool `json:"isError"`
		} `json:"result"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return wrong, err
	}
	if len(reply.Error) > 0 || reply.Result.IsError {
		return failed, fmt.Errorf("answered %.200s", body)
	}
	if reply.ID == id && len(reply.Result.Content) == 1 && reply.Result.Content[0].Text == text {
		return right, nil
	}
	err := fmt.Errorf("asked %d %q, answered %.200s", id, text, body)
	if len(reply.Result.Content) == 1 && reply.Result.Content[0].Text != "" {
		return crossed, err
	}
	return wrong, err
}

var errNoBlob = errors.New("the long answer is not the one that was asked for")

func judgeBlob(body []byte, id int, text string) (int, error) {
	at := bytes.Index(body, []byte(`"`+text+`0123456789abcdef`))
	if at < 0 {
		return wrong, fmt.Errorf("%w: %.200s", errNoBlob, body)
	}
	filler := body[at+1+len(text):]
	if len(filler) <= len(mcp.Filler) || !bytes.Equal(filler[:len(mcp.Filler)], mcp.Filler) || filler[len(mcp.Filler)] != '"' {
		return wrong, errNoBlob
	}
	for _, end := range [][]byte{body[:at], filler[len(mcp.Filler):]} {
		for _, space := range []string{"", " "} {
			key := []byte(`"id":` + space + strconv.Itoa(id))
			if found := bytes.Index(end, key); found >= 0 && bytes.IndexByte([]byte(",} \n"), end[found+len(key)]) >= 0 {
				return right, nil
			}
		}
	}
	return crossed, errNoBlob
}
