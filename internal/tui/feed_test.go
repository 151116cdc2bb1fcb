package tui

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
)

// counting is a folder that counts.
type counting struct{ applied, taken int }

func (c *counting) Apply(inspect.Update) { c.applied++ }
func (c *counting) Picture(now time.Time) *inspect.Picture {
	c.taken++
	return &inspect.Picture{At: now}
}

// TestFramesComeTenTimesASecondAtMost gives the feed 1,000 updates a second, then none.
func TestFramesComeTenTimesASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m := &counting{}
		f := newFeed(m)
		left := 2000
		src := sourceFunc(func(ctx context.Context) (inspect.Update, error) {
			if left--; left < 0 {
				return inspect.Update{}, io.EOF
			}
			time.Sleep(time.Millisecond)
			return inspect.Update{}, nil
		})
		var frames atomic.Int32
		paced := make(chan struct{})
		go func() {
			defer close(paced)
			f.pace(ctx, func(tea.Msg) { frames.Add(1) })
		}()
		if err := f.read(ctx, src); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := frames.Load(); m.applied != 2000 || n < 18 || n > 21 {
			t.Errorf("%d updates were applied, %d frames asked for in two seconds", m.applied, n)
		}
		frames.Store(0)
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if n := frames.Load(); n < 9 || n > 11 {
			t.Errorf("%d frames in ten idle seconds", n)
		}
		cancel()
		<-paced
	})
}

func TestTheFeedEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := newFeed(&counting{}).read(ctx, sourceFunc(func(ctx context.Context) (inspect.Update, error) { return inspect.Update{}, ctx.Err() }))
	if err != context.Canceled {
		t.Error(err)
	}
}
