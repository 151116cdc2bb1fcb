package queue_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/queue/queuetest"
	bolt "go.etcd.io/bbolt"
)

func openEmbedded(t *testing.T, cfg queue.EmbeddedConfig) *queue.Embedded {
	t.Helper()
	s, err := queue.OpenEmbedded(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEmbedded(t *testing.T) {
	queuetest.Run(t, func(t *testing.T) func() queue.Store {
		dir := t.TempDir()
		return func() queue.Store { return openEmbedded(t, queue.EmbeddedConfig{Dir: dir}) }
	})
}

func TestEmbeddedIsLocked(t *testing.T) {
	dir := t.TempDir()
	s := openEmbedded(t, queue.EmbeddedConfig{Dir: dir})
	if _, err := queue.OpenEmbedded(queue.EmbeddedConfig{Dir: dir, NoWait: true}); !errors.Is(err, queue.ErrLocked) {
		t.Errorf("opened twice: %v, want ErrLocked", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openEmbedded(t, queue.EmbeddedConfig{Dir: dir})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// changeFirst changes the first entry of a bucket of the queue note, in a store that is closed.
func changeFirst(t *testing.T, dir, bucket string, change func([]byte) []byte) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, "queue.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("queues")).Bucket([]byte("note")).Bucket([]byte(bucket))
		k, v := b.Cursor().First()
		return b.Put(k, change(v))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// A clock that was ahead while the store was written, and is right now, holds up no further try, and keeps no key for
// longer than the window.
func TestEmbeddedAfterAWrongClock(t *testing.T) {
	dir := t.TempDir()
	s := openEmbedded(t, queue.EmbeddedConfig{Dir: dir})
	q := openNote(t, s, queue.Options{Retries: 1, Backoff: func(int) time.Duration { return 24 * time.Hour }})
	if err := add(t, q, queue.Item{ID: "a", Key: "k"}); err != nil {
		t.Fatal(err)
	}
	work(t, q, errors.New("fails"), func(s queue.Stats) bool { return s.Delayed == 1 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	changeFirst(t, dir, "keys", func(v []byte) []byte {
		tomorrow := binary.BigEndian.AppendUint64(nil, uint64(time.Now().Add(24*time.Hour).UnixMilli()))
		return append(tomorrow, v[8:]...)
	})

	s = openEmbedded(t, queue.EmbeddedConfig{Dir: dir})
	defer s.Close()
	const window = 100 * time.Millisecond
	q = openNote(t, s, queue.Options{Retries: 1, Window: window, Backoff: func(int) time.Duration { return time.Millisecond }})
	work(t, q, nil, func(s queue.Stats) bool { return s.Done == 1 })
	s.Close()
	s = openEmbedded(t, queue.EmbeddedConfig{Dir: dir})
	defer s.Close()
	q = openNote(t, s, queue.Options{Window: window})
	await(t, "the key to be forgotten", func() bool { return add(t, q, queue.Item{ID: "b", Key: "k"}) == nil })
}

// An item does not take the place of one that cannot be read, whose state would become its own.
func TestEmbeddedBesideUnreadable(t *testing.T) {
	dir := t.TempDir()
	s := openEmbedded(t, queue.EmbeddedConfig{Dir: dir})
	q := openNote(t, s, queue.Options{})
	if err := add(t, q, queue.Item{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	work(t, q, errors.New("fails"), func(s queue.Stats) bool { return s.Dead == 1 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	changeFirst(t, dir, "items", func([]byte) []byte { return []byte("unreadable") })
	for n := range 2 {
		s = openEmbedded(t, queue.EmbeddedConfig{Dir: dir})
		defer s.Close()
		q = openNote(t, s, queue.Options{})
		if st := q.Stats(); st.Waiting != n || st.Dead != 0 {
			t.Errorf("%d was added, and the stats are %+v", n, st)
		}
		if err := add(t, q, queue.Item{ID: fmt.Sprint("new ", n)}); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
}
