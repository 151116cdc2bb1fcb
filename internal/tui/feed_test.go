package tui

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
)

// counting is a Model that counts.
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
		frames := 0
		paced := make(chan struct{})
		go func() {
			defer close(paced)
			f.pace(ctx, func(tea.Msg) { frames++ })
		}()
		if err := f.read(ctx, src); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if m.applied != 2000 || frames < 18 || frames > 21 {
			t.Errorf("%d updates were applied, %d frames asked for in two seconds", m.applied, frames)
		}
		frames = 0
		time.Sleep(10*time.Second + time.Millisecond)
		if frames < 9 || frames > 11 {
			t.Errorf("%d frames in ten idle seconds", frames)
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
