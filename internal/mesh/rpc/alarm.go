package rpc

import "time"

// minAlarm is the least time between two rings of an alarm: a deadline may be noticed so
// much late when many pass one after another.
const minAlarm = 5 * time.Millisecond

// alarm watches the deadlines of many requests with one timer. Requests that end before
// their deadline, as nearly all do, cost a comparison. Its owner's lock guards it.
type alarm struct {
	timer *time.Timer
	at    time.Time // when it rings; zero: it does not
}

// watch sees to it that ring is called, on a goroutine of its own, at deadline or before.
func (a *alarm) watch(deadline time.Time, ring func()) {
	if deadline.IsZero() || !a.at.IsZero() && !deadline.Before(a.at) {
		return
	}
	a.at = deadline
	if a.timer == nil {
		a.timer = time.AfterFunc(time.Until(deadline), ring)
	} else {
		a.timer.Reset(time.Until(deadline))
	}
}

// rang is for ring to call when it has dealt with what was due: next is the earliest
// deadline that is left, zero for none.
func (a *alarm) rang(now, next time.Time) {
	if a.at = next; next.IsZero() {
		return
	}
	if soonest := now.Add(minAlarm); next.Before(soonest) {
		a.at = soonest
	}
	a.timer.Reset(a.at.Sub(now))
}
