package registry

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/meshctl/meshctl/internal/redisdb"
)

// flush writes what has to be written, as far as it gets before the lease is to be renewed.
func (s *Shared) flush(ctx context.Context) error {
	for began := time.Now(); ; {
		if time.Since(began) > s.cfg.Renew {
			s.signal()
			return nil
		}
		s.mu.Lock()
		names := make([]string, 0, flushBatch)
		todo := make(map[string]dirt)
		puts := make(map[string]Node)
		for name, d := range s.dirty {
			names = append(names, name)
			todo[name] = d
			if n, ok := s.own[name]; ok {
				puts[name] = n
			}
			delete(s.dirty, name)
			if len(names) == flushBatch {
				break
			}
		}
		s.mu.Unlock()
		if len(names) == 0 {
			return nil
		}
		if err := s.write(ctx, names, todo, puts); err != nil {
			s.note(err)
			return err
		}
	}
}

// write writes some names; what fails is to be written later.
func (s *Shared) write(ctx context.Context, names []string, todo map[string]dirt, puts map[string]Node) error {
	ctx, cancel := context.WithTimeout(ctx, redisdb.Timeout)
	defer cancel()
	pipe := s.client.Pipeline()
	results := make([]*redis.Cmd, len(names))
	var failed error
	for i, name := range names {
		n, put := puts[name]
		if !put {
			gone := todo[name].gone
			results[i] = removeScript.Eval(ctx, pipe, s.keys(), name, gone.Master, gone.ClientID)
			continue
		}
		sealed, err := sealNode(s.cfg.Ring, n)
		if err == nil {
			var text []byte
			if text, err = ownerText(n); err == nil {
				again := "0"
				if todo[name].again {
					again = "1"
				}
				results[i] = putScript.Eval(ctx, pipe, s.keys(), name, sealed, text, again)
			}
		}
		if err != nil {
			s.log.Error("a node cannot be told of to other masters", "node", name, "error", err)
		}
	}
	redisdb.Exec(ctx, pipe)
	for i, name := range names {
		if results[i] == nil {
			continue
		}
		if err := results[i].Err(); err != nil {
			failed = err
			s.mu.Lock()
			if _, again := s.dirty[name]; !again {
				s.dirty[name] = dirt{again: true, gone: todo[name].gone} // perhaps much later
			}
			s.mu.Unlock()
			continue
		}
		if answer, err := results[i].Slice(); err == nil && len(answer) == 2 { // of a put
			s.wrote(ctx, name, puts[name], answer)
		}
	}
	return failed
}

// wrote reads the answer to a put.
func (s *Shared) wrote(ctx context.Context, name string, n Node, answer []any) {
	if answer[0] == "lost" { // it came to another master later than to this one
		sealed, _ := answer[1].(string)
		s.found(ctx, name, sealed, func() bool {
			_, pending := s.dirty[name]
			return s.own[name].same(n) && !pending
		})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own[name].same(n) {
		s.written[name], _ = answer[1].(int64)
	}
}
