package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func newWatched() *watched { return &watched{wake: make(chan struct{}, 1)} }

// all takes everything that waits.
func (q *watched) all() (updates []inspect.Update) {
	for {
		u, ok, _ := q.take()
		if !ok {
			return updates
		}
		updates = append(updates, u)
	}
}

func relayed(seq int) []byte {
	return fmt.Appendf(nil, `{"node":"shop/s1","report":{"instance":"i","seq":%d,"every":100}}`, seq)
}

// A reader who does not come loses the later reports, is told how many, and still
// learns how things stand.
func TestASlowReaderLosesReports(t *testing.T) {
	q := newWatched()
	q.status(inspect.Status{Connected: true})
	q.mesh(&inspect.Mesh{Schema: []byte(`{"first":1}`)})
	for i := range 2 * maxWaiting {
		q.report(relayed(i))
		if i%100 == 0 {
			q.mesh(&inspect.Mesh{Nodes: make([]wire.NodeInfo, 1+i/100)})
		}
		if i%200 == 0 {
			q.status(inspect.Status{Reason: fmt.Sprint(i)})
		}
	}
	if n := len(q.waiting); n > maxWaiting+maxStatuses+1 {
		t.Errorf("%d updates wait", n)
	}
	var reports, lost, meshes, statuses uint64
	var last inspect.Status
	for _, u := range q.all() {
		lost += u.Lost
		switch {
		case u.Report != nil:
			reports++
		case u.Mesh != nil:
			meshes++
			if len(u.Mesh.Schema) == 0 || len(u.Mesh.Nodes) != 82 {
				t.Errorf("the mesh has %d nodes and the schema %s", len(u.Mesh.Nodes), u.Mesh.Schema)
			}
		case u.Status != nil:
			statuses++
			last = *u.Status
		}
	}
	if reports+lost != 2*maxWaiting || reports < maxWaiting-maxStatuses-1 {
		t.Errorf("%d reports and %d lost", reports, lost)
	}
	if meshes != 1 || statuses > maxStatuses || last.Reason != "8000" {
		t.Errorf("%d meshes, %d statuses, the last %+v", meshes, statuses, last)
	}
	// It goes on as before.
	q.report(relayed(1))
	if rest := q.all(); len(rest) != 1 || rest[0].Report == nil || rest[0].At == 0 {
		t.Errorf("afterwards: %+v", rest)
	}
	if q.bytes != 0 || q.statuses != 0 {
		t.Errorf("%d bytes and %d statuses are left in an empty buffer", q.bytes, q.statuses)
	}
}

func TestWaitingReportsAreBoundedInBytes(t *testing.T) {
	q := newWatched()
	long := []byte(`{"node":"shop/s1","report":{"instance":"i","pad":"` + strings.Repeat("x", 60<<10) + `"}}`)
	const many = 300
	for range many {
		q.report(long)
	}
	if q.bytes > maxWaitingBytes {
		t.Errorf("%d bytes wait", q.bytes)
	}
	if q.lost == 0 || int(q.lost)+len(q.waiting) != many {
		t.Errorf("%d wait and %d are lost of %d", len(q.waiting), q.lost, many)
	}
}

// A reader that is always a little behind must not make the buffer grow.
func TestWaitingUpdatesReuseTheirPlace(t *testing.T) {
	q := newWatched()
	q.report(relayed(0))
	for i := range 10_000 {
		q.report(relayed(i + 1))
		u, ok, _ := q.take()
		if !ok || u.Report == nil || u.Report.Seq != uint64(i) {
			t.Fatalf("update %d is %+v", i, u)
		}
	}
	if cap(q.waiting) > 16 {
		t.Errorf("room for %d updates of which one waits", cap(q.waiting))
	}
}

func TestMalformedReportsCountAsLost(t *testing.T) {
	q := newWatched()
	for _, body := range []string{
		``, `[]`, `{"node":"shop/s1","report":[]}`, `{"node":"nobody","report":{"instance":"i"}}`, `{"report":{"instance":"i"}}`, `{"node":"shop/s1","report":{}}`,
	} {
		q.report([]byte(body))
	}
	q.report([]byte(`{"lost":7}`))
	var lost uint64
	for _, u := range q.all() {
		if u.Report != nil {
			t.Errorf("taken for a report: %+v", u.Report)
		}
		lost += u.Lost
	}
	if lost != 6+7 {
		t.Errorf("%d lost, want 13", lost)
	}
}

// A panic in a goroutine of the watcher ends what its reader gets, not the process.
func TestAPanicIsAnErrorOfNext(t *testing.T) {
	w := &Watcher{updates: watched{wake: make(chan struct{}, 1)}}
	go func() {
		defer w.catch()
		panic("it broke")
	}()
	_, err := w.Next(t.Context())
	var panicked *inspect.PanicError
	if !errors.As(err, &panicked) || panicked.Value != "it broke" || !strings.Contains(err.Error(), "TestAPanicIsAnErrorOfNext") {
		t.Fatal(err)
	}
	w.updates.report(relayed(1))
	if _, err := w.Next(t.Context()); !errors.As(err, &panicked) {
		t.Error("it goes on:", err)
	}
}
