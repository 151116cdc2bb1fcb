package master

import (
	"fmt"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/link"
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
