package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// How a master is found among several. One that refuses connections costs nothing, one
// that does not answer costs the others a stagger: then the next is tried beside it, and
// whoever answers first is taken. What is under way outlives a round, so that those
// that refuse are asked again while those that are silent still may answer.

// stagger is how long one address may keep the next one waiting.
const stagger = time.Second

// contact is a connection to a master.
type contact struct {
	link link.Link
	at   endpoint
}

// search is the search for one master. It is for one goroutine.
type search struct {
	masters *masters
	dial    func(context.Context, candidate) (contact, error)
	wg      *sync.WaitGroup // of the connections that are being opened and closed
	log     *slog.Logger

	ctx     context.Context // of those
	stop    context.CancelFunc
	running map[candidate]bool
	results chan dialed
	late    []dialed // those that answered between rounds

	// Of a round.
	queue    []candidate
	began    int // how many of the queue were begun with
	failures []failure
}

// dialed is what came of one candidate.
type dialed struct {
	candidate
	contact
	err error
}

// lookedUp is what came of one name.
type lookedUp struct {
	masterName
	found []candidate
	err   error
}

// search begins the search for a master. ctx bounds it; end has to be called.
func (c *core) search(ctx context.Context) *search {
	s := &search{masters: c.masters, dial: c.dialMaster, wg: &c.retiring, log: c.log, running: make(map[candidate]bool), results: make(chan dialed)}
	s.ctx, s.stop = context.WithCancel(ctx)
	return s
}

// end gives up what is under way.
func (s *search) end() {
	s.stop()
	for _, d := range s.late {
		s.wg.Go(func() { d.link.Close(errUnneeded) })
	}
}

// round tries each candidate once, but for those that were begun with in a former round.
// take is given connections until it keeps one, by returning nil; the others are
// closed. A patient round ends when all have failed or ctx ends; another one does not
// wait for those that are silent. The error is that of the only candidate, or one that
// tells of all of them; or take's if no other master could do better.
func (s *search) round(ctx context.Context, patient bool, take func(contact) error) error {
	s.queue, s.began, s.failures = nil, 0, nil
	names := s.lookUp()
	asked := len(s.masters.list)
	turn := time.NewTimer(stagger)
	defer turn.Stop()
	for len(s.late) > 0 {
		d := s.late[0]
		s.late = s.late[1:]
		if end, err := s.heard(d, take); end {
			return err
		}
	}
	// The first one waits until all names are known, or else numbers would always go
	// before names.
	free, waited := false, false
	for {
		if (free || waited) && s.next() {
			free, waited = false, false
			turn.Reset(stagger)
		}
		switch all := asked == 0 && len(s.queue) == 0; {
		case all && len(s.running) == 0:
			return tell(s.failures)
		case all && waited && !patient:
			return s.silent()
		}
		select {
		case r := <-names:
			asked--
			s.learn(r)
			free = free || asked == 0 && s.began == 0
		case d := <-s.results:
			delete(s.running, d.candidate)
			if end, err := s.heard(d, take); end {
				return err
			}
			free = true
		case <-turn.C:
			waited = true
		case <-ctx.Done():
			return s.silent()
		}
	}
}

// heard takes what came of a candidate, and tells whether that ends the round.
func (s *search) heard(d dialed, take func(contact) error) (end bool, err error) {
	if d.err == nil {
		s.masters.used(d.candidate)
		if d.err = take(d.contact); d.err == nil {
			return true, nil
		}
		s.wg.Go(func() { d.link.Close(d.err) })
		if final(d.err) {
			return true, d.err
		}
	}
	s.fail(d.at.String(), d.err)
	return false, nil
}

// final tells whether no other master is to be asked after an error of take.
func final(err error) bool {
	return wire.CodeOf(err) == wire.CodeReplaced || errors.Is(err, errLeaving)
}

// lookUp asks for the addresses of all names at once.
func (s *search) lookUp() <-chan lookedUp {
	names := make(chan lookedUp, len(s.masters.list)) // nobody may be left to receive
	for _, name := range s.masters.list {
		s.wg.Go(func() {
			found, err := s.masters.resolve(s.ctx, name)
			names <- lookedUp{name, found, err}
		})
	}
	return names
}

// learn queues the addresses of a name.
func (s *search) learn(r lookedUp) {
	if r.err == nil && len(r.found) == 0 {
		r.err = errors.New("the name has no addresses")
	}
	if r.err != nil {
		s.fail(r.masterName.String(), unreachable(r.masterName.String(), r.err))
		return
	}
	s.masters.noteMany(len(s.masters.list) > 1 || len(r.found) > 1)
	for _, c := range r.found {
		if !s.running[c] {
			s.queue = append(s.queue, c)
		}
	}
	s.masters.order(s.queue)
	if room := max(0, maxAddresses-s.began-len(s.running)); len(s.queue) > room {
		s.masters.cut.Do(func() {
			s.log.Warn("the masters' names stand for too many addresses; some are never tried", "at_most", maxAddresses)
		})
		s.queue = s.queue[:room]
	}
}

// next begins with the next candidate, and reports false when there is none.
func (s *search) next() bool {
	if len(s.queue) == 0 {
		return false
	}
	c := s.queue[0]
	s.queue = s.queue[1:]
	s.began++
	s.running[c] = true
	s.wg.Go(func() {
		got, err := s.dial(s.ctx, c)
		select {
		case s.results <- dialed{c, got, err}:
		case <-s.ctx.Done():
			if err == nil {
				got.link.Close(errUnneeded)
			}
		}
	})
	return true
}

var errUnneeded = errors.New("another master answered first")

func (s *search) fail(where string, err error) {
	var e *dialError
	if errors.As(err, &e) {
		where = e.where
	}
	s.failures = append(s.failures, failure{where, err})
}

// absent tells whether some master was not even there in the last round. Others may have
// too much to do, and are not to get more.
func (s *search) absent() bool {
	return slices.ContainsFunc(s.failures, func(f failure) bool {
		var dial *dialError
		var name *net.DNSError
		var op *net.OpError
		return errors.As(f.err, &dial) && (errors.As(dial.reason, &name) || errors.As(dial.reason, &op) && op.Op == "dial")
	})
}

// pause waits for d between two rounds, or until one answers after all, and reports false
// when ctx ended first.
func (s *search) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case r := <-s.results:
			delete(s.running, r.candidate)
			if r.err == nil {
				s.late = append(s.late, r)
				return true
			}
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// silent is the error of a round that ends although some have not answered.
func (s *search) silent() error {
	var at []string
	for c := range s.running {
		at = append(at, c.String())
	}
	slices.Sort(at)
	for _, where := range at {
		s.fail(where, unreachable(where, errNoAnswer))
	}
	for _, c := range s.queue {
		s.fail(c.String(), unreachable(c.String(), errNotTried))
	}
	if len(s.failures) == 0 { // not one name has been looked up
		for _, name := range s.masters.list {
			s.fail(name.String(), unreachable(name.String(), errNoAnswer))
		}
	}
	return tell(s.failures)
}

var (
	errNoAnswer = errors.New("no answer in time")
	errNotTried = errors.New("there was no time left to ask")
)
