// Package history is what the callers and handlers of a scenario wrote down while things
// broke around them, and the checker that decides from it afterwards. Each process
// appends to a file of its own, a JSON line at a time, in a single write each: what was
// written survives kill -9 of the process. A last line that was cut off is ignored.
package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// Kind is what happened.
type Kind string

// The kinds of events.
const (
	Sent     Kind = "sent"     // a caller is about to send a job for the first time
	Accepted Kind = "accepted" // a caller was told that its job is stored
	Refused  Kind = "refused"  // a caller was told that it is not, or does not know; it sends it again
	Answered Kind = "answered" // a caller got the answer of a call
	Missed   Kind = "missed"   // a call failed
	Started  Kind = "started"  // a handler was given a job
	Ended    Kind = "ended"    // a handler has done it
	Killed   Kind = "killed"   // a process was killed
	Up       Kind = "up"       // a process was started (again)
)

// Event is one line of a history.
type Event struct {
	At   int64  `json:"at"` // Unix time in nanoseconds; all processes have one clock
	Kind Kind   `json:"kind"`
	By   string `json:"by,omitempty"` // process that it happened to: "w1", "redis" …
	Job  string `json:"job,omitempty"`

	// Of a job that a handler was given.
	Attempt     int  `json:"attempt,omitempty"`
	Redelivered bool `json:"redelivered,omitempty"`

	Note string `json:"note,omitempty"` // error, or what else is to be known
}

// Time is when it happened.
func (e Event) Time() time.Time { return time.Unix(0, e.At) }

// Log is a history file that is written. It is safe for concurrent use.
type Log struct {
	mu sync.Mutex
	f  *os.File
}

// Open opens a history file for appending. A line that an earlier process could not finish stays
// one of its own.
func Open(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	l := &Log{f: f}
	if info, err := f.Stat(); err == nil && info.Size() > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, info.Size()-1); err == nil && last[0] != '\n' {
			_, _ = f.Write([]byte{'\n'})
		}
	}
	return l, nil
}

// Add appends an event; without a time it is now. When it returns the event outlives the process.
func (l *Log) Add(e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.At == 0 {
		e.At = time.Now().UnixNano()
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = l.f.Write(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	return nil
}

// Close closes the file.
func (l *Log) Close() error { return l.f.Close() }

// Read reads history files into one history, by time. A line that is no event is an error, unless
// its end is missing: that one was being written when its process was killed.
func Read(files ...string) ([]Event, error) {
	var all []Event
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read history: %w", err)
		}
		for n := 1; len(data) > 0; n++ {
			line, rest, whole := bytes.Cut(data, []byte{'\n'})
			data = rest
			var e Event
			err := json.Unmarshal(line, &e)
			switch {
			case err == nil:
				all = append(all, e)
			case whole && !cutOff(line):
				return nil, fmt.Errorf("read history %s: line %d: %w", name, n, err)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Event) int { return int(max(-1, min(1, a.At-b.At))) })
	return all, nil
}

// cutOff tells a line whose writer was killed: it begins like an event and has no end.
func cutOff(line []byte) bool {
	return bytes.HasPrefix([]byte(`{"at":`), line[:min(len(line), 6)]) && !bytes.HasSuffix(line, []byte("}"))
}
