package chaos

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/meshctl/meshctl/internal/chaos/history"
)

// cutJobs is how many jobs lie in the file that is cut off, up to a fourth of them larger than a page.
const cutJobs = 120

// cutsAtOnce is how many nodes with a part of the file run at the same time: each waits for its programs most of the time.
const cutsAtOnce = 4

// cutOff has nodes start with parts of a file that has jobs.
func (d *damageRun) cutOff(ctx context.Context) error {
	if err := d.gate(false); err != nil {
		return err
	}
	p, err := d.lab.JoinProcess(d.master, "worker", "cut", "--data-dir", d.lab.Path("cut.data"))
	if err != nil {
		return err
	}
	if err := d.linked(p); err != nil {
		return err
	}
	dice := d.lab.Dice("cuts")
	var jobs []string
	for range cutJobs {
		fill := dice.IntN(3000)
		if dice.IntN(4) == 0 {
			fill = dice.IntN(12_000)
		}
		job, err := d.send(ctx, p.Name, fill)
		if err != nil {
			return err
		}
		jobs = append(jobs, job)
	}
	p.Kill()
	if err := d.gate(true); err != nil {
		return err
	}
	file, err := os.ReadFile(filepath.Join(d.lab.Path("cut.data"), "queue.db"))
	if err != nil {
		return err
	}
	all := cuts(file, d.lab.Size.Count, dice)
	results := make([]cutResult, len(all))
	var nodes errgroup.Group
	nodes.SetLimit(cutsAtOnce)
	for n, c := range all {
		nodes.Go(func() (err error) {
			d.lab.Doing("cut %d of %d: %s", n+1, len(all), c)
			results[n], err = d.reopen(ctx, fmt.Sprintf("cut%d", n+1), file, c, jobs)
			return err
		})
	}
	if err := nodes.Wait(); err != nil {
		return err
	}
	total := cutResult{}
	for _, r := range results {
		total.done, total.dead, total.missing = total.done+r.done, total.dead+r.dead, total.missing+r.missing
	}
	const intact = 2 // of the files: the whole one and the one without its unused end
	d.report.Count("files cut off", len(all)-intact)
	d.report.Count("jobs in them", (len(all)-intact)*len(jobs))
	d.report.Count("done all the same", total.done-intact*len(jobs))
	d.report.Count("dead letters", total.dead)
	d.report.Count("missing, and logged", total.missing)
	return nil
}

// cutResult is what became of the jobs of a file.
type cutResult struct{ done, dead, missing int }

// reopen starts a node with a part of the file, and judges what it makes of it.
func (d *damageRun) reopen(ctx context.Context, variant string, file []byte, c cut, jobs []string) (r cutResult, err error) {
	dir := d.lab.Path(variant + ".data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return r, err
	}
	if err := os.WriteFile(filepath.Join(dir, "queue.db"), file[:c.size], 0o600); err != nil {
		return r, err
	}
	p, err := d.lab.JoinProcess(d.master, "worker", variant, "--data-dir", dir, "--inspect-payloads")
	if err != nil {
		return r, err
	}
	if err := d.linked(p); err != nil {
		return r, fmt.Errorf("%s: %w", c, err)
	}
	late := d.lab.Await("the queue to be empty", jobsStuck, func() bool {
		queues, err := d.lab.Queues(ctx, d.master, "worker", variant)
		return err == nil && len(queues) == 1 && queues[0].Waiting+queues[0].Running == 0
	})
	d.must(late == nil, "%s: %v", c, late)
	dead, err := d.lab.DeadLetters(ctx, d.master, "worker.job", variant)
	if err != nil {
		return r, err
	}
	events, err := history.Read(d.lab.Path("handler.history"))
	if err != nil {
		return r, err
	}
	begun, ended := map[string]bool{}, map[string]bool{} // by the node before; here
	for _, e := range events {
		switch {
		case e.Kind == history.Started && e.By == "cut":
			begun[e.Job] = true
		case e.Kind == history.Started && e.By == variant:
			d.must(e.Redelivered || !begun[e.Job], "%s: %s was begun before, and is not flagged", c, e.Job)
		case e.Kind == history.Ended && e.By == variant:
			d.must(!ended[e.Job], "%s: %s was done twice", c, e.Job)
			ended[e.Job] = true
		}
	}
	buried := map[string]bool{}
	for _, job := range dead {
		buried[job] = true
	}
	for _, job := range jobs {
		d.must(!ended[job] || !buried[job], "%s: %s was done and is a dead letter", c, job)
		switch {
		case ended[job]:
			r.done++
		case buried[job]:
			r.dead++
		default:
			r.missing++
		}
	}
	d.must(r.done+r.dead >= c.least(usedBytes(file), len(jobs)), "%s: of %d jobs only %d were done and %d are dead letters", c, len(jobs), r.done, r.dead)
	text, err := p.Logged()
	if err != nil {
		return r, err
	}
	told := strings.Contains(text, `"level":"error"`) && (strings.Contains(text, "damaged") || strings.Contains(text, "empty file"))
	d.must(told == (c.size < usedBytes(file)), "%s: the log tells of damage: %v; see %s", c, told, p.Log)
	_, err = d.send(ctx, variant, 100)
	d.must(err == nil, "%s: the node takes no further job: %v", c, err)
	_, err = d.end(p, history.Rules{})
	return r, err
}

// cut is a file of which only the beginning is left.
type cut struct {
	class string
	size  int // of what is left
}

func (c cut) String() string { return fmt.Sprintf("%s (%d bytes left)", c.class, c.size) }

// least is how many of the jobs in a file, of which the first bytes are in use, have to be there after the cut: all
// where nothing in use is missing, and a fifth where more than half of it is left.
func (c cut) least(used, jobs int) int {
	switch {
	case c.size >= used:
		return jobs
	case c.size > used/2:
		return jobs / 5
	}
	return 0
}

// The pages of bbolt's files begin with an id (8 bytes), flags (2), a count (2) and the number of pages that
// they go on for (4).
const (
	pageBranch   = 0x01
	pageLeaf     = 0x02
	pageMeta     = 0x04
	pageFreelist = 0x10
)

// usedBytes is how much of a file of bbolt is in use: it grows by more than is needed. The later one of the two
// meta pages says so.
func usedBytes(file []byte) int {
	const end, transaction = 56, 64 // where in a meta page the first unused page and the number of the transaction are
	page := os.Getpagesize()
	later := file[:page]
	if second := file[page : 2*page]; binary.NativeEndian.Uint64(second[transaction:]) > binary.NativeEndian.Uint64(later[transaction:]) {
		later = second
	}
	return int(binary.NativeEndian.Uint64(later[end:])) * page
}

// cuts chooses where to cut a file of bbolt off: at every kind of place, each of them. The file as it is comes
// first.
func cuts(file []byte, each int, dice *rand.Rand) []cut {
	page := os.Getpagesize()
	whole := len(file)
	file = file[:usedBytes(file)]
	all := []cut{{"whole", whole}, {"the unused end", len(file)}, {"nothing left", 0}, {"first byte", 1}, {"before the first meta page's end", page - 1}, {"after the first meta page", page},
		{"before the second meta page's end", 2*page - 1}, {"after both meta pages", 2 * page}, {"last page", len(file) - page}, {"last byte", len(file) - 1}}
	inside := map[uint16][]int{} // where pages begin, by kind
	long := []int{}              // and those that go on for more than one
	for at := 2 * page; at+16 <= len(file); at += page {
		h := file[at:]
		if binary.NativeEndian.Uint64(h) != uint64(at/page) {
			continue // in the middle of a long one, or never used
		}
		flags := binary.NativeEndian.Uint16(h[8:])
		inside[flags] = append(inside[flags], at)
		if more := int(binary.NativeEndian.Uint32(h[12:])); more > 0 && at+(more+1)*page <= len(file) {
			long = append(long, at+page)
		}
	}
	pick := func(class string, places []int, offset func() int) {
		for range each {
			if len(places) > 0 {
				all = append(all, cut{class, places[dice.IntN(len(places))] + offset()})
			}
		}
	}
	within := func() int { return 1 + dice.IntN(page-1) }
	pick("inside the first meta page", []int{0}, within)
	pick("inside the second meta page", []int{page}, within)
	pick("inside the freelist", inside[pageFreelist], within)
	pick("inside a leaf", inside[pageLeaf], within)
	pick("inside a branch", inside[pageBranch], within)
	pick("at the end of a leaf", inside[pageLeaf], func() int { return page })
	pick("before a leaf", inside[pageLeaf], func() int { return 0 })
	pick("in the middle of an item longer than a page", long, func() int { return dice.IntN(2) * within() })
	pick("anywhere", []int{0}, func() int { return dice.IntN(len(file)) })
	return all
}
