package link

import (
	"context"
	"fmt"
	"math/rand/v2"
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

// TestLateBeatsPutOffTheLossOnlySoFar: a process on a busy machine gets to its beats late, again and
// again. It takes that for what it is, and yet notices a peer that is silent for good.
func TestLateBeatsPutOffTheLossOnlySoFar(t *testing.T) {
	const ms = time.Millisecond
	for name, late := range map[string]func(r *rand.Rand) time.Duration{
		"300 ms":           func(*rand.Rand) time.Duration { return 300 * ms },
		"569 ms":           func(*rand.Rand) time.Duration { return 569 * ms },
		"600 ms":           func(*rand.Rand) time.Duration { return 600 * ms },
		"800 ms":           func(*rand.Rand) time.Duration { return 800 * ms },
		"300 to 800 ms":    func(r *rand.Rand) time.Duration { return 300*ms + upTo(r, 500*ms) },
		"now and then":     func(r *rand.Rand) time.Duration { return time.Duration(r.IntN(4)/3) * 700 * ms },
		"every other beat": alternately(0, 700*ms),
		"every third beat": alternately(0, 0, 700*ms),
	} {
		for seed := range uint64(20) {
			t.Run(fmt.Sprint(name, " ", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dice := rand.New(rand.NewPCG(seed, 0)) // of the beats
					var lost time.Time
					ctx, cancel := context.WithCancel(t.Context())
					h := NewHeartbeat(ctx, HeartbeatLAN, Beats{
						Ask:  func() {},
						Busy: func() bool { time.Sleep(late(dice)); return false },
						Lost: func() { lost = time.Now() },
					})
					time.Sleep(upTo(rand.New(rand.NewPCG(seed, 1)), 2*time.Second))
					h.Heard()
					last := time.Now()
					time.Sleep(time.Minute)
					cancel()
					time.Sleep(time.Second) // a beat that is late at present
					synctest.Wait()
					if took := lost.Sub(last); lost.IsZero() || took > HeartbeatLAN*5/2 || took < HeartbeatLAN*3/4 {
						t.Errorf("lost after %s", took)
					}
				})
			})
		}
	}
}

func upTo(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }

func alternately(of ...time.Duration) func(*rand.Rand) time.Duration {
	n := 0
	return func(*rand.Rand) time.Duration { n++; return of[n%len(of)] }
}

// TestBusyEndsKeepOneAnother: beats are late, and so are the signs of life of a peer that is stopped for a
// second now and then.
func TestBusyEndsKeepOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dice, others := rand.New(rand.NewPCG(29, 0)), rand.New(rand.NewPCG(29, 1))
		ctx, cancel := context.WithCancel(t.Context())
		h := NewHeartbeat(ctx, HeartbeatLAN, Beats{
			Ask:  func() {},
			Busy: func() bool { time.Sleep(upTo(dice, 800*time.Millisecond)); return false },
			Lost: func() { t.Error("lost") },
		})
		for n := range 20_000 {
			time.Sleep(570*time.Millisecond + upTo(others, 1000*time.Millisecond))
			if n%4 == 0 {
				time.Sleep(time.Second)
			}
			h.Heard()
		}
		cancel()
		time.Sleep(time.Second) // a beat that is late at present
	})
}

// TestAStoppedProcessAccusesNobody: wherever within the peer's silence it was stopped, and for however
// long. What came meanwhile is read after the beat that is due then.
func TestAStoppedProcessAccusesNobody(t *testing.T) {
	const every = 570 * time.Millisecond
	for silent := range beats - 1 {
		for _, stopped := range []time.Duration{every + 1, time.Second, 10 * time.Second, time.Hour} {
			now := time.Now()
			p := pulse{every: every, last: now}
			beat := func(after time.Duration, heard bool) bool {
				now = now.Add(after)
				return p.lost(now, heard)
			}
			for range silent {
				if beat(every, false) {
					t.Fatalf("lost within %d beats", silent)
				}
			}
			if beat(every+stopped, false) {
				t.Errorf("lost on waking after %s, %d beats silent before", stopped, silent)
			}
			if beat(every, true) {
				t.Error("lost although something was read")
			}
			for range beats - 2 {
				if beat(every, false) {
					t.Errorf("lost too early, having been stopped for %s once", stopped)
				}
			}
			if !beat(every, false) {
				t.Error("not lost")
			}
		}
	}
}
