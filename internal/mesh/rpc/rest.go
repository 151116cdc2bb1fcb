package rpc

import (
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
)

const (
	// restTime is how long an end has to have no request under way on a link before it says
	// so; a request that was about to be sent over it is under way by then.
	restTime = 2 * time.Second
	restLook = 100 * time.Millisecond
)

// Rested waits until no request has been under way over l for a while, and reports false
// when the link ended first.
func Rested(p *Pending, l link.Link) bool {
	look := time.NewTicker(restLook)
	defer look.Stop()
	for since := time.Now(); time.Since(since) < restTime; {
		select {
		case <-look.C:
		case <-l.Done():
			return false
		}
		if p.On(l) > 0 {
			since = time.Now()
		}
	}
	return true
}
