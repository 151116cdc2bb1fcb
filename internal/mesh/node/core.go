package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/identity"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// core is what a node and an operator have in common: who they are, how they seal,
// which schema is in force and whom they are linked to.
type core struct {
	cfg    Config
	log    *slog.Logger
	ring   *seal.Ring
	self   wire.Peer // Meshctl is always set
	access atomic.Pointer[schema.Schema]
	// targets are those that calls have been resolved to under the schema in force.
	targets atomic.Pointer[targets]
	budgets sync.Map // of commands that may be repeated, by target: *route.Budget
	peers   peers
	gate    *identity.Gate
	server  *rpc.Server
	masters *masters   // where they may be
	master  masterLink // to the one in use
	// retiring are the goroutines that let go of links under former keys, and of connections
	// to masters that another one was preferred to.
	retiring sync.WaitGroup

	// work is what requests under way live on; it ends when they have to.
	work context.Context
	stop context.CancelFunc // ends work
	// leaving is set once the node takes no new requests.
	leaving atomic.Bool

	// What answers commands; nil for operators, who answer none.
	own      *schema.Worker
	handlers *handler.Set
	rooms    map[string]*room // by command, of those with a bound
	queues   *queues

	outbox *outbox // nil without Redis
	// telemetry counts; nil for operators.
	telemetry *telemetry
}

// masterLink is the link to the master, when there is one.
type masterLink struct {
	link    atomic.Pointer[link.Link]
	at      atomic.Pointer[endpoint] // where it leads, or led
	pending rpc.Pending
}

func newCore(cfg Config) (*core, error) {
	if cfg.Ring == nil {
		var err error
		if cfg.Ring, err = seal.NewRing([]seal.Keys{cfg.Keys}, nil); err != nil {
			return nil, fmt.Errorf("check keys: %w", err)
		}
	}
	cfg.Master = cmp.Or(cfg.Master, "127.0.0.1")
	masters, err := newMasters(cfg.Master)
	if err != nil {
		return nil, err
	}
	if cfg.Variant == "" {
		cfg.Variant = drawVariant()
	}
	if err := wire.ValidVariant(cfg.Variant); err != nil {
		return nil, fmt.Errorf("check variant: %w", err)
	}
	cfg.DiscoveryPort = cmp.Or(cfg.DiscoveryPort, DefaultDiscoveryPort)
	cfg.MaxPayload = cmp.Or(cfg.MaxPayload, wire.DefaultMaxPayload)
	cfg.MaxInFlight = cmp.Or(cfg.MaxInFlight, 4096)
	cfg.DrainTimeout = cmp.Or(cfg.DrainTimeout, 10*time.Second)
	cfg.Timeout = cmp.Or(cfg.Timeout, 3*time.Second)
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, link.HeartbeatLAN)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &core{
		cfg: cfg, log: cfg.Logger, ring: cfg.Ring, masters: masters, gate: identity.NewGate(cfg.Issuer),
		self: wire.Peer{Worker: cfg.Worker, Variant: cfg.Variant, Meshctl: &wire.Extra{
			Protocol: wire.ProtocolVersion, Version: cfg.Version, Instance: uuid.NewString(), Started: time.Now().UnixMilli(),
		}},
	}
	c.self.Meshctl.Native = cfg.Link != link.SocketIO
	c.work, c.stop = context.WithCancel(context.Background())
	c.server = rpc.NewServer(c.work, cfg.MaxInFlight, cfg.Logger)
	c.peers.init(c)
	if cfg.Schema != nil {
		c.access.Store(cfg.Schema)
	}
	return c, nil
}

const (
	maxPause = 5 * time.Second
	// maxUplinkPause is what lies at most between two tries to reach a master, ±30%.
	maxUplinkPause = 700 * time.Millisecond
)

// newBackoff waits 100 ms before the second try, and up to 5 s, with jitter.
func newBackoff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier, b.RandomizationFactor = 100*time.Millisecond, maxPause, 2, 0.3
	return b
}

// maxListed is how many nodes are read of a master's list: more than masters can have.
const maxListed = 1 << 20

// asker sends a control request to the master.
type asker func(ctx context.Context, command string, payload json.RawMessage) (json.RawMessage, error)

// listNodes asks the master for its list of nodes, page by page. The list may be short
// while the master is settling.
func listNodes(ctx context.Context, ask asker) (nodes []wire.NodeInfo, settling bool, err error) {
	nodes = []wire.NodeInfo{}
	for {
		payload, err := wire.Encode(wire.NodesRequest{Offset: len(nodes)})
		if err != nil {
			return nil, false, err
		}
		text, err := ask(ctx, wire.ControlNodes, payload)
		if err != nil {
			return nil, false, err
		}
		var page wire.NodesPage
		if err := json.Unmarshal(text, &page); err != nil {
			return nil, false, &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("read the master's list of nodes: %v", err)}
		}
		if page.Total > maxListed {
			return nil, false, &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("the master lists %d nodes, more than %d", page.Total, maxListed)}
		}
		nodes = append(nodes, page.Nodes...)
		if len(page.Nodes) == 0 || len(nodes) >= page.Total {
			return nodes, page.Settling, nil
		}
	}
}

// control sends a control request over a link to the master.
func (c *core) control(ctx context.Context, l link.Link, command string, payload json.RawMessage) (json.RawMessage, error) {
	ctx, cancel := c.withTimeout(ctx, 0)
	defer cancel()
	return c.master.pending.Do(ctx, l, rpc.Request{UID: drawUID(), Name: command, Payload: payload})
}

// withTimeout bounds ctx: by d if it is set, else by the default unless ctx has a deadline.
func (c *core) withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d > 0 {
		return context.WithTimeout(ctx, d)
	}
	if _, has := ctx.Deadline(); has {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.cfg.Timeout)
}

// takeSchema puts the schema of a meshctl master into force.
func (c *core) takeSchema(text []byte) bool {
	if len(text) == 0 {
		return false
	}
	s, err := schema.FromWire(text)
	if err != nil {
		c.log.Error("cannot read the master's schema; the former one stays", "error", err)
		return false
	}
	c.access.Store(s)
	return true
}

var errLeaving = errors.New("this node is leaving")
