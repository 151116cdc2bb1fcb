package tui

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/tui/screen"
	"github.com/meshctl/meshctl/internal/tui/tuitest"
)

// controlled stands for the mesh where a test has to see what is asked of it.
type controlled struct {
	canceled []string
	calls    []string
	result   json.RawMessage
	err      error
}

func (c *controlled) Call(_ context.Context, target string, payload json.RawMessage, timeout time.Duration) (json.RawMessage, error) {
	c.calls = append(c.calls, fmt.Sprintf("%s %s %s", target, payload, timeout))
	return c.result, c.err
}

func (c *controlled) Cancel(_ context.Context, node, uid string) error {
	c.canceled = append(c.canceled, node+" "+uid)
	return c.err
}

// flights is a picture with a broadcast to three, of which one is done, and two other
// requests.
func flights() *inspect.Picture {
	p := tuitest.Picture(13, 0)
	live := func(uid, group, command, target string, age time.Duration) inspect.Live {
		return inspect.Live{
			Request: inspect.Request{UID: uid, Group: group, Dir: inspect.Out, Caller: "shop/1", Target: target, Command: command, Kind: inspect.KindBalanced, Phase: inspect.PhaseRunning, Bytes: 10},
			Node:    "shop/1", Age: age, Timeout: 10 * time.Second,
		}
	}
	done := live("u2", "g", "billing.totals", "billing/2", 3*time.Second)
	done.Phase, done.Ended, done.Took = inspect.PhaseDone, p.At, 2*time.Second
	p.Requests = []inspect.Live{
		live("u0", "", "mailer.send", "mailer/1", 5*time.Second),
		live("u1", "g", "billing.totals", "billing/1", 4*time.Second), done, live("u3", "g", "billing.totals", "billing/3", 3*time.Second),
		live("u4", "", "search.find", "search/1", time.Second),
	}
	p.Requests[4].Payload = json.RawMessage(`{"words": "it's"}`)
	p.Totals.InFlight = 4
	return p
}

func body(r *root) string {
	var text strings.Builder
	for _, line := range r.draw() {
		text.WriteString(screen.Plain(line) + "\n")
	}
	return text.String()
}

func wantText(t *testing.T, r *root, wants ...string) {
	t.Helper()
	text := body(r)
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("nothing says %q in\n%s", want, text)
		}
	}
}

func TestBroadcastIsOneRowThatOpens(t *testing.T) {
	p := flights()
	r := dashboard(t, p, "dark", size{120, 24})
	press(r, ":in flight")
	wantText(t, r, "▸ billing.totals", "shop/1 → 3 variants", "1/3 done")
	if strings.Contains(body(r), "billing/2") {
		t.Error("a member of a closed broadcast has a row")
	}
	press(r, "down", "enter")
	wantText(t, r, "▾ billing.totals", "└ billing.totals", "shop/1 → billing/1", "shop/1 → billing/2", "✔ ok")

	// It stays together, open and selected when the order and the picture change.
	p.Requests = append([]inspect.Live{p.Requests[4]}, p.Requests[:4]...)
	send(r, frameMsg{})
	press(r, "s", "s")
	lines := strings.Split(body(r), "\n")
	for i, line := range lines {
		if strings.Contains(line, "▾ billing.totals") {
			if !strings.HasPrefix(line, "▌") {
				t.Errorf("the cursor left its row:\n%s", body(r))
			}
			for k := 1; k <= 3; k++ {
				if !strings.Contains(lines[i+k], "└ ") {
					t.Errorf("not below its broadcast: %s", lines[i+k])
				}
			}
		}
	}
	press(r, "enter")
	if strings.Contains(body(r), "└ ") {
		t.Error("it does not close")
	}

	// A filter that one of its requests matches shows it, and of the others none.
	press(r, "enter", "/")
	typeIn(r, "target=billing/3")
	press(r, "enter")
	wantText(t, r, "▾ billing.totals", "billing/3")
	if strings.Contains(body(r), "→ billing/1") || strings.Contains(body(r), "search.find") {
		t.Errorf("the filter shows too much:\n%s", body(r))
	}
}

func TestMoreInFlightThanListed(t *testing.T) {
	p := flights()
	p.Totals.InFlight = 70_000
	r := dashboard(t, p, "dark", size{80, 24})
	press(r, ":in flight")
	wantText(t, r, "70,000 are in flight; each node lists its oldest 200.")
}

func TestCancelsWhatIsUnderTheCursor(t *testing.T) {
	var c controlled
	r := dashboard(t, flights(), "dark", size{120, 24})
	r.control = &c
	press(r, ":in flight", "x")
	wantText(t, r, "Cancel mailer.send at mailer/1 (u0)?")
	press(r, "n")
	if len(c.canceled) != 0 {
		t.Error("it was canceled after a no")
	}
	press(r, "x", "y")
	if len(c.canceled) != 1 || c.canceled[0] != "shop/1 u0" {
		t.Errorf("canceled %q", c.canceled)
	}
	wantText(t, r, "canceled u0")
	press(r, "down", "x") // a broadcast as a whole is not canceled
	if len(c.canceled) != 1 || r.prompt != nil {
		t.Errorf("x did something on a broadcast: %q", c.canceled)
	}
	c.err = &wire.Error{Code: wire.CodeNoVariant, Message: "shop/1 has left"}
	press(r, "home", "x", "y")
	wantText(t, r, "cannot cancel u0", "shop/1 has left")
}

func TestRequestPageKeepsWhatItLastSaw(t *testing.T) {
	p := flights()
	r := dashboard(t, p, "dark", size{80, 30})
	press(r, ":in flight", "end", "enter")
	wantText(t, r, "In flight › search.find u4", "● running", `"words": "it's"`)
	p.Requests[4].Ended, p.Requests[4].Took, p.Requests[4].Code, p.Requests[4].Error = p.At, time.Second, wire.CodeTimeout, "no response before the deadline"
	send(r, frameMsg{})
	wantText(t, r, "✖ timeout", "no response before the deadline")
	p.Requests = nil
	send(r, frameMsg{})
	wantText(t, r, "✖ timeout", `"words": "it's"`)
	press(r, "esc")
	wantText(t, r, "Nothing is in flight.")
}

func TestCallLineIsSafeToRun(t *testing.T) {
	for _, c := range []struct {
		payload string
		want    string
	}{
		{"", "meshctl call a.b --timeout 1.5s"},
		{`{"a": 1}`, `meshctl call a.b -d '{"a":1}' --timeout 1.5s`},
		{`{"a":"it's; rm -rf $HOME"}`, `meshctl call a.b -d '{"a":"it'\''s; rm -rf $HOME"}' --timeout 1.5s`},
		{`7`, `meshctl call a.b -d 7 --timeout 1.5s`},
	} {
		if got := callLine("a.b", json.RawMessage(c.payload), 1500*time.Millisecond); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	if got := callLine("a.b\x1b[31m;id", nil, 0); got != "meshctl call 'a.b·[31m;id'" {
		t.Error(got)
	}
}

func TestEventsFollowUntilOneMovesAway(t *testing.T) {
	p := flights()
	r := dashboard(t, p, "dark", size{120, 24})
	press(r, ":events")
	happen := func(text string) {
		p.Events = append(p.Events, inspect.Event{At: p.At, Level: inspect.LevelWarn, Type: "log", Node: "billing/1", Message: text})
		p.EventCount++
		send(r, frameMsg{})
	}
	happen("the first that is new")
	wantText(t, r, "the first that is new")
	press(r, "up")
	wantText(t, r, "not following", "▌11:59:59.300")
	for i := range 40 {
		happen(fmt.Sprint("later ", i))
	}
	wantText(t, r, "▌11:59:59.300")
	if strings.Contains(body(r), "later 39") {
		t.Error("it follows")
	}
	press(r, "G")
	happen("the last")
	wantText(t, r, "the last")
	press(r, "enter")
	wantText(t, r, "Events › log", "message    the last", "billing/1")
}

func TestCallForm(t *testing.T) {
	c := controlled{result: json.RawMessage(`{"answer":{"n":42}}`)}
	r := dashboard(t, flights(), "dark", size{100, 30})
	press(r, ":in flight", "c") // without control there is nothing to call with
	if _, ok := r.front().(*callForm); ok {
		t.Fatal("the form opens in a recording")
	}
	r.control = &c
	press(r, "c")
	wantText(t, r, "▸ payload", "mailer.send", "✔ JSON", "ctrl+s")

	press(r, "backspace")
	wantText(t, r, "✖ line 1, column 1: unexpected end of JSON input")
	press(r, "ctrl+s")
	if len(c.calls) != 0 {
		t.Fatal("it was sent without a payload that is JSON")
	}
	typeIn(r, `"q":"?"}`) // keys of the root are text here
	wantText(t, r, "✔ JSON")
	press(r, "ctrl+s")
	if len(c.calls) != 1 || c.calls[0] != `mailer.send {"q":"?"} 3s` {
		t.Fatalf("called %q", c.calls)
	}
	wantText(t, r, "✔ answered", `"n": 42`)

	c.err = &wire.Error{Code: wire.CodeTimeout, Message: "no response before the deadline", Hint: "allow more time"}
	press(r, "tab", "ctrl+u")
	typeIn(r, "soon")
	press(r, "enter")
	wantText(t, r, "such as 500ms")
	press(r, "ctrl+u")
	typeIn(r, "10s")
	press(r, "enter")
	wantText(t, r, "✖ failed", "timeout: no response before the deadline", "hint: allow more time")

	press(r, "tab", "ctrl+u")
	typeIn(r, "search.f")
	press(r, "tab")
	wantText(t, r, "search.find")
	late := answerMsg{form: r.front().(*callForm), call: 1, lines: []string{"of an older call"}}
	send(r, late)
	if strings.Contains(body(r), "older call") {
		t.Error("an answer to an older call is shown")
	}
	press(r, "esc")
	wantText(t, r, "▸ billing", "3 variants")

	for _, s := range sizes {
		r := dashboard(t, flights(), "mono", s)
		r.control = &c
		press(r, ":in flight", "c")
		send(r, tea.PasteMsg{Content: strings.Repeat("[\n", 50) + "\x1b[31m\u202e"})
		checkFrame(t, r.draw(), s)
		checkColourless(t, r.draw())
	}
}

func TestFilteredRequestsAreCountedWhileUnderWay(t *testing.T) {
	r := dashboard(t, flights(), "dark", usual)
	press(r, "4", "/")
	typeIn(r, "billing.totals")
	wants(t, r, "2 of 4") // of the three of the broadcast one is done
}
