package node

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Where masters may be: the list that is configured, and the addresses that its names
// stand for. Whoever needs a master tries them in an order of its own, so that many nodes
// spread over them; see search.

const (
	// maxMasters is how many entries the list may have, maxAddresses how many addresses are
	// tried of those that its names stand for, maxLookup how many of one name are looked at.
	maxMasters   = 16
	maxAddresses = 64
	maxLookup    = 1024
	// lookupTimeout is how long a name may take to become addresses.
	lookupTimeout = 2 * time.Second
)

// SplitMasters takes a comma-separated list of HOST[:PORT] apart; spaces around commas do
// not count. Each entry is one that SplitMaster takes.
func SplitMasters(s string) ([]string, error) {
	entries := strings.Split(s, ",")
	if len(entries) > maxMasters {
		return nil, &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("%d masters are named, more than %d", len(entries), maxMasters), Hint: "a host name may stand for many addresses"}
	}
	for i, e := range entries {
		entries[i] = strings.TrimSpace(e)
		if entries[i] == "" && len(entries) > 1 {
			return nil, &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("entry %d of the list of masters is empty", i+1), Hint: "write HOST[:PORT],HOST[:PORT]"}
		}
		if _, _, err := SplitMaster(entries[i]); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// SplitMaster takes HOST[:PORT] apart; port is 0 when there is none. An IPv6 address
// may stand bare or in brackets; with a port it needs them.
func SplitMaster(s string) (host string, port int, err error) {
	bad := &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("bad master address %.300q", s), Hint: "write HOST or HOST:PORT; with commas between where there are several"}
	if ip := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"); net.ParseIP(ip) != nil {
		return ip, 0, nil
	}
	if !strings.Contains(s, ":") {
		if s == "" || len(s) > wire.MaxHostLen {
			return "", 0, bad
		}
		return s, 0, nil
	}
	host, text, err := net.SplitHostPort(s)
	if err != nil || host == "" || len(host) > wire.MaxHostLen {
		return "", 0, bad
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 1 || port > 65535 {
		return "", 0, bad
	}
	return host, port, nil
}

// masters are those that are configured.
type masters struct {
	list   []masterName
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	seed   maphash.Seed // draws the order in which this process tries them
	cut    sync.Once    // says that there are too many addresses

	mu    sync.Mutex
	after uint64            // the rank of the one that was used last
	many  bool              // whether there was another one when it was found
	plain map[endpoint]bool // of those used, whether they last turned out not to serve native links
}

// masterName is an entry of the list.
type masterName struct {
	host string
	port int // 0: discovery tells
}

func (m masterName) String() string {
	if m.port == 0 {
		return m.host
	}
	return net.JoinHostPort(m.host, strconv.Itoa(m.port))
}

func newMasters(list string) (*masters, error) {
	entries, err := SplitMasters(list)
	if err != nil {
		return nil, err
	}
	m := &masters{lookup: net.DefaultResolver.LookupNetIP, seed: maphash.MakeSeed(), plain: make(map[endpoint]bool)}
	for _, e := range entries {
		host, port, _ := SplitMaster(e) // it was checked
		if name := (masterName{host, port}); !slices.Contains(m.list, name) {
			m.list = append(m.list, name)
		}
	}
	return m, nil
}

// candidate is one address of an entry.
type candidate struct {
	masterName
	ip netip.Addr
}

// resolve gives the addresses of an entry.
func (m *masters) resolve(ctx context.Context, name masterName) ([]candidate, error) {
	if ip, err := netip.ParseAddr(name.host); err == nil {
		return []candidate{{name, ip}}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := m.lookup(ctx, "ip", name.host)
	if err != nil {
		return nil, err
	}
	ips = ips[:min(len(ips), maxLookup)]
	found := make([]candidate, 0, len(ips))
	for _, ip := range ips {
		if c := (candidate{name, ip.Unmap()}); ip.IsValid() && !slices.Contains(found, c) {
			found = append(found, c)
		}
	}
	return found, nil
}

// rank is where a candidate stands in the order of this process.
func (m *masters) rank(c candidate) uint64 { return maphash.Comparable(m.seed, c) }

// order sorts candidates: those that follow the one used last come first, and that one
// comes last.
func (m *masters) order(cs []candidate) {
	m.mu.Lock()
	after := m.after
	m.mu.Unlock()
	// Ranks are a circle.
	slices.SortFunc(cs, func(a, b candidate) int {
		return cmp.Compare(m.rank(a)-after-1, m.rank(b)-after-1)
	})
}

// used notes who was used last.
func (m *masters) used(c candidate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.after = m.rank(c)
}

// noteMany notes whether there are several.
func (m *masters) noteMany(many bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.many = many
}

// others tells whether there may be another master than the one used last.
func (m *masters) others() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.many
}

// notePlain notes whether a master serves no native links, and tells what was known.
func (m *masters) notePlain(at endpoint, plain bool) (known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known = m.plain[at]
	if !plain {
		delete(m.plain, at)
		return known
	}
	if len(m.plain) >= maxAddresses {
		clear(m.plain) // ports and addresses that were; those that are turn out again
	}
	m.plain[at] = true
	return known
}

func (m *masters) knownPlain(at endpoint) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.plain[at]
}

// String names it as people are told of it before its port is known.
func (c candidate) String() string {
	if c.port != 0 {
		return c.on(c.port).String()
	}
	if c.host == c.ip.String() {
		return c.host
	}
	return c.host + " (" + c.ip.String() + ")"
}

// endpoint is where to connect to.
type endpoint struct {
	name string // HOST:PORT, what TLS and HTTP call the other end
	via  string // IP:PORT that it is reached at; "": as the name says
}

// on is a port of a candidate.
func (c candidate) on(port int) endpoint {
	text := strconv.Itoa(port)
	e := endpoint{name: net.JoinHostPort(c.host, text), via: net.JoinHostPort(c.ip.String(), text)}
	if e.via == e.name {
		e.via = ""
	}
	return e
}

// String names it as people are told of it.
func (e endpoint) String() string {
	if e.via == "" {
		return e.name
	}
	ip, _, _ := net.SplitHostPort(e.via)
	return e.name + " (" + ip + ")"
}

// connect opens a connection to the endpoint, for dialers that only know its name.
func (e endpoint) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	if e.via != "" {
		addr = e.via
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}
