package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Master is a master that runs as a process of its own and always has the same address.
type Master struct {
	*Process
	Addr   string // host:port
	Schema string // YAML
	File   string // with the schema

	lab  *Lab
	args []string
}

// StartMaster starts a master with a schema and blocks until it listens.
func (l *Lab) StartMaster(schema string, args ...string) (*Master, error) {
	file, err := l.Write("schema.yaml", schema)
	if err != nil {
		return nil, err
	}
	port, err := l.Port()
	if err != nil {
		return nil, err
	}
	m := &Master{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Schema: schema, File: file, lab: l}
	m.args = append([]string{"serve-master", "--schema", file, "--host", "127.0.0.1", "--port", strconv.Itoa(port), "--discovery-port", "0"}, args...)
	return m, m.Restart()
}

// Restart starts the master again, which must have ended, and blocks until it listens.
func (m *Master) Restart() error {
	p, err := m.lab.Start("master", m.args...)
	if err != nil {
		return err
	}
	m.Process = p
	return m.lab.Listening(p, "tcp", m.Addr)
}

// Listening blocks until a process accepts connections. It fails when that has ended.
func (l *Lab) Listening(p *Process, network, addr string) error {
	err := l.Await(p.Name+" listening at "+addr, joinLimit, func() bool {
		c, err := net.DialTimeout(network, addr, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil || !p.Running()
	})
	if err == nil && !p.Running() {
		err = fmt.Errorf("%s ended at its start; see %s", p.Name, p.Log)
	}
	return err
}

// JoinProcess starts `meshctl join WORKER` as a process named after the variant. It does not wait for it.
func (l *Lab) JoinProcess(m *Master, worker, variant string, args ...string) (*Process, error) {
	return l.Start(variant, append([]string{
		"join", worker, "--variant", variant, "--schema", m.File, "--master", m.Addr, "--host", "127.0.0.1",
	}, args...)...)
}

// QueueState is what a node says of one of its queues.
type QueueState struct {
	Command, Variant       string
	Waiting, Running, Dead int
}

// Queues asks the nodes of a worker about their queues, or those variants alone, as `meshctl queue ls` does, but without a
// process for each of many times. It fails unless all of them answer.
func (l *Lab) Queues(ctx context.Context, m *Master, worker string, variants ...string) (all []QueueState, err error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	op, err := node.Connect(ctx, node.Config{Ring: l.Ring, Master: m.Addr})
	if err != nil {
		return nil, err
	}
	defer op.Close()
	nodes, err := op.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if n.Worker != worker || len(variants) > 0 && !slices.Contains(variants, n.Variant) {
			continue
		}
		reply, err := op.NodeQueues(ctx, n, wire.QueueRequest{Op: wire.QueueList})
		if err != nil {
			return nil, fmt.Errorf("ask %s/%s for its queues: %w", n.Worker, n.Variant, err)
		}
		var queues []QueueState
		if err := json.Unmarshal(reply.Queues, &queues); err != nil {
			return nil, fmt.Errorf("read the queues of %s/%s: %w", n.Worker, n.Variant, err)
		}
		for _, q := range queues {
			q.Variant = n.Variant
			all = append(all, q)
		}
		if reply.Shared {
			break // the others have the same ones
		}
	}
	return all, nil
}

// askLimit is how long who is asked over and over may take to answer.
const askLimit = 10 * time.Second

// DeadLetters names the jobs (jobPayload) that are dead letters of a node, which has to show payloads.
func (l *Lab) DeadLetters(ctx context.Context, m *Master, queue, variant string) ([]string, error) {
	out, err := l.Run(ctx, "queue", "dead", "ls", queue, "--only", variant, "--limit", "1000", "--master", m.Addr, "-o", "json")
	if err != nil {
		return nil, err
	}
	var listed struct {
		Requests []struct{ Payload json.RawMessage }
	}
	if err := json.Unmarshal(out, &listed); err != nil {
		return nil, fmt.Errorf("read what queue dead ls says: %w", err)
	}
	var jobs []string
	for _, r := range listed.Requests {
		var whole jobPayload
		var clipped string // a long one is a text of its beginning
		if json.Unmarshal(r.Payload, &clipped) == nil {
			_, text, _ := strings.Cut(clipped, `"job":"`)
			whole.Job, _, _ = strings.Cut(text, `"`)
		} else if err := json.Unmarshal(r.Payload, &whole); err != nil {
			return nil, fmt.Errorf("read what queue dead ls says: %w", err)
		}
		jobs = append(jobs, whole.Job)
	}
	return jobs, nil
}
