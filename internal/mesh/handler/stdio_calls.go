package handler

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const (
	// maxCalls is how many calls of its own a program may have at once.
	maxCalls = 64

	defaultCallTimeout = 3 * time.Second
	maxCallTimeout     = time.Hour
)

// callParams are the parameters of "call", a program's own request into the mesh.
type callParams struct {
	Target  string          `json:"target"` // worker.command
	Payload json.RawMessage `json:"payload"`
	Timeout *float64        `json:"timeout_ms"`
	For     *uint64         `json:"for"` // the number of the request that it is made for
}

// serve acts on a request or notification of the program: call, cancel and log.
func (s *session) serve(l *line) {
	switch l.Method {
	case "call":
		s.call(l)
	case "cancel":
		var in struct {
			ID json.RawMessage `json:"id"`
		}
		if json.Unmarshal(l.Params, &in) == nil {
			s.mu.Lock()
			if cancel := s.calls[string(in.ID)]; cancel != nil {
				cancel()
			}
			s.mu.Unlock()
		}
	case "log":
		s.logLine(l)
	default:
		s.refuse(l, &rpcError{Code: rpcMethodNotFound, Message: "unknown method: use call, cancel or log"})
	}
}

// refuse answers a request with an error; a notification gets no answer.
func (s *session) refuse(l *line, e *rpcError) {
	if l.isNotification() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queueLine(&line{ID: l.ID, Error: e}, nil)
}

func (s *session) call(l *line) {
	var in callParams
	if err := json.Unmarshal(l.Params, &in); err != nil || in.Target == "" {
		s.refuse(l, &rpcError{Code: rpcInvalidParams, Message: `call takes {"target": "worker.command", "payload": …, "timeout_ms"?: N, "for"?: ID}`})
		return
	}
	ctx, timeout := s.ctx, defaultCallTimeout
	if in.For != nil {
		if ctx = s.requestOf(*in.For); ctx == nil {
			s.refuse(l, fromWire(&wire.Error{Code: wire.CodeCanceled, Message: "nobody waits for that request any more"}))
			return
		}
		timeout = maxCallTimeout // it has no more than the request
	}
	if in.Timeout != nil {
		if !(*in.Timeout > 0) {
			s.refuse(l, &rpcError{Code: rpcInvalidParams, Message: "timeout_ms must be more than 0"})
			return
		}
		ms := math.Min(*in.Timeout, float64(maxCallTimeout.Milliseconds()))
		timeout = max(time.Millisecond, time.Duration(ms*float64(time.Millisecond)))
	}
	if len(in.Payload) == 0 {
		in.Payload = json.RawMessage("null")
	}
	if s.p.cfg.Env.Caller == nil {
		s.refuse(l, fromWire(failed("this node makes no calls")))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	release, problem := s.addCall(l, cancel)
	if problem != nil {
		cancel()
		s.refuse(l, problem)
		return
	}
	s.calling.Go(func() {
		defer cancel()
		defer context.AfterFunc(s.ctx, cancel)() // also where ctx is that of a request
		answer := &line{ID: l.ID}
		result, err := s.callJSON(ctx, in)
		switch {
		case err != nil:
			answer.Error = fromWire(err)
		case len(result) == 0:
			answer.Result = json.RawMessage("null")
		default:
			answer.Result = result
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if l.isNotification() || s.over {
			release()
			return
		}
		// The call counts until its answer is written: a program that does not read its
		// answers gets no more of them.
		s.queueLine(answer, release)
	})
}

// requestOf gives the context of a request that the program has and has not answered, or nil.
func (s *session) requestOf(id uint64) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pending[id]; p != nil && p.sent {
		return p.ctx
	}
	return nil
}

// addCall counts a call; release, to be called under mu, ends that.
func (s *session) addCall(l *line, cancel context.CancelFunc) (release func(), problem *rpcError) {
	id := string(l.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nCalls >= maxCalls {
		return nil, fromWire(overloaded(fmt.Sprintf("more than %d calls at once", maxCalls)))
	}
	if !l.isNotification() {
		if s.calls[id] != nil {
			return nil, &rpcError{Code: rpcInvalidRequest, Message: "a request with this id is running"}
		}
		s.calls[id] = cancel
	}
	s.nCalls++
	return func() {
		s.nCalls--
		if id != "" {
			delete(s.calls, id)
		}
	}, nil
}

// callJSON calls into the mesh. A panic there is this call's failure, not the node's.
func (s *session) callJSON(ctx context.Context, in callParams) (result json.RawMessage, err error) {
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("call of a program panicked", "target", in.Target, "panic", fmt.Sprint(v))
			err = failed("the call failed inside the node")
		}
	}()
	return s.p.cfg.Env.Caller.CallJSON(ctx, in.Target, in.Payload)
}

func (s *session) logLine(l *line) {
	var in struct {
		Level   string `json:"level"`
		Message string `json:"message"`
	}
	if json.Unmarshal(l.Params, &in) != nil || !s.logs.Allow() {
		return
	}
	level := slog.LevelInfo
	_ = level.UnmarshalText([]byte(in.Level)) // anything else stays at info
	s.log.Log(s.ctx, level, "program logged", "message", limitText(in.Message))
}
