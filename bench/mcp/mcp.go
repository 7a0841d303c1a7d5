// Package mcp answers the few methods that the benchmark needs, in both protocol eras.
//
// The stdio server and the static HTTP server use it with two transports, so
// their figures differ only by the transport.
package mcp

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
)

// Modern is the stateless revision. The older ones have `initialize`.
const Modern = "2026-07-28"

// BlobBytes is the length of the text in an answer of the tool "blob".
const BlobBytes = 1 << 20

// The eras that the server can speak.
const (
	Both   = "both"
	Legacy = "legacy"
)

// Filler is the text of a blob after its caller's tag. It needs no escapes in JSON.
var Filler = bytes.Repeat([]byte("0123456789abcdef"), BlobBytes/16)

type request struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name      string `json:"name"`
		Version   string `json:"protocolVersion"`
		Arguments struct {
			Text string `json:"text"`
		} `json:"arguments"`
		Meta struct {
			Version string `json:"io.modelcontextprotocol/protocolVersion"`
		} `json:"_meta"`
	} `json:"params"`
}

const tools = `[{"name":"echo","description":"Answers with its text.","inputSchema":` + schema + `},` +
	`{"name":"blob","description":"Answers with 1 MiB that begins with its text.","inputSchema":` + schema + `}]`
const schema = `{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}`
const info = `{"name":"bench","version":"1"}`

// Answer appends the answer to one message, without a line break. A message without an id gets no answer.
func Answer(to []byte, message []byte, era string) []byte {
	var in request
	if json.Unmarshal(message, &in) != nil || len(in.ID) == 0 || in.Method == "" {
		return to
	}
	modern := in.Params.Meta.Version == Modern
	if modern && era == Legacy || in.Method == "server/discover" && !modern {
		return fail(to, in.ID, -32601, "Method not found")
	}
	switch in.Method {
	case "initialize":
		version := in.Params.Version
		if version == "" || version == Modern {
			version = "2025-11-25"
		}
		return result(to, in.ID, modern, `"protocolVersion":"`+version+`","capabilities":{"tools":{}},"serverInfo":`+info)
	case "server/discover":
		return result(to, in.ID, modern, `"supportedVersions":["`+Modern+`","2025-11-25"],"capabilities":{"tools":{}},`+
			`"ttlMs":0,"cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":`+info+`}`)
	case "ping":
		return result(to, in.ID, modern, "")
	case "tools/list":
		hints := ""
		if modern {
			hints = `,"ttlMs":0,"cacheScope":"public"`
		}
		return result(to, in.ID, modern, `"tools":`+tools+hints)
	case "tools/call":
		return call(to, &in, modern)
	}
	return fail(to, in.ID, -32601, "Method not found")
}

func call(to []byte, in *request, modern bool) []byte {
	to = begin(to, in.ID, modern)
	to = append(to, `"content":[{"type":"text","text":`...)
	text, _ := json.Marshal(in.Params.Arguments.Text)
	if in.Params.Name == "blob" {
		to = slices.Grow(to, len(text)+BlobBytes+64)
		to = append(to, text[:len(text)-1]...)
		to = append(to, Filler...)
		to = append(to, '"')
	} else {
		to = append(to, text...)
	}
	return append(to, `}]}}`...)
}

func begin(to []byte, id json.RawMessage, modern bool) []byte {
	to = append(to, `{"jsonrpc":"2.0","id":`...)
	to = append(to, id...)
	to = append(to, `,"result":{`...)
	if modern {
		to = append(to, `"resultType":"complete",`...)
	}
	return to
}

func result(to []byte, id json.RawMessage, modern bool, members string) []byte {
	to = begin(to, id, modern)
	if members == "" {
		to = bytes.TrimSuffix(to, []byte(","))
	}
	to = append(to, members...)
	return append(to, `}}`...)
}

func fail(to []byte, id json.RawMessage, code int, message string) []byte {
	to = append(to, `{"jsonrpc":"2.0","id":`...)
	to = append(to, id...)
	to = append(to, `,"error":{"code":`...)
	to = strconv.AppendInt(to, int64(code), 10)
	to = append(to, `,"message":`...)
	to = strconv.AppendQuote(to, message)
	return append(to, `}}`...)
}
