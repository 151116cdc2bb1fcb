package chaos

import (
	"net"
	"strconv"

	"github.com/meshctl/meshctl/internal/mesh/meshtest/fault"
)

// proxied is the loopback interface with a fault proxy in front of each node, and one on the way from each node
// to the master. It is coarser than network namespaces: what is cut between two nodes is everything that others
// have dialled to either of them, as a proxy cannot tell who they are.
type proxied struct {
	lab     *Lab
	ports   []int          // by place
	nodes   []*fault.Proxy // in front of the node of a place; nil for the master
	masters []*fault.Proxy // from the node of a place to the master
}

func proxies(lab *Lab) (weaver, error) {
	return weaver{"fault proxies", func(places int) (fabric, error) {
		p, err := newProxied(lab, places)
		if err != nil {
			return nil, err
		}
		return p, nil
	}}, nil
}

// proxiedHost is where proxies listen for what nodes bind at 127.0.0.1.
const proxiedHost = "127.0.0.2"

func newProxied(lab *Lab, places int) (*proxied, error) {
	f := &proxied{lab: lab, ports: make([]int, places), nodes: make([]*fault.Proxy, places), masters: make([]*fault.Proxy, places)}
	lab.Defer(f.close)
	listen := func(at string, to int) (*fault.Proxy, error) {
		return fault.Listen(fault.Config{Listen: at, To: net.JoinHostPort("127.0.0.1", strconv.Itoa(to))})
	}
	for place := range f.ports {
		for {
			port, err := lab.Port()
			if err != nil {
				return nil, err
			}
			p, err := listen(net.JoinHostPort(proxiedHost, strconv.Itoa(port)), port)
			if err != nil {
				continue // Another mesh has it, but has not bound it at 127.0.0.1 yet.
			}
			f.ports[place], f.nodes[place] = port, p
			break
		}
		p, err := listen("127.0.0.1:0", f.ports[0])
		if err != nil {
			f.close()
			return nil, err
		}
		f.masters[place] = p
	}
	return f, nil
}

func (f *proxied) address(place int) (string, int) { return "127.0.0.1", f.ports[place] }
func (f *proxied) advertised(int) string           { return proxiedHost }
func (f *proxied) master(place int) string         { return f.masters[place].Addr().String() }

func (f *proxied) start(name string, _ int, args ...string) (*Process, error) {
	return f.lab.Start(name, args...)
}

func (f *proxied) watched() (string, error) {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(f.ports[0]))
	return addr, f.lab.Await("the master to listen", joinLimit, func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func (f *proxied) cut(pairs [][2]int) error {
	dark := fault.Both(fault.Line{Blackhole: true})
	for _, p := range pairs {
		a, b := min(p[0], p[1]), max(p[0], p[1])
		cut := []*fault.Proxy{f.nodes[a], f.nodes[b]}
		if a == 0 {
			cut = []*fault.Proxy{f.masters[b]}
		}
		for _, x := range cut {
			if err := x.Set(dark); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *proxied) heal() error {
	for _, all := range [][]*fault.Proxy{f.nodes, f.masters} {
		for _, p := range all {
			if err := p.Set(fault.Faults{}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *proxied) close() {
	for _, all := range [][]*fault.Proxy{f.nodes, f.masters} {
		for _, p := range all {
			if p != nil {
				p.Close()
			}
		}
	}
}
