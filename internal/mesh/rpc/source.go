package rpc

import (
	"sync"
	"time"
)

// Source is where requests come from: one link. A uid or number means something only
// there. All methods are safe for concurrent use.
type Source struct {
	server *Server
	peer   string

	mu       sync.Mutex
	first    *Running // the newest
	last     *Running
	byNumber map[uint64]*Running
	byUID    map[string]*Running // those without a number
	alarm    alarm
	closed   bool
}

// Source makes a source of requests of the peer "worker/variant". Close has to be called.
func (s *Server) Source(peer string) *Source {
	src := &Source{server: s, peer: peer}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources[src] = struct{}{}
	return src
}

// Close says that no more requests come, and no response can go back. Requests under way end as
// if their caller had canceled them; those that can have no response go on.
func (src *Source) Close() {
	src.mu.Lock()
	src.closed = true
	for r := src.first; r != nil; r = r.next {
		if r.in.UID != "" || r.in.Number != 0 {
			r.cancel()
		}
	}
	empty := src.first == nil
	src.mu.Unlock()
	if empty {
		src.server.drop(src)
	}
}

func (s *Server) drop(src *Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sources, src)
}

// Cancel ends the context of a request, if it is still under way: that with the number,
// or where that is 0 with the uid.
func (src *Source) Cancel(number uint64, uid string) {
	src.mu.Lock()
	defer src.mu.Unlock()
	r := src.byUID[uid]
	if number != 0 {
		r = src.byNumber[number]
	}
	if r != nil {
		r.cancel()
	}
}

// Cancel ends the requests of a peer, "worker/variant", with a uid, as Source.Cancel does,
// whichever link they came over.
func (s *Server) Cancel(peer, uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for src := range s.sources {
		if src.peer == peer {
			src.cancelUID(uid)
		}
	}
}

func (src *Source) cancelUID(uid string) {
	src.mu.Lock()
	defer src.mu.Unlock()
	for r := src.first; r != nil; r = r.next {
		if r.in.UID == uid {
			r.cancel()
		}
	}
}

// claim takes a request's number or uid into use, and reports false when it is already.
// mu is held, here and below.
func (src *Source) claim(r *Running) bool {
	switch {
	case r.in.Number != 0:
		if src.byNumber == nil {
			src.byNumber = make(map[uint64]*Running)
		}
		if src.byNumber[r.in.Number] != nil {
			return false
		}
		src.byNumber[r.in.Number] = r
	case r.in.UID != "":
		if src.byUID == nil {
			src.byUID = make(map[string]*Running)
		}
		if src.byUID[r.in.UID] != nil {
			return false
		}
		src.byUID[r.in.UID] = r
	}
	return true
}

// list sees to it that r ends at its deadline, or with the server.
func (src *Source) list(r *Running) {
	if r.listed {
		return
	}
	r.listed = true
	if r.next = src.first; r.next != nil {
		r.next.prev = r
	} else {
		src.last = r
	}
	src.first = r
	if src.server.ctx.Err() != nil {
		r.end(byCancel)
	}
	src.alarm.watch(r.in.Deadline, src.expire)
}

// unlist is the opposite of claim and list. It reports whether that was the last request
// of a closed source.
func (src *Source) unlist(r *Running) bool {
	if !r.listed {
		return false
	}
	r.listed = false
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		src.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		src.last = r.prev
	}
	r.prev, r.next = nil, nil
	if src.byNumber[r.in.Number] == r {
		delete(src.byNumber, r.in.Number)
	}
	if src.byUID[r.in.UID] == r {
		delete(src.byUID, r.in.UID)
	}
	return src.closed && src.first == nil
}

// expire is the alarm's.
func (src *Source) expire() {
	now := time.Now()
	var next time.Time
	src.mu.Lock()
	defer src.mu.Unlock()
	for r := src.first; r != nil; r = r.next {
		switch d := r.in.Deadline; {
		case r.ended.Load() != notEnded:
		case !d.After(now):
			r.end(byDeadline)
		case next.IsZero() || d.Before(next):
			next = d
		}
	}
	src.alarm.rang(now, next)
}

func (src *Source) endAll() {
	src.mu.Lock()
	defer src.mu.Unlock()
	for r := src.first; r != nil; r = r.next {
		r.end(byCancel)
	}
}

func (src *Source) oldest(o *Oldest) {
	src.mu.Lock()
	defer src.mu.Unlock()
	for r := src.last; r != nil; r = r.prev { // so that few are added and fall out again
		if o.wants(r.in.Started) {
			o.add(r.inFlight())
		}
	}
}
