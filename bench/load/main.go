// Command load calls an MCP server over HTTP and checks every answer.
//
// It prints "ready" when its sessions are open and waits for a line on stdin.
// Then it calls for the given time, prints one line of JSON, waits for another
// line and ends its sessions. So the harness can read the server's meters right
// before and right after the calls.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"
)

// tally is the result of one run. Rates and percentiles are of the time after the warm-up; Calls counts all calls.
type tally struct {
	Calls     int     `json:"calls"`
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Worst     float64 `json:"worst_ms"`
	Crossed   int     `json:"crossed"`
	Wrong     int     `json:"wrong"`
	Failed    int     `json:"failed"`
	Fault     string  `json:"fault,omitempty"`
}

// worker is one caller, with one call at a time; sample holds its latencies after the warm-up.
type worker struct {
	sample   []time.Duration
	verdicts [4]int
	calls    int
	row      int
	fault    error
}

// hopeless is the number of failures in a row after which a caller stops.
const hopeless = 20

const overtime = 10 * time.Second

var (
	modern   = flag.Bool("modern", false, "speak the stateless revision")
	mode     = flag.String("mode", "calls", "calls, sessions (open, call once, leave) or opens (one after another, with pauses)")
	tool     = flag.String("tool", "echo", "echo or blob")
	sessions = flag.Int("sessions", 1, "sessions; callers at once in mode sessions")
	inflight = flag.Int("inflight", 1, "callers at once in each session")
	lasting  = flag.Duration("for", time.Second, "how long to count")
	warm     = flag.Duration("warm", 300*time.Millisecond, "how long to call before that")
	opens    = flag.Int("opens", 10, "how many sessions in mode opens")
	pause    = flag.Duration("pause", 200*time.Millisecond, "how long to wait between them")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	where, err := url.Parse(flag.Arg(0))
	if err != nil || where.Host == "" {
		log.Fatalf("load: give the address of the MCP endpoint, not %q", flag.Arg(0))
	}
	to := &target{address: where.Host, path: where.Path, modern: *modern}
	switch *mode {
	case "sessions":
		run(*sessions, func(n int, w *worker, warm, end time.Time) { visit(to, n, w, warm, end) })
	case "opens":
		run(1, func(_ int, w *worker, _, _ time.Time) { open(to, w) })
	default:
		clients := make([]*client, *sessions)
		for n := range clients {
			clients[n] = &client{target: to, number: n}
			on := conn{address: to.address}
			if err := clients[n].open(&on); err != nil {
				log.Fatalf("load: session %d of %d: %v", n+1, *sessions, err)
			}
			on.close()
		}
		run(*sessions**inflight, func(n int, w *worker, warm, end time.Time) {
			repeat(clients[n / *inflight], n%*inflight, w, warm, end)
		})
		for _, one := range clients {
			on := conn{address: to.address}
			one.leave(&on)
			on.close()
		}
	}
}

// run starts the workers, waits for them and prints their tally.
func run(count int, work func(n int, w *worker, warm, end time.Time)) {
	turn := bufio.NewReader(os.Stdin)
	fmt.Println("ready")
	turn.ReadString('\n')
	workers := make([]worker, count)
	var all sync.WaitGroup
	counting := time.Now().Add(*warm)
	for n := range workers {
		all.Go(func() { work(n, &workers[n], counting, counting.Add(*lasting)) })
	}
	all.Wait()
	out, _ := json.Marshal(sum(workers, time.Since(counting)))
	fmt.Println(string(out))
	turn.ReadString('\n')
}

// repeat calls until the time is over. A call belongs to the sample if it began after the warm-up.
func repeat(as *client, number int, w *worker, warm, end time.Time) {
	on := conn{address: as.target.address}
	defer on.close()
	for n := 1; w.row < hopeless; n++ {
		began := time.Now()
		if w.over(began, end) {
			return
		}
		verdict, at, err := as.call(&on, *tool, number, n)
		w.count(verdict, err)
		if verdict == right && began.After(warm) {
			w.sample = append(w.sample, at.Sub(began))
		}
	}
}

// visit opens a session, calls once and leaves, again and again. It measures the time until the call's answer.
func visit(to *target, number int, w *worker, warm, end time.Time) {
	on := conn{address: to.address}
	defer on.close()
	for n := 1; w.row < hopeless; n++ {
		began := time.Now()
		if w.over(began, end) {
			return
		}
		as := &client{target: to, number: number}
		verdict, at := failed, time.Time{}
		err := as.open(&on)
		if err == nil {
			verdict, at, err = as.call(&on, "echo", 0, n)
		}
		w.count(verdict, err)
		if verdict == right && began.After(warm) {
			w.sample = append(w.sample, at.Sub(began))
		}
		as.leave(&on)
	}
}

// open measures `initialize` after a pause in which the server could prepare for it.
func open(to *target, w *worker) {
	for range *opens {
		time.Sleep(*pause)
		on := conn{address: to.address}
		as := &client{target: to}
		began := time.Now()
		err := as.open(&on)
		took := time.Since(began)
		if err != nil {
			w.count(failed, err)
		} else {
			w.count(right, nil)
			w.sample = append(w.sample, took)
		}
		as.leave(&on)
		on.close()
	}
}

// over reports whether a caller's time is over. If none of its calls counts yet, because the machine stood still, the
// caller continues until one does, within a bound.
func (w *worker) over(now, end time.Time) bool {
	return now.After(end) && (len(w.sample) > 0 || now.After(end.Add(overtime)))
}

// count notes a verdict. Only failures in a row end a caller: a wrong answer is an
// answer too, so that the load is the same for all bridges.
func (w *worker) count(verdict int, err error) {
	w.calls++
	w.verdicts[verdict]++
	if err != nil && w.fault == nil {
		w.fault = err
	}
	if w.row++; verdict != failed {
		w.row = 0
	}
}

func sum(workers []worker, took time.Duration) tally {
	var all tally
	var sample []time.Duration
	for _, w := range workers {
		all.Calls += w.calls
		all.Crossed += w.verdicts[crossed]
		all.Wrong += w.verdicts[wrong]
		all.Failed += w.verdicts[failed]
		sample = append(sample, w.sample...)
		if w.fault != nil && all.Fault == "" {
			all.Fault = w.fault.Error()
		}
	}
	if len(sample) == 0 {
		return all
	}
	slices.Sort(sample)
	at := func(part float64) float64 {
		return sample[min(int(part*float64(len(sample))), len(sample)-1)].Seconds() * 1000
	}
	all.PerSecond = float64(len(sample)) / took.Seconds()
	all.P50, all.P99, all.Worst = at(0.5), at(0.99), at(1)
	return all
}
