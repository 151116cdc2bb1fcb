package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/seal"
)

const meshSchema = `
echo:
  _allow: [caller]
  _connect: []
  _commands:
    _balanced:
      echo: {responds: true, method: {builtin: echo}}
    _broadcast:
      all: {responds: true, method: {builtin: echo}}
caller:
  _allow: []
  _connect: [echo]
  _commands: {}
`

// meshKeys are of the benchmark alone.
var meshKeys = seal.Keys{Public: "public key of the benchmark", Private: "private key of the benchmark"}

func linkMode(socketio bool) link.Mode {
	if socketio {
		return link.SocketIO
	}
	return link.Auto
}

// serveMesh runs a master and a node that echoes: by handlers, or where they are nil by the
// built-in.
func serveMesh(socketio bool, handlers map[string]handler.Handler) func(context.Context) (endpoint, func(), error) {
	return func(ctx context.Context) (endpoint, func(), error) {
		addr, err := startMaster(ctx, socketio)
		if err != nil {
			return endpoint{}, nil, err
		}
		n, err := startNode(ctx, node.Config{Worker: "echo", Variant: "echo-1", Master: addr, Handlers: handlers, Link: linkMode(socketio)})
		if err != nil {
			return endpoint{}, nil, err
		}
		return endpoint{Addr: addr}, n.Kill, nil
	}
}

func startMaster(ctx context.Context, socketio bool) (string, error) {
	s, err := schema.Parse("bench.yaml", []byte(meshSchema))
	if err != nil {
		return "", err
	}
	m, err := master.New(master.Config{Keys: meshKeys, Schema: s, Host: "127.0.0.1", Link: linkMode(socketio)})
	if err != nil {
		return "", err
	}
	failed := make(chan error, 1)
	go func() { failed <- m.Run(ctx) }()
	select {
	case <-m.Ready():
		return m.Addr().String(), nil
	case err := <-failed:
		return "", err
	}
}

func echoHandlers() map[string]handler.Handler {
	echo := handler.Func(func(_ context.Context, r *handler.Request) (json.RawMessage, error) { return r.Payload, nil })
	return map[string]handler.Handler{"echo": echo}
}

// startNode joins a node and waits until the master has accepted it.
func startNode(ctx context.Context, cfg node.Config) (*node.Node, error) {
	s, err := schema.Parse("bench.yaml", []byte(meshSchema))
	if err != nil {
		return nil, err
	}
	cfg.Keys, cfg.Schema, cfg.Host = meshKeys, s, "127.0.0.1"
	n, err := node.New(cfg)
	if err != nil {
		return nil, err
	}
	failed := make(chan error, 1)
	go func() { failed <- n.Run(ctx) }()
	select {
	case <-n.Connected():
		return n, nil
	case err := <-failed:
		return nil, err
	}
}

// linked waits until a node has so many links.
func linked(n *node.Node, count int) error {
	for deadline := time.Now().Add(30 * time.Second); len(n.Peers()) < count; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("the nodes did not find each other")
		}
	}
	return nil
}

func dialMesh(socketio bool) func(context.Context, endpoint) (client, error) {
	return func(ctx context.Context, e endpoint) (client, error) {
		n, err := startNode(ctx, node.Config{Worker: "caller", Variant: "caller-1", Master: e.Addr, Link: linkMode(socketio), Timeout: 30 * time.Second})
		if err != nil {
			return client{}, err
		}
		if err := linked(n, 1); err != nil {
			return client{}, err
		}
		call := func(ctx context.Context, payload []byte) ([]byte, error) {
			r, err := n.Call(ctx, "echo.echo", payload, node.CallOptions{})
			if err != nil {
				return nil, err
			}
			return r.Replies[0].Result, nil
		}
		return client{call, n.Kill}, nil
	}
}
