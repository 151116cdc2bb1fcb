package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/redisdb"
)

// How a master keeps up with the others. Everything here runs on the goroutine of Run.

// followed is how far a master has followed the changes.
type followed struct {
	epoch   string
	rev     int64
	moved   time.Time // when rev last changed, or was what Redis says
	audited time.Time // when everything was last compared
	told    bool      // that Redis is away has been logged
	checked bool      // the server is one that can be used
	records map[string]Master
	// unread are the records that could not be read, by name: each costs keys to be derived,
	// and is not tried again until it, or the keys that are accepted, change. A name is logged
	// once for those keys: a master writes another record with each renewal.
	unread     map[string]string
	unreadKeys []*seal.Key // the keys that they were tried with
	tried      int         // of those, since the lease was last renewed
	asked      int         // how often who is there was asked out of turn, since then
	gaps       int         // how often the changes had one, since then
	stalled    bool        // that changes do not come has been logged
}

// maxStall is how long the stream may bring nothing though there are changes.
const maxStall = 2 * time.Second

var errAnswer = errors.New("unexpected answer of a script")

// tick renews the lease, and finds out whether this master still knows everything.
func (s *Shared) tick(ctx context.Context, reader *changesReader) {
	s.note(s.renew(ctx, reader))
}

func (s *Shared) renew(ctx context.Context, reader *changesReader) error {
	f := &s.follow
	f.tried, f.asked, f.gaps = 0, 0, 0
	if err := s.check(ctx); err != nil {
		return err
	}
	answer, err := s.renewal(ctx, s.cfg.Lease).Slice()
	if err != nil {
		f.checked = false
		return err
	}
	if len(answer) != 6 {
		return errAnswer
	}
	epoch, _ := answer[0].(string)
	rev, _ := answer[1].(int64)
	held, _ := answer[2].(int64)
	now, _ := answer[5].(int64)
	s.takeMasters(ctx, pairs(answer[3]), pairs(answer[4]), now)
	if rev == f.rev {
		f.moved = time.Now()
	}
	switch {
	case s.Err() != nil, epoch != f.epoch, rev < f.rev:
		err = s.sync(ctx, reader)
	case time.Since(f.moved) > maxStall:
		if !f.stalled {
			f.stalled = true
			s.log.Warn("changes of other masters do not come; reading everything", "after", f.rev, "error", reader.err())
		}
		err = s.sync(ctx, reader)
	case held == 0:
		s.log.Warn("the lease of this master was over: it was stopped, or could not reach Redis")
		err = s.sync(ctx, reader)
	case time.Since(f.audited) > s.cfg.Audit && rev == f.rev:
		err = s.audit(ctx, reader)
	}
	if err != nil {
		return err
	}
	return s.flush(ctx)
}

// check looks at the server before it is first used, and gets this master's address.
func (s *Shared) check(ctx context.Context) error {
	if s.follow.checked {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, redisdb.Timeout)
	defer cancel()
	if err := redisdb.Supported(ctx, s.client); err != nil {
		return err
	}
	s.mu.Lock()
	known := s.self.Host != ""
	s.mu.Unlock()
	if !known {
		host, err := redisdb.LocalHost(ctx, s.client)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.self.Host = host
		s.mu.Unlock()
	}
	s.follow.checked = true
	return nil
}

// renewal renews the lease, or with 0 gives it back.
func (s *Shared) renewal(ctx context.Context, lease time.Duration) *redis.Cmd {
	s.mu.Lock()
	self := s.self
	s.mu.Unlock()
	sealed, err := sealMaster(s.cfg.Ring, self)
	if err != nil {
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(err)
		return cmd
	}
	ctx, cancel := context.WithTimeout(ctx, redisdb.Timeout)
	defer cancel()
	args := []any{self.ID, lease.Milliseconds(), s.cfg.Grace.Milliseconds(), sealed, s.epoch}
	for _, id := range s.cfg.Linked() {
		args = append(args, id)
	}
	return renewScript.Run(ctx, s.client, s.keys(), args...)
}

// takeMasters notes who else is there.
func (s *Shared) takeMasters(ctx context.Context, sealed, leases map[string]string, now int64) {
	f := &s.follow
	records := make(map[string]Master, len(sealed))
	var peers []Master
	for _, id := range slices.Sorted(maps.Keys(sealed)) {
		if id == s.cfg.Self.ID {
			continue
		}
		m, known := f.records[sealed[id]]
		if !known {
			if s.hopeless(id, sealed[id]) {
				continue
			}
			var err error
			if m, err = openMaster(ctx, s.cfg.Ring, id, sealed[id]); err != nil {
				s.cannotRead("master", id, sealed[id], err)
				continue
			}
		}
		records[sealed[id]] = m
		until, err := strconv.ParseFloat(leases[id], 64)
		m.Lapsed = err != nil || int64(until) < now
		peers = append(peers, m)
	}
	f.records = records
	s.mu.Lock()
	same := slices.Equal(s.peers, peers)
	s.peers = peers
	s.mu.Unlock()
	if !same {
		s.cfg.Listener.Masters(slices.Clone(peers))
	}
}

// meet has the Listener know that master before it is told of its node: changes come at once,
// and who is there only with the next renewal.
func (s *Shared) meet(ctx context.Context, id string) {
	f := &s.follow
	s.mu.Lock()
	known := slices.ContainsFunc(s.peers, func(m Master) bool { return m.ID == id && !m.Lapsed })
	s.mu.Unlock()
	if known || f.asked >= maxTried {
		return
	}
	f.asked++
	answer, err := s.run(ctx, mastersScript)
	if err != nil || len(answer) != 3 {
		return // the renewal finds out what is wrong
	}
	now, _ := answer[2].(int64)
	s.takeMasters(ctx, pairs(answer[0]), pairs(answer[1]), now)
}

// sync reads everything, and has what is declared here written where it is not as it should.
func (s *Shared) sync(ctx context.Context, reader *changesReader) error {
	answer, err := s.run(ctx, snapshotScript)
	if err != nil {
		return err
	}
	if len(answer) != 5 {
		return errAnswer
	}
	f := &s.follow
	f.epoch, _ = answer[0].(string)
	f.rev, _ = answer[1].(int64)
	last, _ := answer[2].(string)
	nodes, owners := pairs(answer[3]), pairs(answer[4])
	f.moved, f.audited = time.Now(), time.Now()
	s.mu.Lock()
	clear(s.written) // what comes now is later than all that was written; the count may have gone back
	s.mu.Unlock()
	for name, text := range owners {
		if o, ok := parseOwner(text); ok {
			s.compare(ctx, name, o, nodes[name])
		} else {
			delete(owners, name) // the scripts take it for nobody's
		}
	}
	s.missing(owners)
	reader.from(ctx, last)
	if err := s.flush(ctx); err != nil {
		return err
	}
	select {
	case <-s.first:
	default:
		close(s.first)
	}
	return nil
}

// compare takes in what a snapshot says of one node.
func (s *Shared) compare(ctx context.Context, name string, o owner, sealed string) {
	s.mu.Lock()
	mine, isMine := s.own[name]
	known, isKnown := s.others[name]
	_, pending := s.dirty[name]
	switch {
	case isMine && o == ownerOf(mine):
		s.mu.Unlock()
		return
	case isMine: // the script decides who is right
		if !pending {
			s.dirty[name] = dirt{again: true}
		}
		s.mu.Unlock()
		return
	case o.Master == s.cfg.Self.ID: // it left while Redis could not be told
		if !pending && (!isKnown || time.Now().After(known.doubt)) {
			s.dirty[name] = dirt{gone: Node{Master: o.Master, ClientID: o.Client}}
		}
		s.mu.Unlock()
		return
	case isKnown && o == ownerOf(known.Node) && known.doubt.IsZero():
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.found(ctx, name, sealed, func() bool { return false }) // what is declared here came since
}

// found takes in another master's node. Where one is declared here it takes its place if
// yields, which is called with mu held, says so; and never if the record cannot be read.
func (s *Shared) found(ctx context.Context, name, sealed string, yields func() bool) {
	if s.hopeless(name, sealed) {
		return
	}
	n, err := openNode(ctx, s.cfg.Ring, name, sealed)
	if err != nil {
		s.cannotRead("node", name, sealed, err)
		return
	}
	delete(s.follow.unread, name)
	if n.Master == s.cfg.Self.ID {
		return // nobody declares for us
	}
	s.meet(ctx, n.Master)
	s.mu.Lock()
	if _, mine := s.own[name]; mine && !yields() {
		s.mu.Unlock()
		return
	}
	delete(s.own, name)
	delete(s.written, name)
	s.others[name] = other{Node: n}
	s.mu.Unlock()
	s.cfg.Listener.Found(n)
}

const (
	// maxUnread bounds what is remembered of records that cannot be read, and maxTried how
	// many are tried until the lease is renewed. What is left is tried later.
	maxUnread = 10_000
	maxTried  = 8
)

// hopeless tells whether a record is not to be read now, since it, or too many like it,
// turned out not to be readable.
func (s *Shared) hopeless(name, sealed string) bool {
	f := &s.follow
	if keys := s.cfg.Ring.Keys(); !slices.Equal(keys, f.unreadKeys) {
		f.unread, f.unreadKeys = make(map[string]string), keys
	}
	was, tried := f.unread[name]
	return tried && was == sealed || f.tried >= maxTried
}

func (s *Shared) cannotRead(what, name, sealed string, err error) {
	f := &s.follow
	f.tried++
	if len(f.unread) >= maxUnread {
		clear(f.unread)
	}
	_, said := f.unread[name]
	f.unread[name] = sealed
	if said {
		return
	}
	s.log.Warn("what another master wrote cannot be read", what, fmt.Sprintf("%.200s", name), "error", err,
		"hint", "does another mesh have the same --mesh in this Redis, or does this master lack a key (meshctl keys list)?")
}

// missing looks for nodes that were there and that Redis does not know any more, though
// nobody said that they left. Their masters may say so again: Redis may have lost it.
func (s *Shared) missing(owners map[string]string) {
	now := time.Now()
	var gone []Node
	s.mu.Lock()
	for name, o := range s.others {
		switch _, there := owners[name]; {
		case there:
		case o.doubt.IsZero():
			o.doubt = now.Add(s.cfg.Grace)
			s.others[name] = o
		case now.After(o.doubt):
			delete(s.others, name)
			gone = append(gone, o.Node)
		}
	}
	for name := range s.own {
		_, there := owners[name]
		if _, pending := s.dirty[name]; !there && !pending {
			s.dirty[name] = dirt{again: true}
		}
	}
	s.mu.Unlock()
	for _, n := range gone {
		s.cfg.Listener.Gone(n)
	}
}

// audit compares who answers for which node.
func (s *Shared) audit(ctx context.Context, reader *changesReader) error {
	answer, err := s.run(ctx, auditScript)
	if err != nil {
		return err
	}
	if len(answer) != 3 {
		return errAnswer
	}
	f := &s.follow
	epoch, _ := answer[0].(string)
	rev, _ := answer[1].(int64)
	owners := pairs(answer[2])
	if epoch == f.epoch && rev != f.rev {
		return nil // something is just on its way
	}
	f.audited = time.Now()
	if epoch == f.epoch && s.agrees(owners) {
		return nil
	}
	return s.sync(ctx, reader)
}

func (s *Shared) agrees(owners map[string]string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.dirty) > 0 {
		return true // what is about to be written is not to be found
	}
	if len(owners) != len(s.own)+len(s.others) {
		return false
	}
	for name, text := range owners {
		o, _ := parseOwner(text)
		if n, ok := s.own[name]; ok && o == ownerOf(n) {
			continue
		}
		if n, ok := s.others[name]; !ok || o != ownerOf(n.Node) || !n.doubt.IsZero() {
			return false
		}
	}
	return true
}

// heed takes in changes that others made.
func (s *Shared) heed(ctx context.Context, batch []redis.XMessage, reader *changesReader) {
	f := &s.follow
	for _, m := range batch {
		text, _ := m.Values["rev"].(string)
		rev, err := strconv.ParseInt(text, 10, 64)
		if err != nil || rev != f.rev+1 {
			if f.gaps++; f.gaps > 1 { // whoever can write to Redis could have everything read all the time
				f.moved = time.Time{}
				return
			}
			s.log.Warn("changes of other masters are missing; reading everything", "after", f.rev, "next", rev)
			s.note(s.sync(ctx, reader))
			return
		}
		f.rev, f.moved, f.stalled = rev, time.Now(), false
		s.change(ctx, rev, m.Values)
	}
}

func (s *Shared) change(ctx context.Context, rev int64, values map[string]any) {
	name, _ := values["name"].(string)
	text, _ := values["owner"].(string)
	sealed, _ := values["record"].(string)
	o, ok := parseOwner(text)
	switch values["op"] {
	case "put":
		if !ok || o.Master == s.cfg.Self.ID {
			return
		}
		s.found(ctx, name, sealed, func() bool {
			// What was said of a node before it came here, or is to be judged with what is
			// to be written, is not that it left.
			_, pending := s.dirty[name]
			return !pending && rev > s.written[name]
		})
	case "del":
		s.mu.Lock()
		n, known := s.others[name]
		known = known && (!ok || o.owns(n.Node))
		if known {
			delete(s.others, name)
		}
		_, mine := s.own[name]
		if mine { // it was taken for gone, by others, while this master was away
			s.dirty[name] = dirt{again: true}
			s.signal()
		}
		s.mu.Unlock()
		if known {
			s.cfg.Listener.Gone(n.Node)
		}
	}
}

// pairs reads what HGETALL or WITHSCORES answer within a script.
func pairs(v any) map[string]string {
	list, _ := v.([]any)
	m := make(map[string]string, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		k, _ := list[i].(string)
		m[k], _ = list[i+1].(string)
	}
	return m
}
