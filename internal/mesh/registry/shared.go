package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/redisdb"
)

// Times of the shared registry, unless a test says otherwise.
const (
	// sharedLease is how long a master counts as being there after it last said so.
	sharedLease = 5 * time.Second
	// sharedGrace is how long what was declared at a master that has gone is kept, for those
	// nodes to come to another. A JavaScript node knows one master, and waits for its return.
	sharedGrace = 30 * time.Second
	sharedRenew = time.Second
	// sharedAudit is how often a master compares all that it knows with Redis, for what no
	// counting finds: data that Redis lost.
	sharedAudit = 10 * time.Second
	// flushBatch is how many nodes are written in one exchange.
	flushBatch = 256
)

// Listener is told what other masters know. Calls come one at a time, in the order of the
// registry's changes, and must not block.
type Listener interface {
	// Found says that the node is declared at another master, which Masters has named, or is
	// described anew.
	Found(Node)
	// Gone says that a node of another master has left.
	Gone(Node)
	// Masters names the other masters whenever something about them has changed.
	Masters([]Master)
}

// SharedConfig configures a Shared. The times' zero is their default.
type SharedConfig struct {
	URL  string // as redisdb.Open takes it
	Mesh string // meshes with different names share nothing
	Self Master // ID and Ticket are drawn where they are empty; Host "" is the address that Redis sees
	// Ring seals what is written. When another key is used, everything is written again.
	Ring     *seal.Ring
	Listener Listener
	// Linked gives the IDs of the masters that this one is connected to, if it knows: those
	// are there, also when they cannot reach Redis. It must not block.
	Linked func() []string
	Logger *slog.Logger

	Lease, Grace, Renew, Audit time.Duration
}

// Shared is what several masters know together, in Redis (6.2 or later). Each keeps there
// the nodes that are declared at itself, under a lease, and follows what the others do: by
// a stream of numbered changes, or by reading everything after a gap or a new beginning.
//
// A master says first to its own nodes what happens to it, and then to Redis: while Redis is
// away masters go on with what they know, and nobody of another master is taken for gone.
//
// Put, Remove and the questions are safe for concurrent use and never wait for Redis.
type Shared struct {
	cfg    SharedConfig
	client redis.UniversalClient
	log    *slog.Logger
	epoch  string // offered, where there is none
	wake   chan struct{}
	retold chan struct{} // self is to be written before the next renewal is due
	first  chan struct{} // closed when everything has been read for the first time

	mu   sync.Mutex
	self Master
	own  map[string]Node // by name
	// written is the change that each of own was last written with.
	written map[string]int64
	dirty   map[string]dirt // what has to be written
	others  map[string]other
	err     error // why Redis cannot be used; nil while everything is known
	peers   []Master

	// Of the goroutine of Run alone.
	follow followed
}

// dirt is what is to be written of a name.
type dirt struct {
	again bool // it is said again, and was not declared just now
	gone  Node // what is to be removed, where it is not to be put
}

// other is a node that another master answers for.
type other struct {
	Node
	// doubt is when to take it for gone; zero unless Redis does not know it any more and
	// nobody said why.
	doubt time.Time
}

// ErrNotShared is why Shared does not know everything at present.
var ErrNotShared = errors.New("the registry of masters cannot be used")

// OpenShared checks the configuration. It connects to nothing; Run does. Errors do not
// quote the URL.
func OpenShared(cfg SharedConfig) (*Shared, error) {
	client, err := redisdb.Open(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Linked == nil {
		cfg.Linked = func() []string { return nil }
	}
	cfg.Lease = cmp.Or(cfg.Lease, sharedLease)
	cfg.Grace = cmp.Or(cfg.Grace, sharedGrace)
	cfg.Renew = cmp.Or(cfg.Renew, sharedRenew)
	cfg.Audit = cmp.Or(cfg.Audit, sharedAudit)
	cfg.Self.ID = cmp.Or(cfg.Self.ID, uuid.NewString())
	cfg.Self.Ticket = cmp.Or(cfg.Self.Ticket, uuid.NewString())
	return &Shared{
		cfg: cfg, client: client, log: cfg.Logger, self: cfg.Self, epoch: uuid.NewString(),
		wake: make(chan struct{}, 1), retold: make(chan struct{}, 1), first: make(chan struct{}),
		own: make(map[string]Node), written: make(map[string]int64), dirty: make(map[string]dirt), others: make(map[string]other),
		err: fmt.Errorf("%w: not connected to Redis yet", ErrNotShared),
	}, nil
}

// ID is this master's.
func (s *Shared) ID() string { return s.cfg.Self.ID }

// Ready is closed when everything has been read for the first time.
func (s *Shared) Ready() <-chan struct{} { return s.first }

// Err is nil while this master knows what all others know; else it wraps ErrNotShared.
func (s *Shared) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// SetSelf changes what the others are told of this master, at once, but its ID and Ticket.
func (s *Shared) SetSelf(change func(*Master)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.self)
	s.self.ID, s.self.Ticket = s.cfg.Self.ID, s.cfg.Self.Ticket
	select {
	case s.retold <- struct{}{}:
	default:
	}
}

// Self is what the others are told of this master; Host is "" until Redis has told it.
func (s *Shared) Self() Master {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.self
}

// Masters are the other masters that Redis last told of. The caller owns the slice.
func (s *Shared) Masters() []Master {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Master(nil), s.peers...)
}

// Put says that a node declared itself here, or that something about it changed.
func (s *Shared) Put(n Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := n.Name()
	was, mine := s.own[name]
	s.own[name] = n
	delete(s.others, name)
	s.dirty[name] = dirt{again: s.err != nil || mine && was.same(n) && s.dirty[name].again}
	s.signal()
}

// Remove says that a node that was declared here left. It reports whether that is certain. It
// is not when another master has the node by now, as Found is about to say; and while Redis is
// away, when the node may have gone to another master, unless it drained. Then Gone says so
// later, if nothing is heard of it, and until then it is to be kept.
func (s *Shared) Remove(n Node) (certain bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := n.Name()
	if o, ok := s.own[name]; !ok || !o.same(n) {
		_, elsewhere := s.others[name]
		return !elsewhere
	}
	delete(s.own, name)
	delete(s.written, name)
	if s.err != nil { // what Redis has of it is found when it is back
		delete(s.dirty, name)
		if !n.Draining {
			s.others[name] = other{n, time.Now().Add(s.cfg.Grace)}
		}
		return n.Draining
	}
	s.dirty[name] = dirt{gone: n}
	s.signal()
	return true
}

// Current tells whether n is what another master, and no node that has come here since, is
// known for. A Listener asks when it has the lock under which it calls Put.
func (s *Shared) Current(n Node) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.others[n.Name()]
	return ok && o.same(n)
}

// signal wakes the goroutine of Run. mu is held.
func (s *Shared) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run keeps the registry until ctx ends, and then gives the lease back: what is declared
// here has the grace to come to another master. It blocks, and leaves no goroutine behind.
func (s *Shared) Run(ctx context.Context) {
	defer s.client.Close()
	reader := newChangesReader(s)
	defer reader.stop()
	renew := time.NewTicker(s.cfg.Renew)
	defer renew.Stop()
	changed := s.cfg.Ring.Changed()
	s.tick(ctx, reader)
	for {
		select {
		case <-ctx.Done():
			s.leave()
			return
		case <-renew.C:
			s.tick(ctx, reader)
		case <-s.retold:
			s.tick(ctx, reader)
		case <-s.wake:
			if s.Err() == nil {
				s.flush(ctx)
			}
		case batch := <-reader.batches:
			s.heed(ctx, batch, reader)
		case <-changed:
			changed = s.cfg.Ring.Changed()
			s.rewrite()
			s.tick(ctx, reader)
		}
	}
}

// rewrite has everything written again.
func (s *Shared) rewrite() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.own {
		s.dirty[name] = dirt{again: true}
	}
	s.signal()
}

// leave says what is still to be said, and gives the lease back.
func (s *Shared) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), redisdb.Timeout)
	defer cancel()
	if s.Err() == nil {
		_ = s.flush(ctx) // what fails is made good by the others, when the grace is over
	}
	if err := s.renewal(ctx, 0).Err(); err != nil {
		s.log.Warn("cannot tell the other masters that this one ends; they notice when its lease is over", "error", err, "lease", s.cfg.Lease)
	}
}

// note remembers whether Redis can be used, and logs when that changes.
func (s *Shared) note(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	if err != nil {
		err = fmt.Errorf("%w: redis: %w", ErrNotShared, err)
	}
	s.mu.Lock()
	was := s.err
	s.err = err
	s.mu.Unlock()
	switch {
	case err != nil && (was == nil || !s.follow.told):
		s.follow.told = true
		s.log.Error("Redis is away: this master goes on with what it knows, and with its own nodes", "error", err)
	case err == nil && was != nil:
		s.follow.told = false
		s.log.Info("this master knows what the others know", "masters", len(s.Masters())+1)
	}
}

// run runs a script with a time-out.
func (s *Shared) run(ctx context.Context, script *redis.Script, args ...any) ([]any, error) {
	ctx, cancel := context.WithTimeout(ctx, redisdb.Timeout)
	defer cancel()
	return script.Run(ctx, s.client, s.keys(), args...).Slice()
}

func (s *Shared) keys() []string {
	keys := make([]string, len(scriptKeys))
	for i, k := range scriptKeys {
		keys[i] = s.key(k)
	}
	return keys
}

func (s *Shared) key(name string) string { return "meshctl:{" + s.cfg.Mesh + ":registry}:" + name }
