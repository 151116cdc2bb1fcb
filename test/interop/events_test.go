package interop

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait. JavaScript peers pay a PBKDF2 for each message, and
// the machine may be busy.
const patience = 30 * time.Second

// event is what a peer reported of itself; which members it has depends on Event.
type event struct {
	Event         string          `json:"event"`
	ID            int             `json:"id"`
	Result        json.RawMessage `json:"result"`
	Error         string          `json:"error"`
	Port          int             `json:"port"`
	DiscoveryPort int             `json:"discoveryPort"`
	Worker        string          `json:"worker"`
	Variant       string          `json:"variant"`
	ClientID      string          `json:"clientId"`
	IP            string          `json:"ip"`
	Hostname      string          `json:"hostname"`
	Reason        string          `json:"reason"`
	Name          string          `json:"name"`
	UID           string          `json:"uid"`
	From          string          `json:"from"`
	Message       json.RawMessage `json:"message"`
	Dialed        bool            `json:"dialed"`
	Again         bool            `json:"again"`
	Extra         bool            `json:"extra"`
	Valid         bool            `json:"valid"`
	Nodes         []entry         `json:"nodes"`

	line string // as it was written, for logs
}

// entry is a node in addnode, and with the links to it in the answer to "peers".
type entry struct {
	Worker   string `json:"worker"`
	Variant  string `json:"variant"`
	IP       string `json:"ip"`
	Port     int    `json:"port"`
	Dialed   bool   `json:"dialed"`
	Accepted int    `json:"accepted"`
}

// match chooses events.
type match func(event) bool

// of matches events about one node.
func of(worker, variant string) match {
	return func(e event) bool { return e.Worker == worker && e.Variant == variant }
}

// link matches events about a link to one node that this or the other side opened.
func link(worker, variant string, dialed bool) match {
	return func(e event) bool { return of(worker, variant)(e) && e.Dialed == dialed }
}

// command matches an arriving command.
func command(name string) match {
	return func(e event) bool { return e.Name == name }
}

// lists matches an addnode with exactly these nodes, each as "worker/variant".
func lists(nodes ...string) match {
	return func(e event) bool {
		if len(e.Nodes) != len(nodes) {
			return false
		}
		for i, n := range e.Nodes {
			if n.Worker+"/"+n.Variant != nodes[i] {
				return false
			}
		}
		return true
	}
}

// eventLog is what one peer has reported so far. It is safe for concurrent use.
type eventLog struct {
	t     testing.TB
	name  string
	ended chan struct{} // closed when no more events come

	mu      sync.Mutex
	events  []event
	taken   []bool        // events that await has returned
	changed chan struct{} // closed and replaced when events grows
}

func newEventLog(t testing.TB, name string) *eventLog {
	return &eventLog{t: t, name: name, ended: make(chan struct{}), changed: make(chan struct{})}
}

func (l *eventLog) add(e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events, l.taken = append(l.events, e), append(l.taken, false)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *eventLog) end() { close(l.ended) }

// String lists all events, a line each.
func (l *eventLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, e := range l.events {
		b.WriteString(e.line + "\n")
	}
	return b.String()
}

// await returns the first event of a kind that matches and that no await has
// returned before. It fails the test when there is none in time.
func (l *eventLog) await(kind string, matches ...match) event {
	l.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		e, ok, changed := l.take(kind, matches)
		if ok {
			return e
		}
		select {
		case <-changed:
		case <-l.ended:
			if e, ok, _ := l.take(kind, matches); ok {
				return e
			}
			l.t.Fatalf("%s ended before %q", l.name, kind)
		case <-timer.C:
			l.t.Fatalf("%s: no %q within %v", l.name, kind, patience)
		}
	}
}

func (l *eventLog) take(kind string, matches []match) (event, bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, e := range l.events {
		if !l.taken[i] && e.is(kind, matches) {
			l.taken[i] = true
			return e, true, nil
		}
	}
	return event{}, false, l.changed
}

func (e event) is(kind string, matches []match) bool {
	if e.Event != kind {
		return false
	}
	for _, m := range matches {
		if !m(e) {
			return false
		}
	}
	return true
}

// awaitCount waits until there have been so many such events, taken or not, and tells how many there are: what a peer
// has written before something else may be read after that.
func (l *eventLog) awaitCount(n int, kind string, matches ...match) int {
	l.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if have := l.count(kind, matches...); have >= n {
			return have
		}
		select {
		case <-changed:
		case <-l.ended:
			return l.count(kind, matches...)
		case <-timer.C:
			return l.count(kind, matches...)
		}
	}
}

// count tells how many such events there have been, taken or not.
func (l *eventLog) count(kind string, matches ...match) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.events {
		if e.is(kind, matches) {
			n++
		}
	}
	return n
}
