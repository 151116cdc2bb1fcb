//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/meshctl/meshctl/internal/mesh/meshtest/fault"
)

// fabrics chooses the best kind of network that there can be here.
func fabrics(lab *Lab) (weaver, error) {
	var made atomic.Int64
	w := weaver{"network namespaces", func(places int) (fabric, error) {
		n, err := newNetns(lab, places, made.Add(1))
		if err != nil {
			return nil, err
		}
		return n, nil
	}}
	if err := netnsWorks(w); err != nil {
		lab.Doing("no network namespaces: %v", err)
		return proxies(lab)
	}
	return w, nil
}

// netns is a router and, for each place, a host with a cable to it, all of them network namespaces. What the
// router is told to cut it drops without a word, in both directions, as a policy rule "blackhole" does: no
// reset and no ICMP message tells anybody. The machine's own network is not touched.
type netns struct {
	lab    *Lab
	prefix string
	places int
	rules  []string // that cut
	watch  *fault.Proxy
	closed atomic.Bool
}

// netnsPrefix is what the names of all namespaces begin with, followed by the process that made them.
const netnsPrefix = "meshctl-chaos-"

// netnsPort is the port of the master and of all nodes: each has an address of its own.
const netnsPort = 4000

// netnsWorks makes a small network for a try.
func netnsWorks(w weaver) error {
	if os.Geteuid() != 0 {
		return errors.New("only root may make them")
	}
	sweepNetns()
	n, err := w.weave(1)
	if err != nil {
		return err
	}
	defer n.close()
	return errors.Join(n.cut([][2]int{{0, 0}}), n.heal())
}

// newNetns makes the network of that number of this process.
func newNetns(lab *Lab, places int, number int64) (*netns, error) {
	n := &netns{lab: lab, places: places, prefix: fmt.Sprintf("%s%d-%d", netnsPrefix, os.Getpid(), number)}
	lab.Defer(n.close)
	if err := n.build(); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *netns) router() string         { return n.prefix + "-router" }
func (n *netns) space(place int) string { return fmt.Sprintf("%s-%d", n.prefix, place) }
func (n *netns) ip(place int) string    { return fmt.Sprintf("10.77.%d.2", place) }

func (n *netns) build() error {
	if err := ip(nil, "netns", "add", n.router()); err != nil {
		return err
	}
	var lines []string
	for place := range n.places {
		if err := ip(nil, "netns", "add", n.space(place)); err != nil {
			return err
		}
		lines = append(lines,
			fmt.Sprintf("link add v%d type veth peer name eth0 netns %s", place, n.space(place)),
			fmt.Sprintf("addr add 10.77.%d.1/24 dev v%d", place, place),
			fmt.Sprintf("link set v%d up", place))
	}
	if err := ip(lines, "-n", n.router(), "-batch", "-"); err != nil {
		return err
	}
	for place := range n.places {
		if err := ip([]string{
			"link set lo up", fmt.Sprintf("addr add %s/24 dev eth0", n.ip(place)), "link set eth0 up",
			fmt.Sprintf("route add default via 10.77.%d.1", place),
		}, "-n", n.space(place), "-batch", "-"); err != nil {
			return err
		}
	}
	return inNetns(n.router(), func() error {
		// This folder of /proc is that of the namespace of the thread that looks.
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	})
}

func (n *netns) address(place int) (string, int) { return n.ip(place), netnsPort }
func (n *netns) advertised(int) string           { return "" }
func (n *netns) master(int) string               { return net.JoinHostPort(n.ip(0), strconv.Itoa(netnsPort)) }

func (n *netns) start(name string, place int, args ...string) (*Process, error) {
	return n.lab.Exec(name, "ip", append([]string{"netns", "exec", n.space(place), n.lab.program}, args...)...)
}

// watched is a proxy on this side whose connections begin at the router.
func (n *netns) watched() (string, error) {
	p, err := fault.Listen(fault.Config{Listen: "127.0.0.1:0", To: n.master(0), Dial: func(ctx context.Context, address string) (c net.Conn, err error) {
		err = inNetns(n.router(), func() error {
			c, err = new(net.Dialer).DialContext(ctx, "tcp", address)
			return err
		})
		return c, err
	}})
	if err != nil {
		return "", err
	}
	n.watch = p
	return p.Addr().String(), n.lab.Await("the master to listen", joinLimit, func() bool {
		return inNetns(n.router(), func() error {
			c, err := net.Dial("tcp", n.master(0))
			if err == nil {
				err = c.Close()
			}
			return err
		}) == nil
	})
}

func (n *netns) cut(pairs [][2]int) error {
	var lines []string
	for _, p := range pairs {
		for _, way := range [][2]int{p, {p[1], p[0]}} {
			rule := fmt.Sprintf("from %s to %s blackhole", n.ip(way[0]), n.ip(way[1]))
			n.rules = append(n.rules, rule)
			lines = append(lines, "rule add "+rule)
		}
	}
	return ip(lines, "-n", n.router(), "-batch", "-")
}

func (n *netns) heal() error {
	lines := make([]string, len(n.rules))
	for i, rule := range n.rules {
		lines[i] = "rule del " + rule
	}
	n.rules = nil
	return ip(lines, "-n", n.router(), "-batch", "-")
}

// close removes the namespaces, and with them the cables and whatever rules there are. What still runs in them
// has ended before. It may be repeated.
func (n *netns) close() {
	if n.closed.Swap(true) {
		return
	}
	if n.watch != nil {
		n.watch.Close()
	}
	for place := range n.places {
		_ = ip(nil, "netns", "del", n.space(place)) // it may never have been
	}
	_ = ip(nil, "netns", "del", n.router())
}

// sweepNetns removes what processes left behind that were killed.
func sweepNetns() {
	left, _ := filepath.Glob("/run/netns/" + netnsPrefix + "*")
	for _, path := range left {
		name := filepath.Base(path)
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, netnsPrefix), "-")
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			_ = ip(nil, "netns", "del", name)
		}
	}
}

// ip runs iproute2, which reads lines from its stdin where it is told to.
func ip(lines []string, args ...string) error {
	cmd := exec.Command("ip", args...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	ownGroup(cmd) // Ctrl-C does not end it half-way
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// inNetns runs f on a thread in a network namespace, which ends with it.
func inNetns(name string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread cannot be used for anything else
		space, err := os.Open("/run/netns/" + name)
		if err != nil {
			done <- err
			return
		}
		defer space.Close()
		if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the network namespace %s: %w", name, err)
			return
		}
		done <- f()
	}()
	return <-done
}
