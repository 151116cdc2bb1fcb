package node

import (
	"fmt"
	"maps"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/route"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// targets are what targets of calls stand for, by name, under one schema.
type targets struct {
	schema *schema.Schema
	byName map[string]*resolved
}

// resolved is what a target stands for.
type resolved struct {
	worker string
	cmd    *schema.Command
	ring   *route.Ring[*peer] // of a node, for balanced commands
	meter  *inspect.CommandMeter
	budget *route.Budget // of a command that may be repeated
}

// resolve finds what a call's target stands for, and checks that it may be called.
func (c *core) resolve(name string) (*resolved, error) {
	known := c.targets.Load()
	now := c.access.Load()
	if known != nil && known.schema == now {
		if to := known.byName[name]; to != nil {
			return to, nil
		}
	}
	worker, command, err := wire.ParseTarget(name)
	if err != nil {
		return nil, err
	}
	cmd, err := c.permitted(worker, command)
	if err != nil {
		return nil, err
	}
	to := &resolved{worker: worker, cmd: cmd, meter: c.telemetry.meter(name)}
	if cmd.Retry != nil {
		budget, _ := c.budgets.LoadOrStore(name, route.NewBudget())
		to.budget = budget.(*route.Budget)
	}
	if c.own == nil {
		return to, nil // who an operator appears as may change
	}
	if cmd.Delivery != schema.Broadcast {
		to.ring = c.peers.ring(worker)
	}
	// Only what the schema has is kept, and another schema begins anew. Of two who come at
	// once one has to come again.
	next := &targets{schema: now, byName: map[string]*resolved{name: to}}
	if known != nil && known.schema == now {
		maps.Copy(next.byName, known.byName)
	}
	if c.access.Load() == now {
		c.targets.CompareAndSwap(known, next)
	}
	return to, nil
}

// permitted finds the command and checks that this node may call it.
func (c *core) permitted(worker, command string) (*schema.Command, error) {
	s := c.access.Load()
	if s == nil {
		return nil, &wire.Error{Code: wire.CodeUnreachable, Message: "no schema known yet: not connected to a master", Temporary: true}
	}
	cmd, ok := s.Lookup(worker, command)
	if !ok {
		message := fmt.Sprintf("%s has no command %s", worker, command)
		if s.Workers[worker] == nil {
			message = fmt.Sprintf("the schema has no worker %s", worker)
		}
		return nil, &wire.Error{Code: wire.CodeUnknownCommand, Message: message, Hint: "`meshctl schema show` lists the workers and their commands"}
	}
	if c.cfg.Worker != "" && !s.MayCall(c.cfg.Worker, worker) {
		return nil, &wire.Error{
			Code: wire.CodeDenied, Message: fmt.Sprintf("the schema does not let %s call %s", c.cfg.Worker, worker),
			Hint: fmt.Sprintf("see `meshctl explain %s %s.%s`", c.cfg.Worker, worker, command),
		}
	}
	if c.cfg.Worker != "" && !cmd.AllowsCaller(c.cfg.Worker) {
		return nil, &wire.Error{
			Code: wire.CodeDenied, Message: fmt.Sprintf("%s is not among the callers of %s.%s", c.cfg.Worker, worker, command),
			Hint: fmt.Sprintf("see `meshctl explain %s %s.%s`", c.cfg.Worker, worker, command),
		}
	}
	return cmd, nil
}
