package queue_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/queue"
)

func openNote(t *testing.T, s queue.Store, o queue.Options) queue.Queue {
	t.Helper()
	o.Command, o.MaxDepth = "note", 100_000
	q, err := s.Queue("note", o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// fill makes a store with n items that wait, some of which have a history, and gives its file.
func fill(t *testing.T, n int) []byte {
	t.Helper()
	dir := t.TempDir()
	s := openEmbedded(t, queue.EmbeddedConfig{Dir: dir})
	q := openNote(t, s, queue.Options{})
	for i := range n {
		payload := json.RawMessage(fmt.Sprintf(`{"n":%d,"text":%q}`, i, strings.Repeat("x", 100*i)))
		if err := add(t, q, queue.Item{ID: fmt.Sprint("item-", i), Payload: payload}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, "queue.db"))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// reopen opens a store made of file, and tells what it has of the items: those that wait and the
// dead letters. It must take and work off further items.
func reopen(t *testing.T, file []byte) (waiting, dead int, log string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "queue.db"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	s := openEmbedded(t, queue.EmbeddedConfig{Dir: dir, Logger: slog.New(slog.NewTextHandler(&text, nil))})
	q := openNote(t, s, queue.Options{})
	st := q.Stats()
	seen := map[string]bool{}
	first, err := q.Peek(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	buried, err := q.Dead(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range append(first, buried...) {
		if seen[e.ID] || !strings.HasPrefix(e.ID, "item-") || !json.Valid(e.Payload) {
			t.Errorf("%s is there twice or is not what was put in", e.ID)
		}
		seen[e.ID] = true
	}
	if len(first) != st.Waiting || len(buried) != st.Dead {
		t.Errorf("%d and %d entries, but the stats say %+v", len(first), len(buried), st)
	}
	if err := add(t, q, queue.Item{ID: "new"}); err != nil {
		t.Errorf("a mended store does not take items: %v", err)
	}
	worked := make(chan string, 2000)
	stop := run(t, q, func(_ context.Context, i queue.Item) (json.RawMessage, error) { worked <- i.ID; return nil, nil })
	receive(t, worked) // that it goes on is enough
	stop()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	aside, err := filepath.Glob(filepath.Join(dir, "queue.db.damaged-*"))
	if err != nil {
		t.Fatal(err)
	}
	if damaged := strings.Contains(text.String(), "damaged"); damaged != (len(aside) == 1) {
		t.Errorf("put aside: %v, but the log says:\n%s", aside, text.String())
	}
	return st.Waiting, st.Dead, text.String()
}

func TestEmbeddedCutOff(t *testing.T) {
	const items = 50
	file := fill(t, items)
	sizes := []int{1, 4096, 8192, 12288, 16385, len(file) - 4096, len(file) - 1}
	for n := 10; n < 100; n += 20 {
		sizes = append(sizes, len(file)*n/100)
	}
	saved := 0
	for _, size := range sizes {
		waiting, dead, log := reopen(t, file[:size])
		t.Logf("%d of %d bytes: %d wait, %d dead letters", size, len(file), waiting, dead)
		saved += waiting + dead
		if waiting < items && !strings.Contains(log, "level=ERROR") {
			t.Errorf("cut off at %d bytes %d items are missing, and nothing is logged", size, items-waiting)
		}
		if size > len(file)/2 && waiting+dead < items/5 {
			t.Errorf("cut off at %d of %d bytes only %d items are left", size, len(file), waiting+dead)
		}
	}
	if saved == 0 {
		t.Error("nothing was ever saved")
	}
	if waiting, dead, log := reopen(t, file); waiting != items || dead != 0 || log != "" {
		t.Errorf("a whole file: %d wait, %d dead letters, log %q", waiting, dead, log)
	}
	if waiting, _, log := reopen(t, nil); waiting != 0 || !strings.Contains(log, "empty file") {
		t.Errorf("an empty file: %d wait, log %q", waiting, log)
	}
}

// Wherever a larger file is cut off, its repair comes to an end, and has what is before the cut.
func TestEmbeddedCutOffInMany(t *testing.T) {
	const items = 120
	for range 2 { // where a page lies is not always the same
		file := fill(t, items)
		for n := 30; n < 100; n += 5 {
			waiting, dead, log := reopen(t, file[:len(file)*n/100])
			if waiting+dead < items && !strings.Contains(log, "level=ERROR") || waiting+dead < items*n/200 {
				t.Errorf("cut off at %d%% %d wait, %d dead letters; the log says:\n%s", n, waiting, dead, log)
			}
		}
	}
}

// A page that was overwritten is no reason to end the process, and where it is one of many the items on the others
// stay in their queue.
func TestEmbeddedOverwritten(t *testing.T) {
	file := fill(t, 50)
	stayed := 0
	for at := 2 * 4096; at+4096 <= len(file); at += 5 * 4096 {
		damaged := bytes.Clone(file)
		for i := range 4096 {
			damaged[at+i] = byte(i * 37)
		}
		if waiting, _, log := reopen(t, damaged); strings.Contains(log, "damaged") {
			stayed += waiting
		}
	}
	if stayed == 0 {
		t.Error("all that was saved became dead letters")
	}
}

// Where it is the number of an item that was overwritten, the item is nowhere else than where nobody finds it by its
// number. Nothing else is lost with it.
func TestEmbeddedNumberOverwritten(t *testing.T) {
	const items = 50
	file := fill(t, items)
	for _, n := range []int{0, 10, items / 2, items - 2, items - 1} {
		damaged, found := bytes.Clone(file), 0
		number := binary.BigEndian.AppendUint64(nil, uint64(n+1))
		for at := 0; ; at++ {
			i := bytes.Index(damaged[at:], fmt.Appendf(nil, `{"id":"item-%d"`, n))
			if i < 0 {
				break
			}
			at += i
			for _, begin := range []int{at - 9, at - 10} { // the length of the header is a byte or two
				if bytes.Equal(damaged[begin:begin+8], number) {
					copy(damaged[begin:], "\x25\x4a\x6f\x94\xb9\xde\x03\x28")
					found++
				}
			}
		}
		if found == 0 {
			t.Fatalf("item %d is not in the file as it should be", n)
		}
		waiting, dead, log := reopen(t, damaged)
		t.Logf("item %d: %d wait, %d dead letters; %s", n, waiting, dead, log)
		if waiting+dead != items {
			t.Errorf("the number of item %d is overwritten: %d wait, %d dead letters; want %d", n, waiting, dead, items)
		}
	}
}

// Two pages take turns in saying what the file has. Without one of them nothing is lost.
func TestEmbeddedFirstPages(t *testing.T) {
	const items = 50
	file := fill(t, items)
	for n := range 2 {
		damaged := bytes.Clone(file)
		clear(damaged[n*4096 : (n+1)*4096])
		if waiting, dead, log := reopen(t, damaged); waiting+dead != items || !strings.Contains(log, "is damaged") {
			t.Errorf("without page %d %d wait, %d dead letters; want %d; the log says:\n%s", n, waiting, dead, items, log)
		}
	}
}

// On a full disk nothing is accepted that is not stored; what is there is worked off, and then there is
// room again.
func TestEmbeddedDiskFull(t *testing.T) {
	s := openEmbedded(t, queue.EmbeddedConfig{Dir: smallDisk(t, "1m")})
	q := openNote(t, s, queue.Options{})
	payload, _ := json.Marshal(strings.Repeat("x", 20_000))
	accepted := 0
	var failure error
	for i := 0; i < 100 && failure == nil; i++ {
		if failure = add(t, q, queue.Item{ID: fmt.Sprint(i), Payload: payload}); failure == nil {
			accepted++
		}
	}
	if !errors.Is(failure, queue.ErrUnavailable) || accepted == 0 {
		t.Fatalf("%d accepted, then %v; want ErrUnavailable", accepted, failure)
	}
	if !errors.Is(s.Err(), queue.ErrUnavailable) || !strings.Contains(s.Err().Error(), "no space left") {
		t.Errorf("the store says %v", s.Err())
	}
	worked := make(chan string, 200)
	stop := run(t, q, func(_ context.Context, i queue.Item) (json.RawMessage, error) { worked <- i.ID; return nil, nil })
	for i := range accepted {
		if id := receive(t, worked); id != fmt.Sprint(i) {
			t.Errorf("worked on %s, want %d", id, i)
		}
	}
	await(t, "the store to have room", func() bool { return add(t, q, queue.Item{ID: "after", Payload: payload}) == nil })
	if err := s.Err(); err != nil {
		t.Errorf("the store says %v when there is room", err)
	}
	receive(t, worked)
	stop()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A store whose disk has room again says so by itself.
func TestEmbeddedRoomAgain(t *testing.T) {
	disk := smallDisk(t, "4m")
	s := openEmbedded(t, queue.EmbeddedConfig{Dir: filepath.Join(disk, "data")})
	q := openNote(t, s, queue.Options{})
	other := filepath.Join(disk, "other")
	if err := os.WriteFile(other, make([]byte, 8<<20), 0o600); err == nil {
		t.Fatal("the disk is larger than it should be")
	}
	payload, _ := json.Marshal(strings.Repeat("x", 200_000))
	if err := add(t, q, queue.Item{ID: "a", Payload: payload}); !errors.Is(err, queue.ErrUnavailable) || s.Err() == nil {
		t.Fatalf("on a full disk: %v, and the store says %v", err, s.Err())
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	await(t, "the store to have found the room", func() bool { return s.Err() == nil })
	if err := add(t, q, queue.Item{ID: "b", Payload: payload}); err != nil {
		t.Errorf("an item that there is room for: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// smallDisk gives a folder on a disk of that size.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("cannot make a small disk, for which one has to be root on Linux: %v %s", err, out)
	}
	t.Cleanup(func() { // -l: what a repair has read stays mapped
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return dir
}

// A repair that does not come to its end, here for want of room, is done again at the next start.
func TestEmbeddedRepairCutShort(t *testing.T) {
	file := fill(t, 50)
	file = file[:len(file)*7/10]
	waiting, dead, _ := reopen(t, file)
	dir := smallDisk(t, fmt.Sprint(len(file)+64<<10))
	if err := os.WriteFile(filepath.Join(dir, "queue.db"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if s, err := queue.OpenEmbedded(queue.EmbeddedConfig{Dir: dir}); err == nil {
			s.Close()
			t.Fatal("it was repaired where there is no room for that")
		}
	}
	if out, err := exec.Command("mount", "-o", "remount,size=16m", dir).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	s := openEmbedded(t, queue.EmbeddedConfig{Dir: dir})
	defer s.Close()
	if st := openNote(t, s, queue.Options{}).Stats(); st.Waiting != waiting || st.Dead != dead || waiting+dead == 0 {
		t.Errorf("%d wait, %d dead letters; want %d and %d", st.Waiting, st.Dead, waiting, dead)
	}
}

// An item that ends the node again and again becomes a dead letter that says so.
func TestEmbeddedEndsTheNode(t *testing.T) {
	dir := t.TempDir()
	for range 4 { // as if the process had been killed: what is begun is never ended
		s := openEmbedded(t, queue.EmbeddedConfig{Dir: dir})
		q := openNote(t, s, queue.Options{Retries: 2})
		if q.Stats().Waiting+q.Stats().Dead == 0 {
			if err := add(t, q, queue.Item{ID: "bad"}); err != nil {
				t.Fatal(err)
			}
		}
		began := make(chan queue.Item, 1)
		block := make(chan struct{})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = q.Run(ctx, func(_ context.Context, i queue.Item) (json.RawMessage, error) {
				began <- i
				<-block
				return nil, nil
			})
		}()
		await(t, "the item to begin or die", func() bool { return len(began) == 1 || q.Stats().Dead == 1 })
		if err := s.Close(); err != nil { // before the work ends, which is then not noted
			t.Fatal(err)
		}
		cancel()
		close(block)
		receive(t, ended)
	}
	s := openEmbedded(t, queue.EmbeddedConfig{Dir: dir})
	defer s.Close()
	q := openNote(t, s, queue.Options{Retries: 2})
	// The last of them may have ended before it could note that the item is dead.
	work(t, q, nil, func(s queue.Stats) bool { return s.Dead+int(s.Done) == 1 })
	dead, err := q.Dead(t.Context(), 10)
	if err != nil || len(dead) != 1 || !strings.Contains(dead[0].Error, "the node ended") || !dead[0].Redelivered {
		t.Errorf("dead letters: %+v, %v", dead, err)
	}
}
