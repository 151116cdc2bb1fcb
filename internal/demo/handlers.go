package demo

import (
	"context"
	"encoding/json"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// service is how a command of the demo behaves.
type service struct {
	shortest, longest time.Duration
	answer            func(d *dice, variant string) any
	failures          []failure
}

// failure is one way in which a service fails, and how often.
type failure struct {
	share float64
	err   *wire.Error
}

// services are the demo's commands, by worker and command.
func services() map[string]map[string]service {
	nothing := func(*dice, string) any { return nil }
	fails := func(share float64, code wire.Code, message string) failure {
		return failure{share, &wire.Error{Code: code, Message: message}}
	}
	return map[string]map[string]service{
		"search": {
			"query": {
				3 * time.Millisecond, 45 * time.Millisecond,
				func(d *dice, _ string) any { return map[string]any{"hits": d.below(400)} },
				[]failure{fails(0.008, wire.CodeBadRequest, "the query has no words")},
			},
			"suggest": {
				15 * time.Millisecond, 450 * time.Millisecond,
				func(*dice, string) any { return []string{"lamp", "ladder", "lantern"} }, nil,
			},
			"reindex": {
				2 * time.Second, 7 * time.Second,
				func(d *dice, variant string) any {
					return map[string]any{"documents": 9000 + d.below(900), "by": variant}
				}, nil,
			},
		},
		"stock": {
			"level": {
				time.Millisecond, 9 * time.Millisecond,
				func(d *dice, _ string) any { return map[string]any{"left": d.below(50)} }, nil,
			},
			"reserve": {
				8 * time.Millisecond, 120 * time.Millisecond,
				func(d *dice, variant string) any { return map[string]any{"reserved": true, "shelf": 1 + d.below(40)} },
				[]failure{
					fails(0.03, wire.CodeHandlerError, "out of stock"),
					fails(0.02, wire.CodeOverloaded, "the warehouse takes no more orders now"),
				},
			},
		},
		"billing": {
			"quote": {
				2 * time.Millisecond, 25 * time.Millisecond,
				func(d *dice, variant string) any { return map[string]any{"cents": 100 + d.below(9900), "by": variant} }, nil,
			},
			"charge": {
				25 * time.Millisecond, 220 * time.Millisecond,
				func(_ *dice, variant string) any { return map[string]any{"paid": true, "by": variant} },
				[]failure{fails(0.05, wire.CodeHandlerError, "card declined")},
			},
			"statement": {
				time.Second, 8 * time.Second,
				func(d *dice, variant string) any { return map[string]any{"pages": 2 + d.below(30), "by": variant} }, nil,
			},
			"totals": {
				5 * time.Millisecond, 40 * time.Millisecond,
				func(d *dice, _ string) any { return map[string]any{"charged": d.below(1000)} }, nil,
			},
		},
		"mailer": {
			"send": {
				70 * time.Millisecond, 250 * time.Millisecond, nothing,
				[]failure{fails(0.02, wire.CodeHandlerError, "the mail server answers 451, try again later")},
			},
			"refresh": {time.Millisecond, 3 * time.Millisecond, nothing, nil},
		},
	}
}

// handlers answer a node's commands in this process.
func handlers(worker, variant string) map[string]handler.Handler {
	all := make(map[string]handler.Handler)
	for command, s := range services()[worker] {
		all[command] = s.handler(newDice(worker+"."+command+"@"+variant), variant)
	}
	return all
}

func (s service) handler(d *dice, variant string) handler.Handler {
	return handler.Func(func(ctx context.Context, _ *handler.Request) (json.RawMessage, error) {
		if !pause.For(ctx, d.between(s.shortest, s.longest)) {
			return nil, ctx.Err()
		}
		for _, f := range s.failures {
			if d.happens(f.share) {
				return nil, f.err
			}
		}
		return json.Marshal(s.answer(d, variant))
	})
}
