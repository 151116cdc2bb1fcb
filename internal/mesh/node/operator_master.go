package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// The master of an operator: how it is found, found again, and what it is asked.

// searchTimeout bounds the search of those who do not search again, until a master has
// taken them in.
const searchTimeout = 10 * time.Second

// reach tries all masters once, until enter succeeds with one.
func (o *Operator) reach(ctx context.Context, enter func(context.Context, contact) error) error {
	ctx, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	s := o.search(ctx)
	defer s.end()
	return s.round(ctx, true, func(to contact) error { return enter(ctx, to) })
}

// again looks for a master until enter succeeds with one, and gives false when ctx ended
// first: within 100 ms at first, every two seconds later. failed hears why a round did not.
func (o *Operator) again(ctx context.Context, atOnce bool, enter func(context.Context, contact) error, failed func(error)) bool {
	wait := newBackoff()
	wait.InitialInterval, wait.MaxInterval = 70*time.Millisecond, 2*time.Second
	s := o.search(ctx)
	defer s.end()
	for ; ctx.Err() == nil; atOnce = false {
		if !atOnce && !s.pause(ctx, wait.NextBackOff()) {
			break
		}
		err := s.round(ctx, false, func(to contact) error { return enter(ctx, to) })
		if err == nil {
			return true
		}
		failed(err)
	}
	return false
}

// comeBack finds a master after one was lost, unless the operator is closed. Where there are
// several, the next one is tried at once if the lost one had stayed for a while.
func (o *Operator) comeBack(stayed bool) {
	o.again(o.attached.searching, stayed && o.masters.others(), func(ctx context.Context, to contact) error {
		return o.enter(ctx, to, nil)
	}, o.attached.failed)
}

// attachment is the link of an operator to its master, which comes and goes.
type attachment struct {
	searching context.Context // of the search for another master
	stop      context.CancelFunc

	mu    sync.Mutex
	link  link.Link     // nil while there is none
	again chan struct{} // while there is none: closed when there is one, or is to be none
	why   error         // there is none
	ended bool
}

// init begins without a link. work bounds every search.
func (a *attachment) init(work context.Context) {
	a.searching, a.stop = context.WithCancel(work)
	a.again, a.why = make(chan struct{}), errors.New("none was looked for")
}

// to says that l leads to the master from now on. It reports false after end.
func (a *attachment) to(l link.Link) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return false
	}
	if a.link == nil {
		close(a.again)
	}
	a.link, a.why = l, nil
	return true
}

// lost says that l has ended.
func (a *attachment) lost(l link.Link, why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.link == l {
		a.link, a.why, a.again = nil, why, make(chan struct{})
	}
}

// failed says why no other master was found yet.
func (a *attachment) failed(why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.link == nil {
		a.why = why
	}
}

// current is the link, nil while there is none.
func (a *attachment) current() link.Link {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.link
}

// await gives the link, and waits while there is none.
func (a *attachment) await(ctx context.Context) (link.Link, *wire.Error) {
	for {
		a.mu.Lock()
		l, again, why, ended := a.link, a.again, a.why, a.ended
		a.mu.Unlock()
		switch {
		case ended:
			return nil, &wire.Error{Code: wire.CodeCanceled, Message: "the connection to the mesh was closed at this end"}
		case l != nil:
			return l, nil
		}
		select {
		case <-again:
		case <-ctx.Done():
			return nil, &wire.Error{Code: wire.CodeUnreachable, Temporary: true, Message: "no connection to a master: " + plainReason(why), Hint: "check that one runs and that --master names it"}
		}
	}
}

// end gives the last link, to be closed; there will be no other.
func (a *attachment) end() link.Link {
	a.stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.link == nil && !a.ended {
		close(a.again)
	}
	a.ended = true
	return a.link
}

// Nodes lists the nodes of the mesh by worker and variant. A JavaScript master keeps
// no list for others: then the error is denied.
func (o *Operator) Nodes(ctx context.Context) ([]wire.NodeInfo, error) {
	if o.javascript {
		return nil, &wire.Error{Code: wire.CodeDenied, Message: "a JavaScript master does not list its nodes", Hint: "`meshctl ls` needs a meshctl master"}
	}
	nodes, _, err := listNodes(ctx, o.askMaster)
	return nodes, err
}

// Masters lists the masters of the mesh, the one that this is connected to first.
func (o *Operator) Masters(ctx context.Context) ([]wire.MasterInfo, error) {
	if o.javascript {
		return nil, &wire.Error{Code: wire.CodeDenied, Message: "a JavaScript master knows of no other", Hint: "`meshctl ls --masters` needs a meshctl master"}
	}
	text, err := o.askMaster(ctx, wire.ControlMasters, nil)
	if err != nil {
		return nil, err
	}
	var page wire.MastersPage
	if err := json.Unmarshal(text, &page); err != nil {
		return nil, &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("read the list of masters: %v", err)}
	}
	if len(page.Masters) == 0 {
		return nil, &wire.Error{Code: wire.CodeBadRequest, Message: "the master lists not even itself"}
	}
	return page.Masters, nil
}

// askMaster sends a control request to the master, once there is one.
func (o *Operator) askMaster(ctx context.Context, command string, payload json.RawMessage) (json.RawMessage, error) {
	ctx, cancel := o.withTimeout(ctx, 0)
	defer cancel()
	l, failure := o.attached.await(ctx)
	if failure != nil {
		return nil, failure
	}
	return o.control(ctx, l, command, payload)
}
