// Command server is a small MCP server on stdio for the soaks: it says in each
// answer, notification and question whose call caused it.
//
// It works on its calls side by side and answers some of them late, so that
// answers come in another order than calls. A call that waits for ever is answered
// when it is cancelled, so that nothing of it can be meant any more.
// It leaves when its stdin ends; with -stubborn it stays, heeds no SIGTERM, and
// has a detached process besides.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const modernVersion = "2026-07-28"

var (
	modern   = flag.Bool("modern", false, "speak 2026-07-28 only")
	stubborn = flag.Bool("stubborn", false, "ignore stdin's end and SIGTERM, and start a detached process")
	late     = flag.Duration("late", 2*time.Millisecond, "one call in eight is answered so late at most")
)

type params struct {
	Name      string `json:"name"`
	Arguments struct {
		Who   string `json:"who"`
		N     int    `json:"n"`
		Bytes int    `json:"bytes"`
	} `json:"arguments"`
	Meta struct {
		ProgressToken json.RawMessage `json:"progressToken"`
	} `json:"_meta"`
	RequestState   string                     `json:"requestState"`
	InputResponses map[string]json.RawMessage `json:"inputResponses"`
	RequestID      json.RawMessage            `json:"requestId"`
	URI            string                     `json:"uri"`
	Notifications  struct {
		Resources []string `json:"resourceSubscriptions"`
	} `json:"notifications"`
}

type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

type heard struct {
	Content struct {
		Text string `json:"text"`
	} `json:"content"`
}

// Server has one stdout for all calls, the questions that wait for an answer, the
// calls that wait for their cancel, and what it is to tell changes of.
type Server struct {
	lock       sync.Mutex
	out        *bufio.Writer
	asked      map[string]chan message
	next       int
	waiting    map[string]chan struct{}
	subscribed map[string]bool
	listens    map[string][]string
}

// write sends whole lines, so that what belongs together can also stand together.
func (s *Server) write(lines string) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.out.WriteString(lines)
	s.out.Flush()
}

func (s *Server) result(id json.RawMessage, body string) string {
	if *modern {
		body = `"resultType":"complete",` + body
	}
	return fmt.Sprintf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{%s}}\n", id, body)
}

func text(words string) string {
	quoted, _ := json.Marshal(words)
	return fmt.Sprintf(`"content":[{"type":"text","text":%s}]`, quoted)
}

func failure(id json.RawMessage, code int, words string) string {
	return fmt.Sprintf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"error\":{\"code\":%d,\"message\":%q}}\n", id, code, words)
}

func sampling(whose string) string {
	return fmt.Sprintf(`{"messages":[{"role":"user","content":{"type":"text","text":%q}}],"maxTokens":1}`, whose)
}

// waits says which calls end only by a cancel, or may.
func waits(tool string) bool {
	return tool == "never" || tool == "hang" || tool == "ask" && !*modern
}

// updated tells of a change of a resource, as each era has it.
func (s *Server) updated(uri string) {
	const line = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{\"uri\":%q%s}}\n"
	lines := ""
	s.lock.Lock()
	if s.subscribed[uri] {
		lines = fmt.Sprintf(line, uri, "")
	}
	for id, uris := range s.listens {
		if slices.Contains(uris, uri) {
			lines += fmt.Sprintf(line, uri, `,"_meta":`+subscription(id))
		}
	}
	s.lock.Unlock()
	s.write(lines)
}

func subscription(id string) string {
	return `{"io.modelcontextprotocol/subscriptionId":` + id + `}`
}

func (s *Server) listen(id json.RawMessage, p params) {
	s.lock.Lock()
	s.listens[string(id)] = p.Notifications.Resources
	s.lock.Unlock()
	honoured, _ := json.Marshal(p.Notifications.Resources)
	s.write(fmt.Sprintf("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":"+
		"{\"notifications\":{\"resourceSubscriptions\":%s},\"_meta\":%s}}\n", honoured, subscription(string(id))))
}

func (s *Server) cancel(id string) {
	s.lock.Lock()
	defer s.lock.Unlock()
	delete(s.listens, id)
	if cancelled := s.waiting[id]; cancelled != nil {
		delete(s.waiting, id)
		close(cancelled)
	}
}

// over forgets a call that waited for its cancel.
func (s *Server) over(id json.RawMessage, cancelled chan struct{}) {
	if cancelled != nil {
		s.lock.Lock()
		delete(s.waiting, string(id))
		s.lock.Unlock()
	}
}

func (s *Server) call(id json.RawMessage, p params, cancelled chan struct{}) {
	defer s.over(id, cancelled)
	whose := fmt.Sprintf("%s#%d", p.Arguments.Who, p.Arguments.N)
	if rand.IntN(8) == 0 {
		time.Sleep(rand.N(*late))
	}
	switch p.Name {
	case "who":
		s.write(s.result(id, text(whose)))
	case "progress":
		for step := range 2 {
			s.write(fmt.Sprintf("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":"+
				"{\"progressToken\":%s,\"progress\":%d,\"message\":%q}}\n", p.Meta.ProgressToken, step, whose))
		}
		s.write(s.result(id, text(whose)))
	case "log":
		s.write(fmt.Sprintf("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":"+
			"{\"level\":\"error\",\"data\":%q}}\n", whose) + s.result(id, text(whose)))
	case "fail":
		s.write(failure(id, -32000, whose))
	case "ask":
		s.ask(id, p, whose, cancelled)
	case "touch":
		s.updated("soak://" + p.Arguments.Who)
		s.write(s.result(id, text(whose)))
	case "big":
		s.write(s.result(id, text(strings.Repeat("x", p.Arguments.Bytes))))
	case "hang":
		s.write(fmt.Sprintf("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":"+
			"{\"progressToken\":%s,\"progress\":0,\"message\":%q}}\n", p.Meta.ProgressToken, whose))
		fallthrough
	case "never":
		<-cancelled
		s.write(s.result(id, text("cancelled")))
	case "die":
		os.Exit(3)
	default:
		s.write(failure(id, -32602, "unknown tool"))
	}
}

// ask answers a call with what its client says to a question.
func (s *Server) ask(id json.RawMessage, p params, whose string, cancelled chan struct{}) {
	if !*modern {
		channel := make(chan message, 1)
		s.lock.Lock()
		s.next++
		key := fmt.Sprint(s.next)
		s.asked[key] = channel
		s.lock.Unlock()
		s.write(fmt.Sprintf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"method\":\"sampling/createMessage\",\"params\":%s}\n",
			key, sampling(whose)))
		var reply message
		select {
		case reply = <-channel:
		case <-cancelled:
			s.write(s.result(id, text("cancelled")))
			return
		}
		if reply.Error != nil {
			s.write(s.result(id, text(whose+" refused")))
			return
		}
		s.write(s.result(id, text(whose+" heard "+words(reply.Result))))
		return
	}
	answer, there := p.InputResponses["q"]
	if !there {
		s.write(fmt.Sprintf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"resultType\":\"input_required\",\"requestState\":%q,"+
			"\"inputRequests\":{\"q\":{\"method\":\"sampling/createMessage\",\"params\":%s}}}}\n", id, whose, sampling(whose)))
		return
	}
	s.write(s.result(id, text(p.RequestState+" heard "+words(answer))))
}

func words(answer json.RawMessage) string {
	var said heard
	if json.Unmarshal(answer, &said) != nil {
		return "something unreadable"
	}
	return said.Content.Text
}

const abilities = `"capabilities":{"tools":{},"logging":{},"resources":{"subscribe":true}}`

const tools = `"tools":[{"name":"who","inputSchema":{"type":"object"}},{"name":"ask","inputSchema":{"type":"object"}}]`

func (s *Server) handle(m message) {
	if m.Method == "" {
		s.lock.Lock()
		channel := s.asked[string(m.ID)]
		delete(s.asked, string(m.ID))
		s.lock.Unlock()
		if channel != nil {
			channel <- m
		}
		return
	}
	var p params
	if m.Params != nil && json.Unmarshal(m.Params, &p) != nil {
		if m.ID != nil {
			s.write(failure(m.ID, -32602, "unreadable params"))
		}
		return
	}
	if m.ID == nil {
		if m.Method == "notifications/cancelled" {
			s.cancel(string(p.RequestID))
		}
		return
	}
	switch {
	case m.Method == "initialize" && !*modern:
		s.write(s.result(m.ID, `"protocolVersion":"2025-11-25",`+abilities+`,"serverInfo":{"name":"soak","version":"1"}`))
	case m.Method == "server/discover" && *modern:
		s.write(s.result(m.ID, `"supportedVersions":["`+modernVersion+`"],`+abilities+
			`,"ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"soak","version":"1"}}`))
	case m.Method == "tools/list":
		s.write(s.result(m.ID, tools))
	case m.Method == "ping", m.Method == "logging/setLevel":
		s.write(s.result(m.ID, ""))
	case m.Method == "resources/subscribe" && !*modern, m.Method == "resources/unsubscribe" && !*modern:
		s.lock.Lock()
		s.subscribed[p.URI] = m.Method == "resources/subscribe"
		if !s.subscribed[p.URI] {
			delete(s.subscribed, p.URI)
		}
		s.lock.Unlock()
		s.write(s.result(m.ID, ""))
	case m.Method == "subscriptions/listen" && *modern:
		s.listen(m.ID, p)
	case m.Method == "tools/call":
		var cancelled chan struct{}
		if waits(p.Name) {
			cancelled = make(chan struct{})
			s.lock.Lock()
			s.waiting[string(m.ID)] = cancelled
			s.lock.Unlock()
		}
		go s.call(m.ID, p, cancelled)
	default:
		s.write(failure(m.ID, -32601, "method not found"))
	}
}

func main() {
	flag.Parse()
	if *stubborn {
		signal.Ignore(syscall.SIGTERM)
		detached := exec.Command("sleep", "600")
		detached.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := detached.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	server := &Server{
		out:        bufio.NewWriterSize(os.Stdout, 1<<16),
		asked:      map[string]chan message{},
		waiting:    map[string]chan struct{}{},
		subscribed: map[string]bool{},
		listens:    map[string][]string{},
	}
	in := bufio.NewReaderSize(os.Stdin, 1<<16)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			break
		}
		var m message
		if json.Unmarshal(line, &m) == nil {
			server.handle(m)
		}
	}
	for *stubborn {
		time.Sleep(time.Hour)
	}
}
