package history_test

import (
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/chaos/history"
)

// story is a history in the order in which it is told, a second between events.
type story []history.Event

func (s story) tell(events ...history.Event) story {
	for _, e := range events {
		e.At = int64(time.Duration(len(s)+1) * time.Second)
		s = append(s, e)
	}
	return s
}

func accepted(job string) history.Event { return history.Event{Kind: history.Accepted, Job: job} }

func started(job, by string, attempt int) history.Event {
	return history.Event{Kind: history.Started, Job: job, By: by, Attempt: attempt, Redelivered: attempt > 1}
}

func ended(job, by string, attempt int) history.Event {
	return history.Event{Kind: history.Ended, Job: job, By: by, Attempt: attempt}
}

func killed(by string) history.Event { return history.Event{Kind: history.Killed, By: by} }

func TestCheckJobs(t *testing.T) {
	unflagged := started("a/0", "w1", 2)
	unflagged.Redelivered = false
	file := history.Rules{Ordered: func(lane string) bool { return lane == "a" }}
	redis := history.Rules{Lease: 2 * time.Second, Stores: []string{"redis"}}
	program := history.Rules{Programs: []string{"program"}}
	for _, tt := range []struct {
		name  string
		rules history.Rules
		story story
		lost  string
		want  string // of the violations
	}{
		{"all is well", file, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), ended("a/0", "w1", 1)), "", ""},
		{"nobody was given it", file, story{}.tell(accepted("a/0")), "a/0", ""},
		{"begun and never ended", file, story{}.tell(accepted("a/0"), started("a/0", "w1", 1)), "a/0", ""},
		{"one of many", file, story{}.tell(accepted("a/1"), accepted("a/0"), started("a/0", "w1", 1), ended("a/0", "w1", 1), accepted("b/7")), "a/1 b/7", ""},
		{"the end of another job", file, story{}.tell(accepted("b/0"), accepted("b/1"), started("b/0", "w1", 1), started("b/1", "w1", 1), ended("b/1", "w1", 1)), "b/0", ""},
		{"the end of another try", file, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), ended("a/0", "w1", 2), ended("a/0", "w2", 1)), "a/0", ""},
		{"never accepted, and lost", file, story{}.tell(history.Event{Kind: history.Sent, Job: "a/0"}), "", ""},
		{"never accepted, and done", file, story{}.tell(history.Event{Kind: history.Sent, Job: "a/0"}, started("a/0", "w1", 1), ended("a/0", "w1", 1)), "", ""},
		{"done before the caller knew that it was accepted", file, story{}.tell(history.Event{Kind: history.Sent, Job: "a/0"}, started("a/0", "w1", 1), ended("a/0", "w1", 1), accepted("a/0")), "", ""},
		{"never sent", file, story{}.tell(started("a/0", "w1", 1), ended("a/0", "w1", 1)), "", "nobody has sent it"},

		{"again after a kill", file, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), killed("w1"), started("a/0", "w1", 2), ended("a/0", "w1", 2)), "", ""},
		{"again without a flag", file, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), killed("w1"), unflagged, ended("a/0", "w1", 2)), "", "not flagged"},
		{"again as if it were the first time", file, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), killed("w1"), started("a/0", "w1", 1), ended("a/0", "w1", 1)), "", "not flagged"},
		{"again without a kill", file, story{}.tell(accepted("a/0"), killed("w1"), started("a/0", "w1", 1), started("a/0", "w1", 2), ended("a/0", "w1", 2)), "", "nobody was killed"},
		{"again when another was killed", file, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), killed("w2"), started("a/0", "w1", 2), ended("a/0", "w1", 2)), "", "nobody was killed"},
		{"elsewhere, from a file", file, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), killed("w1"), started("a/0", "w2", 2), ended("a/0", "w2", 2)), "", "left its node"},

		{"again when it had just been done", file, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), ended("a/0", "w1", 1), killed("w1"), started("a/0", "w1", 2), ended("a/0", "w1", 2)), "", ""},
		{"again though it was done long before the kill", file, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), ended("a/0", "w1", 1), accepted("b/0"), started("b/0", "w1", 1), ended("b/0", "w1", 1), killed("w1"), started("a/0", "w1", 2), ended("a/0", "w1", 2)), "", "it was done, and nobody was killed within 3s"},
		{"again though it was done long before the caller was killed", file, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), ended("a/0", "w1", 1), killed("c1"), started("a/0", "w1", 2), ended("a/0", "w1", 2)), "", "nobody was killed in between"},
		{"again as redis was away when it was done", redis, story{}.tell(killed("redis"), accepted("a/0"), started("a/0", "w1", 1), ended("a/0", "w1", 1), accepted("b/0"), started("b/0", "w2", 1), ended("b/0", "w2", 1), killed("c1"), killed("w1"), started("a/0", "w2", 2), ended("a/0", "w2", 2)), "", ""},
		{"again though it was done in redis long before the kill", redis, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), ended("a/0", "w1", 1), accepted("b/0"), started("b/0", "w2", 1), ended("b/0", "w2", 1), killed("c1"), killed("w1"), started("a/0", "w2", 2), ended("a/0", "w2", 2)), "", "it was done, and nobody was killed within 3s"},

		{"elsewhere, after the lease", redis, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), killed("w1"), killed("caller"), started("a/0", "w2", 2), ended("a/0", "w2", 2)), "", ""},
		{"elsewhere, while redis was away", redis, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), killed("redis"), started("a/0", "w2", 2), ended("a/0", "w2", 2)), "", ""},
		{"before the lease ran out", history.Rules{Lease: time.Minute}, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), killed("w1"), started("a/0", "w2", 2), ended("a/0", "w2", 2)), "", "lease of 1m0s had not run out"},

		{"again after its program was killed", program, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), killed("program"), unflagged, ended("a/0", "w1", 2)), "", ""},
		{"the same try again after its program was killed", program, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), killed("program"), started("a/0", "w1", 1), ended("a/0", "w1", 1)), "", "not flagged"},
		{"again, not flagged, before its program was killed", program, story{}.tell(accepted("a/0"), started("a/0", "w1", 1), killed("w1"), unflagged, ended("a/0", "w1", 2), killed("program")), "", "not flagged"},

		{"out of order", file, story{}.tell(accepted("a/9"), accepted("a/10"), started("a/10", "w1", 1), ended("a/10", "w1", 1), started("a/9", "w1", 1), ended("a/9", "w1", 1)), "", "a/10 began before a/9"},
		{"in order, by number", file, story{}.tell(accepted("a/9"), accepted("a/10"), started("a/9", "w1", 1), ended("a/9", "w1", 1), started("a/10", "w1", 1), ended("a/10", "w1", 1)), "", ""},
		{"two at once", file, story{}.tell(accepted("a/0"), accepted("a/1"), started("a/0", "w1", 1), started("a/1", "w1", 1), ended("a/0", "w1", 1), ended("a/1", "w1", 1)), "", "a/1 began before a/0 had ended"},
		{"two at once, as the first one's node was killed", file, story{}.tell(accepted("a/0"), accepted("a/1"), started("a/0", "w1", 1), killed("w1"), started("a/1", "w1", 1), ended("a/0", "w1", 1), ended("a/1", "w1", 1)), "", ""},
		{"two at once, as another was killed", file, story{}.tell(accepted("a/0"), accepted("a/1"), started("a/0", "w1", 1), killed("c1"), started("a/1", "w1", 1), ended("a/0", "w1", 1), ended("a/1", "w1", 1)), "", "a/1 began before a/0 had ended"},
		{"two at once where that may be", file, story{}.tell(accepted("b/0"), accepted("b/1"), started("b/0", "w1", 1), started("b/1", "w1", 1), ended("b/0", "w1", 1), ended("b/1", "w1", 1)), "", ""},
		{"out of order where that may be", file, story{}.tell(accepted("b/0"), accepted("b/1"), started("b/1", "w1", 1), ended("b/1", "w1", 1), started("b/0", "w1", 1), ended("b/0", "w1", 1)), "", ""},
		{"late after a try that did not reach the handler", file, story{}.tell(accepted("a/0"), accepted("a/1"), started("a/1", "w1", 1), ended("a/1", "w1", 1), started("a/0", "w1", 2), ended("a/0", "w1", 2)), "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := history.CheckJobs(tt.story, tt.rules)
			if strings.Join(got.Lost, " ") != tt.lost {
				t.Errorf("lost: %v, want %q", got.Lost, tt.lost)
			}
			switch violations := strings.Join(got.Violations, "\n"); {
			case tt.want == "" && violations != "":
				t.Errorf("violations: %s", violations)
			case !strings.Contains(violations, tt.want):
				t.Errorf("violations: %q, want %q", violations, tt.want)
			}
			if got.Done+len(got.Lost) != got.Accepted {
				t.Errorf("the numbers do not add up: %+v", got)
			}
		})
	}
}

func TestCheckJobsCounts(t *testing.T) {
	got := history.CheckJobs(story{}.tell(
		accepted("a/0"), started("a/0", "w1", 1), killed("w1"), started("a/0", "w1", 2), killed("w1"), started("a/0", "w1", 3), ended("a/0", "w1", 3),
		accepted("a/1"), started("a/1", "w1", 1), ended("a/1", "w1", 1),
	), history.Rules{})
	if got.Accepted != 2 || got.Done != 2 || got.Again != 2 || len(got.Violations) > 0 {
		t.Errorf("got %+v", got)
	}
}
