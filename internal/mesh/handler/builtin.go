package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/meshctl/meshctl/internal/pause"
)

// maxSleep bounds the built-in sleep, so that its milliseconds never overflow.
const maxSleep = 24 * time.Hour

func newBuiltin(name string, env Env) (Handler, error) {
	switch name {
	case "status":
		if env.Status == nil {
			return nil, errors.New("builtin status: the node gives no status")
		}
		return Quick(func(context.Context, *Request) (json.RawMessage, error) {
			return mustJSON(env.Status()), nil
		}), nil
	case "echo":
		return Quick(func(_ context.Context, r *Request) (json.RawMessage, error) {
			if len(r.Payload) == 0 {
				return json.RawMessage("null"), nil
			}
			return r.Payload, nil
		}), nil
	case "sleep":
		return Func(sleep), nil
	case "fail":
		return Quick(fail), nil
	}
	return nil, fmt.Errorf("unknown builtin %q: use status, echo, sleep or fail", name)
}

// sleep answers {"slept_ms": N} after N milliseconds, of {"ms": N}.
func sleep(ctx context.Context, r *Request) (json.RawMessage, error) {
	var in struct {
		MS *int64 `json:"ms"`
	}
	if err := json.Unmarshal(r.Payload, &in); err != nil || in.MS == nil {
		return nil, badRequest(`sleep takes {"ms": N} with a whole number of milliseconds`)
	}
	if *in.MS < 0 || *in.MS > maxSleep.Milliseconds() {
		return nil, badRequest("sleep takes 0 to %d ms, not %d", maxSleep.Milliseconds(), *in.MS)
	}
	if !pause.For(ctx, time.Duration(*in.MS)*time.Millisecond) {
		return nil, contextError(ctx)
	}
	return mustJSON(map[string]int64{"slept_ms": *in.MS}), nil
}

// fail fails with the message of {"message": …}, if there is one.
func fail(_ context.Context, r *Request) (json.RawMessage, error) {
	var in struct {
		Message string `json:"message"`
	}
	if err := json.Unmarshal(r.Payload, &in); err != nil || in.Message == "" {
		in.Message = "failed, as it was asked to"
	}
	return nil, failed("%s", in.Message)
}
