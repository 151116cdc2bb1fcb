package master

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/registry"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// choking is a link that takes so many more messages.
type choking struct {
	link.Link
	room int
	sent []string
}

func (l *choking) Send(m wire.Message) error {
	if l.room == 0 {
		return fmt.Errorf("send: %w", link.ErrFull)
	}
	l.room--
	l.sent = append(l.sent, string(m.Body))
	return nil
}

// Who does not keep up loses reports and is told how many; the others get theirs.
func TestAStuckWatcherLosesReports(t *testing.T) {
	m := &Master{}
	stuck, well := &choking{room: 1}, &choking{room: 1000}
	audience := []*watcher{{session: &session{link: stuck}}, {session: &session{link: well}}}
	m.watching.audience.Store(&audience)
	s := &session{m: m}
	s.reporter.Store(newReporter("shop/s1"))
	say := func(n int) { s.telemetry(fmt.Appendf(nil, `{"seq":%d}`, n)) }
	for i := range 5 {
		say(i)
	}
	stuck.room = 1 // not enough for both
	say(5)
	stuck.room = 2
	say(6)
	want := []string{`{"node":"shop/s1","report":{"seq":0}}`, `{"lost":4}`, `{"lost":1}`, `{"node":"shop/s1","report":{"seq":6}}`}
	if got, want := fmt.Sprint(stuck.sent), fmt.Sprint(want); got != want {
		t.Errorf("the stuck one got %s, want %s", got, want)
	}
	if len(well.sent) != 7 {
		t.Errorf("the other got %d of 7", len(well.sent))
	}
}

// Many nodes report less often, so that all together do not report too often; they are
// told anew only when it makes a difference, and never twice within a second.
func TestManyNodesReportLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // within less than a second
		m := &Master{log: slog.New(slog.DiscardHandler), nodes: &registry.Memory{}, sessions: make(map[string]*session)}
		t.Cleanup(m.stopWatching)
		audience := []*watcher{{session: &session{link: &choking{room: 1000}}}}
		m.watching.audience.Store(&audience)
		var first *choking
		grow := func(n int) {
			for range n {
				l := &choking{room: 1000}
				if first == nil {
					first = l
				}
				id := fmt.Sprint(len(m.sessions))
				m.sessions[id] = &session{m: m, link: l, self: wire.Peer{Worker: "shop", Variant: id, Meshctl: &wire.Extra{Protocol: 1}}}
			}
			m.settle()
		}
		aSecondLater := func() { m.watching.told = m.watching.told.Add(-time.Second) }
		grow(50)
		grow(0)
		aSecondLater()
		grow(60) // 110 in all, hardly more than are served every 100 ms
		aSecondLater()
		grow(40)
		grow(100) // too soon
		aSecondLater()
		grow(0)
		m.sessions = map[string]*session{"0": m.sessions["0"]}
		aSecondLater()
		grow(0)
		want := []string{`{"on":true,"every_ms":100}`, `{"on":true,"every_ms":150}`, `{"on":true,"every_ms":250}`, `{"on":true,"every_ms":100}`}
		if got, want := fmt.Sprint(first.sent), fmt.Sprint(want); got != want {
			t.Errorf("the first node was told %s, want %s", got, want)
		}
	})
}
