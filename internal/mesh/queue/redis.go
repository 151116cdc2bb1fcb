package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
	"github.com/meshctl/meshctl/internal/redisdb"
)

const (
	// defaultLease is how long a node that has died keeps what it was working on.
	defaultLease = 15 * time.Second
	// redisBlock is how long an exchange that waits takes, on top of redisdb.Timeout.
	redisBlock = 500 * time.Millisecond
	// healthEvery is how often Redis is asked whether it is there.
	healthEvery = 500 * time.Millisecond
	// maxUnsent is how many items may wait to be sent to Redis.
	maxUnsent   = 4096
	maxPipeline = 256
)

// Sealer seals what Redis keeps. It is safe for concurrent use.
type Sealer interface {
	Seal(plaintext []byte) (string, error)
	Open(ctx context.Context, sealed string) ([]byte, error)
}

// RedisConfig configures a Redis.
type RedisConfig struct {
	URL    string // as redisdb.Open takes it
	Mesh   string // meshes with different names share nothing
	Name   string // of this node, to tell who works on what
	Sealer Sealer
	Lease  time.Duration // default 15 s; work that takes longer renews it
	Logger *slog.Logger
}

// Redis keeps items in Redis Streams (6.2 or later), sealed. It needs no Redis to be made:
// while there is none, Err says so, and nothing is accepted.
type Redis struct {
	cfg      RedisConfig
	client   redis.UniversalClient
	instance string
	log      *slog.Logger
	adds     chan *redisAdd
	ending   context.Context // ends with Close
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	there    chan struct{} // closed when Redis has answered for the first time
	answered sync.Once     // closes there
	hears    chan struct{} // closed when outcomes are heard for the first time
	untold   atomic.Int32  // outcomes that nobody heard and that are told again

	mu     sync.Mutex
	err    error
	told   bool // err has been logged
	queues map[string]*redisQueue
}

var _ Store = (*Redis)(nil)

type redisAdd struct {
	q      *redisQueue
	item   Item
	stored func(error)
}

// OpenRedis fails only for a bad URL. Errors do not quote it: it may have a password. It
// waits for what Redis says, until ctx ends or for 2 s, and goes on asking after that.
func OpenRedis(ctx context.Context, cfg RedisConfig) (*Redis, error) {
	client, err := redisdb.Open(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.Lease <= 0 {
		cfg.Lease = defaultLease
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	live, cancel := context.WithCancel(context.Background())
	s := &Redis{
		cfg: cfg, client: client, log: cfg.Logger, instance: cfg.Name + "/" + uuid.NewString(), ending: live, cancel: cancel,
		adds: make(chan *redisAdd, maxUnsent), there: make(chan struct{}), hears: make(chan struct{}), queues: make(map[string]*redisQueue),
		err: fmt.Errorf("%w: redis: not connected yet", ErrUnavailable),
	}
	s.check(ctx)
	s.wg.Go(func() { s.watch(live) })
	s.wg.Go(func() { s.send(live) })
	s.wg.Go(func() { s.outcomes(live) })
	return s, nil
}

// Err is why Redis cannot be used at present.
func (s *Redis) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Durable is true.
func (s *Redis) Durable() bool { return true }

// Close ends the connections. Items that were not sent yet are not accepted.
func (s *Redis) Close() error {
	s.cancel()
	if s.Err() != nil {
		_ = s.client.Close() // what is under way would only wait for an answer in vain
	}
	s.wg.Wait()
	err := s.client.Close()
	if errors.Is(err, redis.ErrClosed) {
		return nil
	}
	return err
}

// Queue makes a queue; Redis may or may not have it already.
func (s *Redis) Queue(name string, o Options) (Queue, error) {
	sharedDepth := o.MaxDepth == 0 // whoever works the queue says
	o.setDefaults()
	q := newRedisQueue(s, name, o)
	if sharedDepth {
		q.maxDepth = 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queues[name] != nil {
		return nil, fmt.Errorf("open queue %s: it is open", name)
	}
	s.queues[name] = q
	return q, nil
}

// watch asks again and again whether Redis is there.
func (s *Redis) watch(ctx context.Context) {
	t := time.NewTicker(healthEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			s.check(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (s *Redis) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, redisdb.Timeout)
	defer cancel()
	err := s.client.Ping(ctx).Err()
	if err == nil && s.Err() != nil {
		err = s.supported(ctx) // another server may have taken its place
	}
	s.note(err)
}

// supported looks at the server's version, and at how it stores.
func (s *Redis) supported(ctx context.Context) error {
	if err := redisdb.Supported(ctx, s.client); err != nil {
		return err
	}
	if c, err := s.client.ConfigGet(ctx, "append*").Result(); err == nil && (c["appendonly"] != "yes" || c["appendfsync"] != "always") {
		s.log.Warn("Redis may lose what it has accepted when it crashes; appendonly yes and appendfsync always prevent that", "appendonly", c["appendonly"], "appendfsync", c["appendfsync"])
	}
	return nil
}

// note remembers whether Redis can be used, and logs when that changes.
func (s *Redis) note(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	if err != nil {
		err = fmt.Errorf("%w: redis: %w", ErrUnavailable, err)
	}
	s.mu.Lock()
	was, told := s.err, s.told
	s.err, s.told = err, err != nil
	s.mu.Unlock()
	if err == nil {
		s.answered.Do(func() { close(s.there) })
	}
	switch {
	case err != nil && !told:
		s.log.Error("Redis is away: queued commands are not accepted until it is back", "err", err)
	case err == nil && was != nil:
		s.log.Info("queued commands are stored in Redis")
	}
}

// failed makes an error of one that an exchange with Redis ended with.
func (s *Redis) failed(err error) error {
	if err == nil || errors.Is(err, redis.Nil) {
		return err
	}
	if redisdb.Away(err) { // else it is about one command
		s.note(err)
	}
	return fmt.Errorf("%w: redis: %w", ErrUnavailable, err)
}

// maybeDone tells whether an exchange that failed may have changed something all the same.
func (s *Redis) maybeDone(err error) bool {
	if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" {
		_, cluster := s.client.(*redis.ClusterClient) // which may have sent it elsewhere before
		return cluster
	}
	return !errors.As(err, new(redis.Error))
}

// send sends items, as many as there are at a time.
func (s *Redis) send(ctx context.Context) {
	hears := s.hears // nil when it is not waited for any more
	for {
		var batch []*redisAdd
		select {
		case a := <-s.adds:
			batch = append(batch, a)
		case <-ctx.Done():
			s.refuse()
			return
		}
		for more := true; more && len(batch) < maxPipeline; {
			select {
			case a := <-s.adds:
				batch = append(batch, a)
			default:
				more = false
			}
		}
		if hears != nil && slices.ContainsFunc(batch, func(a *redisAdd) bool { return a.item.Reply }) {
			// An outcome that comes before it is heard is lost.
			select {
			case <-hears:
			case <-time.After(redisdb.Timeout): // this Redis lets nobody subscribe
			case <-ctx.Done():
			}
			hears = nil
		}
		s.sendBatch(ctx, batch)
	}
}

// refuse tells those whose items will not be sent any more.
func (s *Redis) refuse() {
	for {
		select {
		case a := <-s.adds:
			a.stored(fmt.Errorf("%w: the node ends", ErrClosed))
		default:
			return
		}
	}
}

func (s *Redis) sendBatch(ctx context.Context, batch []*redisAdd) {
	pipe := s.client.Pipeline()
	results := make([]*redis.Cmd, len(batch))
	for i, a := range batch {
		item := a.item
		record, err := s.seal(item)
		if err != nil {
			a.stored(err)
			continue
		}
		window := int64(0)
		if item.Key != "" {
			window = a.q.o.Window.Milliseconds()
		}
		results[i] = addScript.Eval(ctx, pipe, a.q.keys("jobs", "at", "later", "conf", idempotencyKey(item)),
			redisGroup, item.ID, record, a.q.maxDepth, DefaultMaxDepth, window)
	}
	ctx, cancel := context.WithTimeout(ctx, redisdb.Timeout) // sealing may have taken long, the first time
	defer cancel()
	redisdb.Exec(ctx, pipe)
	for i, a := range batch {
		if results[i] != nil {
			a.q.added(a, results[i])
		}
	}
}

func (s *Redis) seal(item Item) (string, error) {
	b, err := encodeRecord(item)
	if err != nil {
		return "", err
	}
	text, err := s.cfg.Sealer.Seal(b)
	if err != nil {
		return "", fmt.Errorf("seal queued command: %w", err)
	}
	return text, nil
}

func (s *Redis) open(ctx context.Context, sealed string) (Item, error) {
	b, err := s.cfg.Sealer.Open(ctx, sealed)
	if err != nil {
		return Item{}, fmt.Errorf("open queued command: %w", err)
	}
	return decodeRecord(b)
}

// result is the outcome of an item as it travels to the store that waits for it.
type result struct {
	Queue  string          `json:"queue"`
	ID     string          `json:"id"`
	Result json.RawMessage `json:"result,omitempty"`
	Code   wire.Code       `json:"code,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// codeExpired is the code of ErrExpired, which is no *wire.Error.
const codeExpired wire.Code = "@expired"

func (s *Redis) channel(instance string) string {
	return "meshctl:" + s.cfg.Mesh + ":outcomes:" + instance
}

// tell tells the outcome of an item to the store that it came from.
func (s *Redis) tell(ctx context.Context, q *redisQueue, item Item, value json.RawMessage, err error) {
	if !item.Reply {
		return
	}
	if item.Origin == s.instance {
		q.o.Settled(item.ID, value, err)
		return
	}
	r := result{Queue: q.name, ID: item.ID, Result: value}
	var e *wire.Error
	switch {
	case err == nil:
	case errors.Is(err, ErrExpired):
		r.Code = codeExpired
	case errors.As(err, &e):
		r.Code, r.Error = e.Code, e.Message
	default:
		r.Code, r.Error = wire.CodeHandlerError, clipError(err)
	}
	b, err := json.Marshal(r)
	if err != nil { // whoever waits is told all the same
		r.Result, r.Code, r.Error = nil, wire.CodeHandlerError, "the result is not valid JSON"
		b, _ = json.Marshal(r) // texts can be encoded
	}
	sealed, err := s.cfg.Sealer.Seal(b)
	if err != nil {
		s.untellable(item, err)
		return
	}
	if heard, _ := s.publish(context.WithoutCancel(ctx), item.Origin, sealed); heard || s.ending.Err() != nil {
		return
	}
	if s.untold.Add(1) > maxUntold {
		s.untold.Add(-1)
		s.untellable(item, errors.New("too many are told again already"))
		return
	}
	s.wg.Go(func() {
		defer s.untold.Add(-1)
		s.tellAgain(item, sealed)
	})
}

// maxUntold is how many outcomes are told again at the same time.
const maxUntold = 1024

// publish tells an outcome, and whether somebody heard it.
func (s *Redis) publish(ctx context.Context, origin, sealed string) (heard bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, redisdb.Timeout)
	defer cancel()
	n, err := s.client.Publish(ctx, s.channel(origin), sealed).Result()
	return n > 0, err
}

// tellAgain tells an outcome that nobody heard, for some seconds: when Redis was away whoever waits may come back
// to it later than we did. A Cluster does not count those who hear it at another server: it tells it once more, which
// does no harm.
func (s *Redis) tellAgain(item Item, sealed string) {
	longest := 5 * time.Second
	if _, cluster := s.client.(*redis.ClusterClient); cluster {
		longest = 200 * time.Millisecond
	}
	var err error
	for wait := 100 * time.Millisecond; wait < longest; wait *= 2 {
		if !pause.For(s.ending, wait) {
			break
		}
		var heard bool
		if heard, err = s.publish(s.ending, item.Origin, sealed); heard {
			return
		}
	}
	if err != nil {
		s.untellable(item, err)
	}
}

func (s *Redis) untellable(item Item, err error) {
	s.log.Warn("cannot tell the outcome of a queued command to whoever waits", "id", item.ID, "command", item.Command, "err", err)
}

// outcomes learns what others tell.
func (s *Redis) outcomes(ctx context.Context) {
	select { // nothing ends the wait for a Redis that is silent
	case <-s.there:
	case <-ctx.Done():
		return
	}
	sub := s.client.Subscribe(ctx, s.channel(s.instance))
	defer sub.Close()
	messages := sub.ChannelWithSubscriptions()
	for heard := false; ; {
		select {
		case m := <-messages:
			switch m := m.(type) {
			case *redis.Subscription:
				if !heard {
					heard = true
					close(s.hears)
				}
			case *redis.Message:
				s.outcome(ctx, m.Payload)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (s *Redis) outcome(ctx context.Context, sealed string) {
	b, err := s.cfg.Sealer.Open(ctx, sealed)
	var r result
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		s.log.Warn("dropped an outcome that cannot be read", "err", err)
		return
	}
	s.mu.Lock()
	q := s.queues[r.Queue]
	s.mu.Unlock()
	if q == nil {
		return
	}
	switch r.Code {
	case "":
		q.o.Settled(r.ID, r.Result, nil)
	case codeExpired:
		q.o.Settled(r.ID, nil, ErrExpired)
	default:
		q.o.Settled(r.ID, nil, &wire.Error{Code: r.Code, Message: r.Error})
	}
}
