package tui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/tui/screen"
	"github.com/meshctl/meshctl/internal/tui/tuitest"
)

// shown is the frame as text.
func shown(r *root) string {
	var lines []string
	for _, line := range r.draw() {
		lines = append(lines, screen.Plain(line))
	}
	return strings.Join(lines, "\n")
}

func wants(t *testing.T, r *root, parts ...string) {
	t.Helper()
	text := shown(r)
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Fatalf("the screen lacks %q:\n%s", part, text)
		}
	}
}

func lacks(t *testing.T, r *root, parts ...string) {
	t.Helper()
	text := shown(r)
	for _, part := range parts {
		if strings.Contains(text, part) {
			t.Fatalf("the screen has %q:\n%s", part, text)
		}
	}
}

var usual = size{120, 40}

// Of several masters the title has the one in use, wherever it goes.
func TestTitleNamesTheMasterInUse(t *testing.T) {
	var got strings.Builder
	for _, masters := range []int{1, 2, 16} {
		for _, st := range []inspect.Status{
			{},
			{Connected: true, Master: "m1.example.com:4000"},
			{Master: "m1.example.com:4000", Reason: "connection reset by peer"},
			{Connected: true, Master: "m2.example.com:4000 (10.0.0.2)"},
		} {
			for _, width := range []int{60, 80, 120} {
				p := tuitest.Picture(13, 60)
				p.Status = st
				o := Options{Title: "m1.example.com:4000,m2.example.com:4000", Masters: masters, Clock: tuitest.Now}
				r, err := newRoot(o, func(time.Time) *inspect.Picture { return p }, pages())
				if err != nil {
					t.Fatal(err)
				}
				r.Init()
				send(r, tea.WindowSizeMsg{Width: width, Height: 20}, frameMsg{})
				lines := r.draw()
				checkFrame(t, lines, size{width, 20})
				fmt.Fprintf(&got, "== %d masters, %q, %d wide; window %q\n%s\n", masters, st.Master, width, r.View().WindowTitle, screen.Plain(lines[0]))
			}
		}
	}
	compare(t, filepath.Join("testdata", "masters.golden"), got.String())
}

func TestFilterIsTypedLive(t *testing.T) {
	r := dashboard(t, tuitest.Picture(13, 60), "dark", usual)
	press(r, ":connections", "/")
	typeIn(r, "worker=mailer")
	wants(t, r, "2 of 13", "mailer/1", "/worker=mailer")
	lacks(t, r, "billing/1")
	typeIn(r, " >")
	if f := r.prompt.(*filterPrompt); f.err == nil {
		t.Error("half a filter is no error")
	}
	wants(t, r, "mailer/1") // the last good one still holds
	press(r, "enter")
	if r.prompt == nil {
		t.Fatal("a bad filter was kept")
	}
	for range len(" >") {
		press(r, "backspace")
	}
	press(r, "enter")
	wants(t, r, "2 of 13", "/worker=mailer", "esc back")
	send(r, frameMsg{})
	lacks(t, r, "billing/1") // it survives a new picture
	press(r, "/", "x", "esc")
	wants(t, r, "2 of 13") // esc undoes what was typed
	press(r, "esc")
	wants(t, r, "billing/1")
}

func TestFreezeStopsThePicture(t *testing.T) {
	pictures := []*inspect.Picture{tuitest.Picture(5, 1), tuitest.Picture(9, 1)}
	now := tuitest.Now()
	at := 0
	r, err := newRoot(Options{Clock: func() time.Time { return now }}, func(time.Time) *inspect.Picture { return pictures[at] }, pages())
	if err != nil {
		t.Fatal(err)
	}
	r.Init()
	send(r, tea.WindowSizeMsg{Width: 120, Height: 40}, frameMsg{})
	wants(t, r, "5 nodes")
	press(r, "f")
	at = 1
	now = now.Add(7 * time.Second)
	send(r, frameMsg{})
	wants(t, r, "5 nodes", "■ frozen  ", "■ frozen for 7s; f goes on")
	press(r, "tab", "shift+tab")
	wants(t, r, "5 nodes")
	press(r, "f")
	wants(t, r, "9 nodes")
	lacks(t, r, "frozen")
}

func TestMasterLost(t *testing.T) {
	r := dashboard(t, tuitest.Lost(13, 60), "dark", usual)
	wants(t, r, "master lost 42s ago, reconnecting; what you see is old · read: connection reset by peer")
	press(r, ":connections")
	wants(t, r, "○  billing/1", "stale")
}

func TestBreadcrumbs(t *testing.T) {
	r := dashboard(t, tuitest.Picture(13, 60), "dark", usual)
	press(r, ":connections", "down", "enter")
	wants(t, r, "Connections › billing/2")
	press(r, "enter") // its first link
	wants(t, r, "Connections › billing/2 › gateway/1")
	press(r, "tab", "shift+tab")
	wants(t, r, "Connections › billing/2 › gateway/1")
	press(r, "enter") // whose first link leads back
	wants(t, r, "Connections › billing/2 › gateway/1 › billing/1")
	press(r, "enter")
	wants(t, r, "Connections › billing/2 › gateway/1 ─") // where it was already
	press(r, "esc", "esc")
	lacks(t, r, "›")
	if n := r.front().(*connections).table.Selected(); n.Name != "billing/2" {
		t.Errorf("back again the cursor is on %s", n.Name)
	}
}

func TestCommandLine(t *testing.T) {
	r := dashboard(t, tuitest.Picture(13, 60), "dark", usual)
	press(r, ":")
	typeIn(r, "LIN")
	press(r, "tab", "enter")
	wants(t, r, "from ╲ to")
	press(r, ":")
	typeIn(r, "search/2")
	press(r, "enter")
	wants(t, r, "Connections › search/2")
	press(r, ":")
	typeIn(r, "mailer")
	press(r, "enter")
	wants(t, r, "2 of 13", "/worker=mailer")
	press(r, ":theme light")
	if r.theme.Name != "light" {
		t.Error(r.theme.Name)
	}
	press(r, ":theme pink")
	wants(t, r, "no theme is called")
	if r.theme.Name != "light" {
		t.Error("a wrong theme changed the theme")
	}
	press(r, ":nonsense")
	wants(t, r, `is called "nonsense"`)
	if cmd := r.command("quit"); cmd == nil || cmd() != (tea.QuitMsg{}) {
		t.Error("quit does not")
	}
}

func TestTheTerminalChoosesTheTheme(t *testing.T) {
	r := dashboard(t, tuitest.Picture(5, 5), "auto", usual)
	if r.theme.Name != "dark" {
		t.Error(r.theme.Name)
	}
	send(r, tea.BackgroundColorMsg{Color: color.White})
	if r.theme.Name != "light" {
		t.Error(r.theme.Name)
	}
}

func TestHelpListsWhatTheKeysDo(t *testing.T) {
	r := dashboard(t, tuitest.Picture(13, 60), "dark", usual)
	press(r, ":connections", "?")
	for _, b := range r.bindings() {
		wants(t, r, b.String(), b.Help)
	}
	press(r, "?")
	lacks(t, r, "Everywhere")
	press(r, "?", "2")
	lacks(t, r, "Everywhere")
	for _, k := range []string{"esc", "q", "?"} {
		press(r, "?")
		wants(t, r, "Everywhere")
		press(r, k)
		lacks(t, r, "Everywhere")
	}
}

func TestMouse(t *testing.T) {
	r := dashboard(t, tuitest.Picture(13, 60), "dark", usual)
	for _, s := range r.tabSpans() {
		send(r, tea.MouseClickMsg{X: s.from, Y: tabsLine, Button: tea.MouseLeft})
		if r.tab != s.tab {
			t.Errorf("a click on tab %d opened %d", s.tab, r.tab)
		}
	}
	press(r, ":connections")
	wants(t, r, "billing/1")                                                  // what is clicked on has been drawn
	send(r, tea.MouseClickMsg{X: 10, Y: bodyLine + 4, Button: tea.MouseLeft}) // the fourth row
	if n := r.front().(*connections).table.Selected(); n.Name != "gateway/1" {
		t.Errorf("the click selected %s", n.Name)
	}
	send(r, tea.MouseWheelMsg{X: 10, Y: bodyLine + 4, Button: tea.MouseWheelDown})
	if n := r.front().(*connections).table.Selected(); n.Name != "legacy/1" {
		t.Errorf("the wheel selected %s", n.Name)
	}
	if v := r.View(); v.MouseMode != tea.MouseModeCellMotion || !v.AltScreen {
		t.Error("the mouse is off, or the screen is not ours")
	}
	press(r, "m")
	if r.View().MouseMode != tea.MouseModeNone {
		t.Error("m does not give the mouse back")
	}
}

func TestWriteNeverClobbers(t *testing.T) {
	r := dashboard(t, tuitest.Picture(500, 60), "dark", size{80, 24})
	press(r, ":connections", "w", "w")
	wants(t, r, "written to ")
	files, err := filepath.Glob(filepath.Join(r.writeDir, "meshctl-connections-20261122-120000*.txt"))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n != 503 || strings.Contains(string(text), "\x1b") {
		t.Errorf("%d lines were written, some perhaps with escape sequences", n)
	}
	r.writeDir = filepath.Join(r.writeDir, "nowhere")
	press(r, "w")
	wants(t, r, "write the view: ")
}

func TestCopyReachesTheTerminal(t *testing.T) {
	r := dashboard(t, tuitest.Picture(13, 60), "dark", usual)
	r.inTmux = true
	press(r, ":connections")
	_, cmd := r.Update(key("y"))
	batch, ok := cmd().(tea.BatchMsg)
	if !ok {
		// one command is not batched
		batch = tea.BatchMsg{cmd}
	}
	var raw string
	for _, c := range batch {
		if m, ok := c().(tea.RawMsg); ok {
			raw += m.Msg.(string)
		}
	}
	const clip = "]52;c;YmlsbGluZy8x" // billing/1
	if strings.Count(raw, clip) != 2 || !strings.Contains(raw, "\x1bPtmux;") {
		t.Errorf("sent %q", raw)
	}
	wants(t, r, "copied billing/1")
}

type fakeControl struct {
	canceled string
	err      error
}

func (c *fakeControl) Call(context.Context, string, json.RawMessage, time.Duration) (json.RawMessage, error) {
	return json.RawMessage(`{}`), c.err
}

func (c *fakeControl) Cancel(_ context.Context, node, uid string) error {
	c.canceled = node + " " + uid
	return c.err
}

// target is a page with a request to cancel.
type target struct{ *connections }

func (target) CancelTarget() (inspect.Live, bool) {
	return inspect.Live{Request: inspect.Request{UID: "u1", Command: "billing.charge", Target: "billing/1"}, Node: "gateway/1"}, true
}

func TestCancelAsksFirst(t *testing.T) {
	r := dashboard(t, tuitest.Picture(13, 60), "dark", usual)
	r.tabs = [][]Page{{target{newConnections()}}}
	r.tab = 0
	press(r, "x")
	if r.prompt != nil {
		t.Fatal("a request of a replay can be canceled")
	}
	c := &fakeControl{}
	r.control = c
	press(r, "x")
	wants(t, r, "Cancel billing.charge at billing/1 (u1)?")
	press(r, "n")
	if c.canceled != "" {
		t.Fatal("it did not wait for the answer")
	}
	press(r, "x", "y")
	if c.canceled != "gateway/1 u1" {
		t.Fatalf("canceled %q", c.canceled)
	}
	wants(t, r, "canceled u1")
	c.err = &wire.Error{Code: wire.CodeUnreachable, Message: "no master"}
	press(r, "x", "y")
	wants(t, r, "cannot cancel u1: ")
}

type fakeTimeline struct {
	from, to, at time.Time
	playing      bool
	speed        float64
}

func (f *fakeTimeline) Span() (from, to time.Time) { return f.from, f.to }
func (f *fakeTimeline) Position() time.Time        { return f.at }
func (f *fakeTimeline) Playing() bool              { return f.playing }
func (f *fakeTimeline) Speed() float64             { return f.speed }
func (f *fakeTimeline) Play(on bool)               { f.playing = on }
func (f *fakeTimeline) SetSpeed(v float64)         { f.speed = v }
func (f *fakeTimeline) Seek(at time.Time)          { f.at = at }

func TestReplay(t *testing.T) {
	r := dashboard(t, tuitest.Picture(13, 60), "dark", size{80, 24})
	f := &fakeTimeline{from: tuitest.Now().Add(-time.Minute), to: tuitest.Now(), at: tuitest.Now().Add(-30 * time.Second), speed: 1}
	r.timeline = f
	press(r, "space", "+", "+", "-", "left")
	if !f.playing || f.speed != 2 || !f.at.Equal(tuitest.Now().Add(-31*time.Second)) {
		t.Errorf("%+v", f)
	}
	checkFrame(t, r.draw(), size{80, 24})
	wants(t, r, "▶ 2×", "29s of 1m00s", "replay")
	press(r, "shift+right", "shift+right", "shift+right", "shift+right")
	if !f.at.Equal(f.to) {
		t.Errorf("it went to %v", f.at)
	}
	press(r, "space", "space") // from the end it begins again
	if !f.at.Equal(f.from) || !f.playing {
		t.Errorf("%+v", f)
	}
	for range 9 {
		press(r, "+")
	}
	if f.speed != 60 {
		t.Errorf("speed %v", f.speed)
	}
}

func TestPanicsEndTheDashboardInOrder(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ended := 0
	c := &crash{end: func() { ended++ }}
	r := dashboard(t, tuitest.Picture(3, 3), "dark", usual)
	g := &guard{root: r, crash: c}
	r.tabs[r.tab] = []Page{nil} // whatever the root does with it panics
	if m, _ := g.Update(key("down")); m != g || ended != 1 {
		t.Fatalf("%v, ended %d times", m, ended)
	}
	r.frame = ""
	g.View()
	cmd := g.watch(func() tea.Msg { return tea.BatchMsg{func() tea.Msg { panic(errors.New("somebody's payload")) }} })
	cmd().(tea.BatchMsg)[0]()
	if ended != 3 {
		t.Errorf("ended %d times", ended)
	}
	err := c.err()
	if err == nil || !strings.Contains(err.Error(), "update: runtime error: invalid memory address") {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "meshctl-panic-*.txt"))
	if len(files) != 1 || !strings.HasSuffix(err.Error(), files[0]) {
		t.Fatal(files, err)
	}
	if text, err := os.ReadFile(files[0]); err != nil || !strings.Contains(string(text), "root.go") {
		t.Error(string(text), err)
	}
	if got := describe(errors.New("somebody's payload")); strings.Contains(got, "payload") {
		t.Error(got)
	}
}

func TestEndOfTheRecordingIsTold(t *testing.T) {
	r := dashboard(t, tuitest.Picture(13, 60), "dark", usual)
	lacks(t, r, "recording")
	var ended error
	r.recorded = func() error { return ended }
	send(r, frameMsg{})
	wants(t, r, "● recording")
	ended = errors.New("it is full")
	send(r, frameMsg{})
	wants(t, r, "✖ recording ended", "nothing more is recorded: it is full")
	press(r, "down") // takes the message away
	send(r, frameMsg{})
	wants(t, r, "✖ recording ended")
	lacks(t, r, "it is full")
}
