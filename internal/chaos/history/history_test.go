package history_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshctl/meshctl/internal/chaos/history"
)

// What a killed process left half written is passed over, whether or not the next process has gone on
// in the same file; any other line that is no event is not.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.history")
	l := open(t, file)
	add(t, l, history.Event{At: 3, Kind: history.Accepted, Job: "a/0"})
	cut(t, file, `{"at":4,"kind":"acce`)
	other := filepath.Join(dir, "b.history")
	add(t, open(t, other), history.Event{At: 1, Kind: history.Sent, Job: "a/0"})
	check := func(want string) {
		t.Helper()
		events, err := history.Read(file, other)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range events {
			got = append(got, string(e.Kind)+" "+e.Job)
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("got %s, want %s", strings.Join(got, ", "), want)
		}
	}
	check("sent a/0, accepted a/0")
	again := open(t, file) // as the process that was started again does
	add(t, again, history.Event{At: 5, Kind: history.Accepted, Job: "a/1"})
	check("sent a/0, accepted a/0, accepted a/1")

	cut(t, file, "nonsense\n")
	if _, err := history.Read(file); err == nil || !strings.Contains(err.Error(), "line 4") {
		t.Errorf("a line that is no event: %v", err)
	}
	if _, err := history.Read(filepath.Join(dir, "none")); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestAddGivesTheTime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	l := open(t, file)
	add(t, l, history.Event{Kind: history.Up, By: "w1"})
	events, err := history.Read(file)
	if err != nil || len(events) != 1 || events[0].At == 0 {
		t.Errorf("got %v, %v", events, err)
	}
}

func open(t *testing.T, file string) *history.Log {
	t.Helper()
	l, err := history.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func add(t *testing.T, l *history.Log, e history.Event) {
	t.Helper()
	if err := l.Add(e); err != nil {
		t.Fatal(err)
	}
}

func cut(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}
