package tui

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/tui/tuitest"
)

// small is a mesh of two workers, of which one is in trouble.
func small() *inspect.Picture {
	node := func(worker, variant string, h inspect.Health) inspect.Node {
		return inspect.Node{NodeInfo: wire.NodeInfo{Worker: worker, Variant: variant}, Name: worker + "/" + variant, Health: h, Reports: true, RateIn: 10, P99: time.Second}
	}
	live := func(uid string, age time.Duration) inspect.Live {
		return inspect.Live{Request: inspect.Request{UID: uid, Caller: "web/a", Target: "billing/a", Command: "billing." + uid}, Age: age, Timeout: 10 * time.Second}
	}
	ended := live("ended", 3*time.Second)
	ended.Ended = tuitest.Now()
	parts := []inspect.Live{live("part1", 2*time.Second), live("part2", 2*time.Second)}
	parts[0].Group, parts[1].Group = "g", "g"
	return &inspect.Picture{
		At: tuitest.Now(), Status: inspect.Status{Connected: true, Master: "m:1"},
		Totals: inspect.Totals{Nodes: 4, InFlight: 5, Rate: 30},
		Nodes:  []inspect.Node{node("billing", "b", inspect.Degraded), node("web", "1", inspect.Healthy), node("billing", "a", inspect.Healthy), node("mail", "x", inspect.Gone)},
		Commands: []inspect.Command{
			{Name: "billing.fast", P50: time.Millisecond, P99: 2 * time.Millisecond, Rate: 20},
			{Name: "billing.slow", P50: time.Second, P99: 4 * time.Second, Rate: 1},
			{Name: "billing.never"},
		},
		Requests:   []inspect.Live{live("oldest", 9*time.Second), ended, live("older", 5*time.Second), parts[0], parts[1], live("new", time.Second)},
		Events:     []inspect.Event{{At: tuitest.Now(), Level: inspect.LevelError, Type: "node_down", Node: "mail/x", Message: "was lost"}},
		EventCount: 1,
	}
}

// inOrder fails unless the parts are on the screen, one after the other.
func inOrder(t *testing.T, r *root, parts ...string) {
	t.Helper()
	text := shown(r)
	rest := text
	for _, part := range parts {
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Fatalf("the screen lacks %q, or it is not after what has to come first:\n%s", part, text)
		}
		rest = after
	}
}

func TestOverviewTellsWhoWhatAndWhich(t *testing.T) {
	for _, s := range sizes {
		r := dashboard(t, small(), "dark", s)
		inOrder(t, r, "billing", "web") // who there is, in order whatever the picture's
		wants(t, r, "✖", "▲ b")         // how they are
		inOrder(t, r, "billing.slow", "4.00s")
		inOrder(t, r, "9.00s", "billing.oldest", "5.00s", "billing.older", "2.00s", "billing.part1")
		lacks(t, r, "billing.ended", "billing.part2", "billing.never")
		if s.h >= 24 {
			inOrder(t, r, "billing.slow", "billing.fast")
			wants(t, r, "mail/x was lost")
		}
	}
	r := dashboard(t, small(), "dark", size{120, 40})
	wants(t, r, "billing ×2 ", "billing/* ×2", "├ ● a", "└ ▲ b degraded", "mail/x gone", "web/a → billing/a")
}

func TestServicesAreFoldedWhenTheyAreTooMany(t *testing.T) {
	p := small()
	p.Nodes = p.Nodes[:0]
	for w := range 5 {
		for v := range 40 {
			n := inspect.Node{NodeInfo: wire.NodeInfo{Worker: fmt.Sprintf("w%d", w), Variant: fmt.Sprint(v)}, Reports: true}
			n.Name = n.Worker + "/" + n.Variant
			if w == 3 && v%7 == 1 {
				n.Health = inspect.Degraded
			}
			p.Nodes = append(p.Nodes, n)
		}
	}
	r := dashboard(t, p, "dark", size{120, 40})
	inOrder(t, r, "● w0 ×40", "● w1", "● w2", "▲ w3", "├ ▲ 1 ", "├ ▲ 8 ", "└ ▲ 15 ", "● w4")
	lacks(t, r, "▲ 22", "● 0")
	p.Nodes[41].Health = inspect.Gone
	send(r, frameMsg{})
	wants(t, r, "● w1 ×39 of 40")

	// More workers than lines: those in trouble first.
	for i := range p.Nodes {
		p.Nodes[i].Worker = fmt.Sprintf("worker%03d", i)
		p.Nodes[i].Name = p.Nodes[i].Worker + "/" + p.Nodes[i].Variant
	}
	send(r, frameMsg{})
	inOrder(t, r, "▲ worker121/1", "▲ worker128/8", "● worker000/0")
}

func TestOverviewCursorStaysWithItsRow(t *testing.T) {
	p := small()
	r := dashboard(t, p, "dark", usual)
	shown(r)
	o := r.front().(*overview)
	press(r, "right", "down")
	if got := o.CallTarget(); o.focus != slowPanel || got != "billing.fast" {
		t.Fatalf("the cursor is on %q of panel %d", got, o.focus)
	}
	p.Commands = append(p.Commands, inspect.Command{Name: "web.slower", P99: time.Minute}, inspect.Command{Name: "web.slowest", P99: time.Hour})
	p.Commands[0].P99 = time.Microsecond
	send(r, frameMsg{})
	if got := o.CallTarget(); got != "billing.fast" {
		t.Errorf("after a refresh the cursor is on %q", got)
	}

	// On a request that ends: its place is kept, and it does not jump elsewhere.
	press(r, "down")
	if got := o.CallTarget(); o.focus != flightPanel || got != "billing.oldest" {
		t.Fatalf("the cursor is on %q of panel %d", got, o.focus)
	}
	press(r, "down")
	p.Requests = slices.Delete(p.Requests, 0, 1) // an older one ends
	send(r, frameMsg{})
	if got := o.CallTarget(); got != "billing.older" {
		t.Errorf("after a refresh the cursor is on %q", got)
	}
	p.Requests = nil
	send(r, frameMsg{})
	press(r, "up", "down", "enter", "y")
	if got := o.CallTarget(); got != "" && o.focus == flightPanel {
		t.Errorf("nothing is in flight, and the cursor is on %q", got)
	}
}

func TestOverviewOpensWhatIsUnderTheCursor(t *testing.T) {
	for _, x := range []struct {
		keys []string
		want string // in the breadcrumbs
	}{
		{[]string{"enter"}, "Connections"}, // the worker billing: its nodes
		{[]string{"down", "down", "enter"}, "Connections › billing/b"},
		{[]string{"right", "enter"}, "Commands › billing.slow"},
		{[]string{"right", "right", "enter"}, "In flight › "},
		{[]string{"right", "right", "right", "enter"}, "Events"},
	} {
		r := dashboard(t, small(), "dark", usual)
		shown(r)
		press(r, x.keys...)
		if got := strings.Split(shown(r), "\n")[2]; !strings.Contains(got, x.want) {
			t.Errorf("%v led to %q, want %q", x.keys, got, x.want)
		}
	}
}

func TestOverviewMouse(t *testing.T) {
	r := dashboard(t, small(), "dark", usual)
	x, y := -1, -1
	for i, line := range strings.Split(shown(r), "\n") {
		if at := strings.Index(line, "billing.slow"); at >= 0 {
			x, y = len([]rune(line[:at])), i
		}
	}
	click := tea.MouseClickMsg{X: x, Y: y, Button: tea.MouseLeft}
	send(r, click)
	o := r.front().(*overview)
	if got := o.CallTarget(); got != "billing.slow" {
		t.Fatalf("a click chose %q", got)
	}
	send(r, tea.MouseWheelMsg{X: x, Y: y, Button: tea.MouseWheelDown})
	if got := o.CallTarget(); got != "billing.fast" {
		t.Errorf("the wheel chose %q", got)
	}
	send(r, click, click)
	wants(t, r, "Commands › billing.slow")
}

func TestOverviewFilter(t *testing.T) {
	r := dashboard(t, small(), "dark", usual)
	press(r, "/")
	typeIn(r, "worker=web")
	press(r, "enter")
	wants(t, r, "1 of 4", "web/1")
	lacks(t, r, "└ ▲ b", "billing.slow")
	o := r.front().(*overview)
	if err := o.SetFilter(r.env(), "age>4s"); err != nil { // means something to requests alone
		t.Fatal(err)
	}
	wants(t, r, "billing.oldest", "billing.older", "billing.slow")
	lacks(t, r, "billing.new")
	if err := o.SetFilter(r.env(), "nonsense=1"); err == nil || o.Filter() != "age>4s" {
		t.Errorf("a field that is none: %v, the filter is %q", err, o.Filter())
	}
	if err := o.SetFilter(r.env(), ""); err != nil {
		t.Fatal(err)
	}
	wants(t, r, "billing.new", "└ ▲ b")
}

func TestTrend(t *testing.T) {
	at := time.Unix(1_000_000, 0)
	var samples []inspect.Sample
	for i := range 10 {
		samples = append(samples, inspect.Sample{At: at.Add(time.Duration(i) * time.Second), Calls: float64(i), Errors: float64(i % 2), P99: time.Duration(i), InFlight: 10 - i})
	}
	if s := trend(samples, 20); len(s.calls) != 10 || s.calls[9] != 9 {
		t.Errorf("one point a second: %v", s.calls)
	}
	s := trend(samples, 5)
	if !slices.Equal(s.calls, []float64{.5, 2.5, 4.5, 6.5, 8.5}) || !slices.Equal(s.errors, []float64{1, 1, 1, 1, 1}) ||
		!slices.Equal(s.p99, []float64{1, 3, 5, 7, 9}) || !slices.Equal(s.inFlight, []float64{10, 8, 6, 4, 2}) {
		t.Errorf("two seconds a point: %+v", s)
	}
	// A second later the points are those that they were, and one more.
	later := append(samples[:len(samples):len(samples)], inspect.Sample{At: at.Add(10 * time.Second), Calls: 10})
	if got := trend(later, 5).calls; !slices.Equal(got, []float64{2.5, 4.5, 6.5, 8.5, 10}) {
		t.Errorf("a second later: %v", got)
	}
	if s := trend(nil, 5); len(s.calls) != 0 {
		t.Errorf("of nothing: %v", s)
	}
	// Their place is full as soon as there are enough, but for a point that is cut in two.
	for n := range 300 {
		for _, points := range []int{1, 7, 28, 100} {
			many := make([]inspect.Sample, n)
			for i := range many {
				many[i].At = at.Add(time.Duration(i) * time.Second)
			}
			if got := len(trend(many, points).calls); got > points || got < min(n, points)-1 {
				t.Fatalf("%d samples in %d points give %d", n, points, got)
			}
		}
	}
}

func TestPercent(t *testing.T) {
	for share, want := range map[float64]string{0: "0.0%", .0001: "<0.1%", .012: "1.2%", .5: "50%", 1: "100%"} {
		if got := percent(share); got != want {
			t.Errorf("percent(%g) = %q, want %q", share, got, want)
		}
	}
	if got := percent(math.NaN()); got == "" {
		t.Error("nothing for NaN")
	}
}

func TestOverviewCopiesWhatCanBeRun(t *testing.T) {
	r := dashboard(t, small(), "dark", usual)
	shown(r)
	o := r.front().(*overview)
	for _, want := range []string{"billing", "meshctl call billing.slow", "meshctl call billing.oldest --timeout 10s", ""} {
		if got, _ := o.Copy(); got != want {
			t.Errorf("copied %q, want %q", got, want)
		}
		press(r, "right")
	}
}

func TestOverviewFocusStaysOnTheScreen(t *testing.T) {
	r := dashboard(t, small(), "dark", usual)
	shown(r)
	press(r, "right", "right", "right")
	if o := r.front().(*overview); o.focus != newsPanel {
		t.Fatalf("panel %d has the focus", o.focus)
	}
	send(r, tea.WindowSizeMsg{Width: 60, Height: 15}) // no room for events
	wants(t, r, "▌")
}

// What a peer calls itself is no command of the dashboard.
func TestNamesAreNotCommands(t *testing.T) {
	p := small()
	p.Requests[0].UID, p.Nodes[0].Worker, p.Nodes[0].Name = "q", "quit", "quit/b"
	for _, name := range []string{"q", "quit", "exit", "theme mono", "write"} {
		r := dashboard(t, p, "dark", usual)
		_, cmd := r.Update(Go(name)())
		for cmd != nil {
			msg := cmd()
			if _, quit := msg.(tea.QuitMsg); quit {
				t.Errorf("going to %q quits", name)
			}
			_, cmd = r.Update(msg)
		}
		if r.themeName != "dark" {
			t.Errorf("going to %q changes the theme", name)
		}
	}
}

func TestRouteIsShortenedWhereItHasTo(t *testing.T) {
	r := flightRow{live: &inspect.Live{Request: inspect.Request{Caller: "shop/shop-1", Target: "billing/billing-2"}}, n: 1}
	if caller, target := r.route(31); caller != "shop/shop-1" || target != "billing/billing-2" {
		t.Errorf("%s → %s, and there is room", caller, target)
	}
	if caller, target := r.route(30); caller != "shop-1" || target != "billing-2" {
		t.Errorf("%s → %s, and there is no room", caller, target)
	}
	for _, name := range []string{"shop/a", "shop/shop", "shop", "", "shop/"} {
		if got := shortName(name); got != name {
			t.Errorf("%q became %q", name, got)
		}
	}
}

func TestOverviewCancelsOnlyWhatWasChosen(t *testing.T) {
	p := small()
	r := dashboard(t, p, "dark", usual)
	r.control = &controlled{}
	shown(r)
	o := r.front().(*overview)
	press(r, "right", "right")
	if l, ok := o.CancelTarget(); ok {
		t.Fatalf("%s was not chosen", l.UID)
	}
	press(r, "down")
	if l, ok := o.CancelTarget(); !ok || l.UID != "older" {
		t.Fatalf("%s, %v", l.UID, ok)
	}
	wants(t, r, "x cancel")
	p.Requests = slices.DeleteFunc(p.Requests, func(l inspect.Live) bool { return l.UID == "older" })
	send(r, frameMsg{})
	if l, ok := o.CancelTarget(); ok {
		t.Errorf("the chosen request has ended; %s is in its place and can be canceled", l.UID)
	}
	lacks(t, r, "x cancel")
	press(r, "up", "down")
	if l, ok := o.CancelTarget(); ok { // the broadcast
		t.Errorf("one of several, %s, can be canceled", l.UID)
	}
}
