package tui

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
)

const (
	frameEvery = 100 * time.Millisecond // at most so often
	idleEvery  = time.Second            // ages and the time since the master was lost go on
)

// folder folds updates into pictures; it is an inspect.Model.
type folder interface {
	Apply(inspect.Update)
	Picture(now time.Time) *inspect.Picture
}

// feed brings the source's updates into the model, and tells the program when it is time
// for another frame. The picture is taken by the program itself, under the lock: until it
// takes the next one nobody changes what it has, so nothing is copied, and a frozen
// dashboard just takes none.
type feed struct {
	mu    sync.Mutex
	model folder
	news  chan struct{} // holds one token when something was applied
}

func newFeed(m folder) *feed { return &feed{model: m, news: make(chan struct{}, 1)} }

// frameMsg says that it is time for a new picture.
type frameMsg struct{}

// endMsg says that the source has no more to say.
type endMsg struct{ err error }

// read applies updates until the source ends, and gives why it ended: nil for the end of
// a recording.
func (f *feed) read(ctx context.Context, src inspect.Source) error {
	for {
		u, err := src.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		f.mu.Lock()
		f.model.Apply(u)
		f.mu.Unlock()
		select {
		case f.news <- struct{}{}:
		default:
		}
	}
}

// pace sends a frameMsg when something has changed, ten times a second at most, and
// otherwise once a second. send blocks while the program is busy, so frames never pile up.
func (f *feed) pace(ctx context.Context, send func(tea.Msg)) {
	idle := time.NewTimer(idleEvery)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.news:
		case <-idle.C:
		}
		send(frameMsg{})
		idle.Reset(idleEvery)
		rest := time.NewTimer(frameEvery)
		select {
		case <-ctx.Done():
			rest.Stop()
			return
		case <-rest.C:
		}
	}
}

// picture takes a picture, valid until the next one is taken.
func (f *feed) picture(now time.Time) *inspect.Picture {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.model.Picture(now)
}
