package link

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// watched is a peer in a bubble of its own time.
type watched struct {
	*Heartbeat
	asked int
	lost  time.Time
}

func watch(t *testing.T, silence time.Duration) *watched {
	w := &watched{}
	w.Heartbeat = NewHeartbeat(t.Context(), silence, Beats{
		Ask:  func() { w.asked++ },
		Lost: func() { w.lost = time.Now() },
	})
	return w
}

func TestSilenceIsNoticedInTime(t *testing.T) {
	// Whenever within a beat the peer was heard last.
	for offset := time.Duration(0); offset < 600*time.Millisecond; offset += 50 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			w := watch(t, HeartbeatLAN)
			time.Sleep(570*time.Millisecond + offset + time.Millisecond)
			w.Heard()
			last := time.Now()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if took := w.lost.Sub(last); w.lost.IsZero() || took > HeartbeatLAN || took < HeartbeatLAN*3/4 {
				t.Errorf("heard %s into a beat: lost after %s", offset, took)
			}
			if w.asked < 3 {
				t.Errorf("asked %d times", w.asked)
			}
		})
	}
}

func TestPeersThatSpeakStay(t *testing.T) {
	for _, gap := range []time.Duration{time.Millisecond, time.Second, 2200 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			w := watch(t, HeartbeatLAN)
			for range 50 {
				time.Sleep(gap)
				w.Heard()
			}
			synctest.Wait()
			if !w.lost.IsZero() {
				t.Errorf("a peer that spoke every %s was lost", gap)
			}
		})
	}
}

// TestBothEnds: two ends that have nothing to say keep one another, with one sign of life
// per beat and direction.
func TestBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a, b atomic.Pointer[Heartbeat]
		var signs, lost atomic.Int32
		end := func(from, to *atomic.Pointer[Heartbeat]) {
			sign := func() { signs.Add(1); to.Load().Heard() }
			from.Store(NewHeartbeat(t.Context(), HeartbeatLAN, Beats{Ask: sign, Say: sign, Lost: func() { lost.Add(1) }}))
		}
		end(&a, &b)
		time.Sleep(100 * time.Millisecond)
		end(&b, &a)
		time.Sleep(time.Minute)
		synctest.Wait()
		if lost.Load() != 0 {
			t.Error("one of two ends that live was lost")
		}
		if n := signs.Load(); n < 200 || n > 220 {
			t.Errorf("%d signs of life in a minute", n)
		}
	})
}

// TestBusy: whoever does not get to read what came blames nobody.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var busy, lost atomic.Bool
		busy.Store(true)
		NewHeartbeat(t.Context(), HeartbeatLAN, Beats{Ask: func() {}, Busy: busy.Load, Lost: func() { lost.Store(true) }})
		time.Sleep(time.Minute)
		synctest.Wait()
		if lost.Load() {
			t.Error("lost while its messages waited to be read")
		}
		busy.Store(false)
		time.Sleep(HeartbeatLAN)
		synctest.Wait()
		if !lost.Load() {
			t.Error("still there, silent")
		}
	})
}

func TestEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		NewHeartbeat(ctx, HeartbeatLAN, Beats{Ask: func() {}, Lost: func() { t.Error("lost after the end") }})
		time.Sleep(time.Second)
		cancel()
		time.Sleep(time.Minute)
	})
}

func TestAStoppedProcessAccusesNobody(t *testing.T) {
	start := time.Now()
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	p := pulse{every: 600 * time.Millisecond, last: start}
	for i, beat := range []struct {
		at    float64
		heard bool
		want  int
	}{
		{0.6, true, 0}, {1.2, false, 1}, {1.8, false, 2}, {2.4, false, 3},
		{9.0, false, 0}, // stopped meanwhile
		{9.6, false, 1}, {10.4, false, 2}, {11.0, true, 0}, {11.6, false, 1},
	} {
		if got := p.silentFor(at(beat.at), beat.heard); got != beat.want {
			t.Errorf("beat %d: silent for %d, want %d", i, got, beat.want)
		}
	}
}
