package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// pretendLink only tells whether it was closed.
type pretendLink struct {
	link.Link
	closed chan struct{}
}

func (l *pretendLink) Close(error) { close(l.closed) }

// network is what answers at addresses: nothing refuses at once, silent never answers,
// others do after a while.
type network struct {
	answers map[string]time.Duration
	names   map[string][]netip.Addr
	slow    string // a name that nobody knows, which takes long to find out

	mu    sync.Mutex
	tried []string
	links map[string]*pretendLink
}

const silent time.Duration = -1

func (n *network) dial(ctx context.Context, c candidate) (contact, error) {
	at := c.on(c.port)
	n.mu.Lock()
	n.tried = append(n.tried, at.String())
	after, there := n.answers[at.String()]
	n.mu.Unlock()
	switch {
	case !there:
		return contact{at: at}, unreachable(at.String(), errors.New("connection refused"))
	case after == silent:
		<-ctx.Done()
		return contact{at: at}, unreachable(at.String(), ctx.Err())
	}
	time.Sleep(after) // one that comes too late for its context as well
	l := &pretendLink{closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.links == nil {
		n.links = make(map[string]*pretendLink)
	}
	n.links[at.String()] = l
	return contact{l, at}, nil
}

func (n *network) lookup(ctx context.Context, _, host string) ([]netip.Addr, error) {
	if host == n.slow {
		<-ctx.Done()
		return nil, errors.New("lookup " + host + ": timeout")
	}
	if ips := n.names[host]; ips != nil {
		return ips, nil
	}
	return nil, errors.New("no such host")
}

// search looks for a master on the network.
func (n *network) search(t *testing.T, list string) *search {
	t.Helper()
	m, err := newMasters(list)
	if err != nil {
		t.Fatal(err)
	}
	m.lookup = n.lookup
	s := &search{masters: m, dial: n.dial, wg: new(sync.WaitGroup), log: slog.New(slog.DiscardHandler), running: make(map[candidate]bool), results: make(chan dialed)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	t.Cleanup(func() {
		s.end()
		s.wg.Wait()
	})
	return s
}

func found(into *string) func(contact) error {
	return func(to contact) error {
		*into = to.at.String()
		return nil
	}
}

func addrs(ips ...string) (as []netip.Addr) {
	for _, ip := range ips {
		as = append(as, netip.MustParseAddr(ip))
	}
	return as
}

func TestSearchFindsWhoAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		net    *network
		list   string
		within time.Duration
		want   string
	}{
		"the only one":           {&network{answers: map[string]time.Duration{"10.0.0.1:1": 0}}, "10.0.0.1:1", 0, "10.0.0.1:1"},
		"others refuse":          {&network{answers: map[string]time.Duration{"10.0.0.3:1": 0}}, "10.0.0.1:1,10.0.0.2:1,10.0.0.3:1", 0, "10.0.0.3:1"},
		"another one is silent":  {&network{answers: map[string]time.Duration{"10.0.0.1:1": silent, "10.0.0.2:1": 0}}, "10.0.0.1:1,10.0.0.2:1", stagger, "10.0.0.2:1"},
		"all but one are silent": {&network{answers: map[string]time.Duration{"10.0.0.1:1": silent, "10.0.0.2:1": silent, "10.0.0.3:1": 0}}, "10.0.0.1:1,10.0.0.2:1,10.0.0.3:1", 2 * stagger, "10.0.0.3:1"},
		"a name's last address":  {&network{answers: map[string]time.Duration{"m:1 (10.0.0.3)": 0}, names: map[string][]netip.Addr{"m": addrs("10.0.0.1", "10.0.0.2", "::ffff:10.0.0.3")}}, "m:1", 0, "m:1 (10.0.0.3)"},
		"a name nobody knows":    {&network{answers: map[string]time.Duration{"10.0.0.1:1": 0}}, "m:1,10.0.0.1:1", 0, "10.0.0.1:1"},
		"a name that takes long": {&network{answers: map[string]time.Duration{"10.0.0.1:1": 0}, slow: "m"}, "m:1,10.0.0.1:1", stagger, "10.0.0.1:1"},
		"the only one is slow":   {&network{answers: map[string]time.Duration{"10.0.0.1:1": 4 * time.Second}}, "10.0.0.1:1,10.0.0.2:1", 4 * time.Second, "10.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 { // orders are drawn
				synctest.Test(t, func(t *testing.T) {
					c.net.tried = nil
					s := c.net.search(t, c.list)
					began := time.Now()
					var got string
					if err := s.round(t.Context(), true, found(&got)); err != nil {
						t.Fatal(err)
					}
					if took := time.Since(began); got != c.want || took > c.within {
						t.Errorf("found %s after %s, want %s within %s", got, took, c.want, c.within)
					}
				})
			}
		})
	}
}

// Who answers second is closed, whether or not it was given up in time.
func TestSearchClosesLosers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network{answers: map[string]time.Duration{"10.0.0.1:1": 1500 * time.Millisecond, "10.0.0.2:1": 1500 * time.Millisecond}}
		s := n.search(t, "10.0.0.1:1,10.0.0.2:1")
		var got string
		if err := s.round(t.Context(), true, found(&got)); err != nil {
			t.Fatal(err)
		}
		s.end()
		s.wg.Wait()
		if len(n.links) != 2 {
			t.Fatalf("%d links", len(n.links))
		}
		for at, l := range n.links {
			select {
			case <-l.closed:
				if at == got {
					t.Errorf("%s was closed, which was taken", at)
				}
			default:
				if at != got {
					t.Errorf("%s was left open", at)
				}
			}
		}
	})
}

// A master that takes nobody in does not keep the others from being asked.
func TestSearchGoesOnWhereOneRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network{answers: map[string]time.Duration{"10.0.0.1:1": 0, "10.0.0.2:1": 0}}
		s := n.search(t, "10.0.0.1:1,10.0.0.2:1")
		denied := &wire.Error{Code: wire.CodeDenied, Message: "the master refuses: no", Hint: "ask"}
		asked := 0
		err := s.round(t.Context(), true, func(to contact) error {
			asked++
			return denied
		})
		if want := "denied: no master can be used: the master refuses: no at 10.0.0.1:1, 10.0.0.2:1"; asked != 2 || wire.CodeOf(err) != wire.CodeDenied || inOrder(err.Error()) != want || hint(err) != "ask" {
			t.Errorf("asked %d: %v (%s)", asked, err, hint(err))
		}
		s.wg.Wait()
		for at, l := range n.links {
			select {
			case <-l.closed:
			default:
				t.Errorf("%s was left open", at)
			}
		}
		// But for one that says that there is another copy: no other master knows better.
		for _, last := range []error{&wire.Error{Code: wire.CodeReplaced}, errLeaving} {
			asked = 0
			err = s.round(t.Context(), true, func(contact) error {
				asked++
				return last
			})
			if !errors.Is(err, last) || asked != 1 {
				t.Errorf("asked %d: %v, want %v", asked, err, last)
			}
		}
	})
}

// inOrder sorts the places of a message with one reason, as the order is drawn.
func inOrder(message string) string {
	head, tail, _ := strings.Cut(message, " at ")
	places := strings.Split(tail, ", ")
	slices.Sort(places)
	return head + " at " + strings.Join(places, ", ")
}

// A round does not wait for the silent, and the next one asks the others again.
func TestSearchKeepsAskingWhileOneIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network{answers: map[string]time.Duration{"10.0.0.1:1": silent}}
		s := n.search(t, "10.0.0.1:1,10.0.0.2:1")
		for round := range 3 {
			began := time.Now()
			err := s.round(t.Context(), false, found(new(string)))
			if wire.CodeOf(err) != wire.CodeUnreachable || !strings.Contains(err.Error(), "no answer in time at 10.0.0.1:1") || !strings.Contains(err.Error(), "connection refused at 10.0.0.2:1") {
				t.Errorf("round %d: %v", round, err)
			}
			if took := time.Since(began); took > 2*stagger {
				t.Errorf("round %d took %s", round, took)
			}
		}
		if len(n.tried) != 4 {
			t.Errorf("tried %v, want the silent one once and the other three times", n.tried)
		}
		n.answers["10.0.0.2:1"] = 0
		var got string
		began := time.Now()
		if err := s.round(t.Context(), false, found(&got)); err != nil || got != "10.0.0.2:1" || time.Since(began) > 0 {
			t.Errorf("found %q after %s: %v", got, time.Since(began), err)
		}
	})
}

// Short is the pause where somebody is away, and not where they are there and slow.
func TestAbsentMasters(t *testing.T) {
	away := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{unreachable("a:1", fmt.Errorf("%w: %w", link.ErrUnreachable, away)), true},
		{unreachable("a:1", &net.DNSError{Err: "no such host"}), true},
		{unreachable("a:1", &net.OpError{Op: "read", Err: errors.New("reset")}), false},
		{unreachable("a:1", context.DeadlineExceeded), false},
		{unreachable("a:1", errNoAnswer), false},
		{mismatchAt(endpoint{name: "a:1"}, "another key"), false},
		{&wire.Error{Code: wire.CodeUnreachable, Message: "the master does not answer"}, false},
	} {
		s := &search{failures: []failure{{"b:1", &wire.Error{Code: wire.CodeDenied}}, {"a:1", c.err}}}
		if s.absent() != c.want {
			t.Errorf("%v: absent %v", c.err, !c.want)
		}
	}
}

// One that answers between two rounds is taken, at once.
func TestSearchTakesWhoAnswersLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network{answers: map[string]time.Duration{"10.0.0.1:1": 1500 * time.Millisecond}}
		s := n.search(t, "10.0.0.1:1")
		if err := s.round(t.Context(), false, found(new(string))); err == nil {
			t.Fatal("answered too soon")
		}
		began := time.Now()
		if !s.pause(t.Context(), 5*time.Second) || time.Since(began) != 500*time.Millisecond {
			t.Errorf("waited %s", time.Since(began))
		}
		var got string
		if err := s.round(t.Context(), false, found(&got)); err != nil || got != "10.0.0.1:1" || len(n.tried) != 1 {
			t.Errorf("found %q, tried %v: %v", got, n.tried, err)
		}
	})
}

func TestSearchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network{answers: map[string]time.Duration{"10.0.0.1:1": silent, "10.0.0.2:1": silent, "10.0.0.3:1": silent}, slow: "m"}
		s := n.search(t, "10.0.0.1:1,10.0.0.2:1,10.0.0.3:1,m:1")
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		err := s.round(ctx, true, found(new(string)))
		for _, at := range []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "no answer in time at ", "there was no time left to ask at "} {
			if err == nil || !strings.Contains(err.Error(), at) {
				t.Errorf("%q is not in %v", at, err)
			}
		}
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		if err := n.search(t, "m:1").round(ctx, true, found(new(string))); wire.CodeOf(err) != wire.CodeUnreachable || !strings.Contains(err.Error(), "m:1") {
			t.Errorf("not one name known: %v", err)
		}
	})
}

func TestSearchIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network{names: make(map[string][]netip.Addr)}
		for i := range 5000 {
			name := fmt.Sprint("m", i%2)
			n.names[name] = append(n.names[name], netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
		}
		n.names["none"] = addrs()
		s := n.search(t, "m0:1,m1:1,none:1")
		err := s.round(t.Context(), false, found(new(string)))
		if err == nil || len(n.tried) != maxAddresses {
			t.Errorf("tried %d: %v", len(n.tried), err)
		}
		for range 200 {
			s.masters.notePlain(endpoint{name: fmt.Sprint("m:", len(s.masters.plain))}, true)
		}
		if len(s.masters.plain) > maxAddresses {
			t.Errorf("%d masters are remembered", len(s.masters.plain))
		}
	})
}

// Processes spread over masters, and each goes round all of them.
func TestOrderOfMasters(t *testing.T) {
	var all []candidate
	for i := range 4 {
		all = append(all, candidate{masterName{"m", 1}, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})})
	}
	first := make(map[candidate]int)
	for range 400 {
		m, err := newMasters("m:1")
		if err != nil {
			t.Fatal(err)
		}
		cs := slices.Clone(all)
		m.order(cs)
		first[cs[0]]++
		var gone []candidate
		for range all { // each one goes, one after another
			m.used(cs[0])
			gone = append(gone, cs[0])
			m.order(cs)
			if cs[len(cs)-1] != gone[len(gone)-1] {
				t.Fatalf("%v was lost and comes before others: %v", gone[len(gone)-1], cs)
			}
		}
		if cs[0] != gone[0] {
			t.Fatalf("after %v comes %v", gone, cs[0])
		}
		for _, c := range all {
			if !slices.Contains(gone, c) {
				t.Fatalf("%v is left out by %v", c, gone)
			}
		}
	}
	for _, c := range all {
		if first[c] < 50 { // 100 are expected; 50 are more than five standard deviations away
			t.Errorf("%v came first %d times of 400", c, first[c])
		}
	}
}

// Of errors that differ the one that somebody has to do something about comes first.
func TestToldErrors(t *testing.T) {
	refused := func(at string) failure { return failure{at, unreachable(at, errors.New("connection refused"))} }
	mismatch := mismatchAt(endpoint{name: "b:1"}, "another private key")
	for name, c := range map[string]struct {
		of   []failure
		code wire.Code
		text string
		hint string
	}{
		"one":              {[]failure{refused("a:1")}, wire.CodeUnreachable, "connect to the master at a:1: connection refused", "check that it runs"},
		"equal ones":       {[]failure{refused("a:1"), refused("b:1")}, wire.CodeUnreachable, "no master answers: connection refused at a:1, b:1", "check that one runs"},
		"different ones":   {[]failure{refused("a:1"), {"b:1", unreachable("b:1", errNoAnswer)}}, wire.CodeUnreachable, "no master answers: connection refused at a:1; no answer in time at b:1", "check that one runs"},
		"one has a key":    {[]failure{refused("a:1"), {"b:1", mismatch}, refused("c:1")}, wire.CodeKeyMismatch, "no master can be used: it has another private key at b:1; connection refused at a:1, c:1", "use the same keys"},
		"an odd one":       {[]failure{refused("a:1"), {"b:1", errors.New("odd")}}, wire.CodeUnreachable, "no master answers: connection refused at a:1; odd at b:1", "check that one runs"},
		"denied and a key": {[]failure{{"a:1", &wire.Error{Code: wire.CodeDenied, Message: "no"}}, {"b:1", mismatch}}, wire.CodeKeyMismatch, "no master can be used: it has another private key at b:1; no at a:1", "use the same keys"},
	} {
		err := tell(c.of)
		if wire.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) || !strings.Contains(hint(err), c.hint) {
			t.Errorf("%s: %s: %v (%s)", name, wire.CodeOf(err), err, hint(err))
		}
	}
}
