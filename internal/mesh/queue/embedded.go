package queue

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// storeFile is the store in a data directory.
const storeFile = "queue.db"

// embeddedMaxBytes is the default of Options.MaxBytes here, where payloads are not in memory.
const embeddedMaxBytes = 1 << 30

// lockWait is how long the lock of a process that is just ending is waited for.
const lockWait = 2 * time.Second

var (
	errJournalClosed = errors.New("the store is closed")
	errGone          = errors.New("it is not there")
)

// The buckets of the file: about the store, and of each queue items by number, their state,
// and keys. Numbers are big-endian, so that their order is that of arrival.
var (
	bucketStore  = []byte("store")
	bucketQueues = []byte("queues")
	bucketItems  = []byte("items")
	bucketStates = []byte("states")
	bucketKeys   = []byte("keys")
	keyVersion   = []byte("version")
)

const version = "1"

// EmbeddedConfig configures an Embedded.
type EmbeddedConfig struct {
	Dir    string // made, with mode 0700, where it is missing
	NoWait bool   // fail at once when another process has it
	Logger *slog.Logger
}

// Embedded keeps items in one file of a data directory, which one process at a time can use.
// Whatever was accepted or noted has been written to the disk (fsync); what waits for that
// at the same time is written together. The file keeps its size when items leave, and
// uses the room again.
type Embedded struct {
	db      *bolt.DB
	path    string
	log     *slog.Logger
	changes chan *write
	closing chan struct{}
	closed  chan struct{}
	once    sync.Once

	mu   sync.Mutex
	err  error // of the last transaction
	room int   // bytes that it would have taken, as far as they are looked for
}

var _ Store = (*Embedded)(nil)

// OpenEmbedded opens the store of a data directory, or makes it. It fails with ErrLocked
// when another process has it. A damaged file is put aside under another name, and what
// can be read of it goes into a new one, which is logged as an error.
func OpenEmbedded(cfg EmbeddedConfig) (*Embedded, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	path := filepath.Join(cfg.Dir, storeFile)
	wait := lockWait
	if cfg.NoWait {
		wait = time.Millisecond
	}
	db, err := openOrRepair(path, wait, cfg.Logger)
	if err != nil {
		return nil, err
	}
	syncNames(cfg.Dir)
	syncNames(filepath.Dir(cfg.Dir))
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketStore)
		if err != nil {
			return err
		}
		if v := b.Get(keyVersion); v != nil && string(v) != version {
			return fmt.Errorf("%s has the format %q, which this release cannot read", path, v)
		}
		if _, err := tx.CreateBucketIfNotExists(bucketQueues); err != nil {
			return err
		}
		return b.Put(keyVersion, []byte(version))
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("open the queues' store %s: %w", path, err)
	}
	s := &Embedded{
		db: db, path: path, log: cfg.Logger,
		changes: make(chan *write, maxUnwritten), closing: make(chan struct{}), closed: make(chan struct{}),
	}
	go s.commit()
	return s, nil
}

// syncNames makes the names in a folder outlive a power cut as what is in the files does, where the system can do that.
func syncNames(dir string) {
	if f, err := os.Open(dir); err == nil {
		_ = f.Sync()
		f.Close()
	}
}

// Get gives what Set noted about the store under a name; "" when nothing was.
func (s *Embedded) Get(name string) (value string) {
	_ = s.db.View(func(tx *bolt.Tx) error {
		value = string(tx.Bucket(bucketStore).Get([]byte(name)))
		return nil
	})
	return value
}

// Set notes something about the store.
func (s *Embedded) Set(name, value string) error {
	return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketStore).Put([]byte(name), []byte(value)) })
}

// Err is why the last transaction failed, if it did.
func (s *Embedded) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Durable is true.
func (s *Embedded) Durable() bool { return true }

// Close writes what waits to be written and releases the data directory.
func (s *Embedded) Close() error {
	s.once.Do(func() { close(s.closing) })
	<-s.closed
	return s.db.Close()
}

// Queue opens a queue with what the file has of it.
func (s *Embedded) Queue(name string, o Options) (Queue, error) {
	j := &boltJournal{store: s, name: []byte(name)}
	if o.MaxBytes <= 0 {
		o.MaxBytes = embeddedMaxBytes
	}
	q := newLocal("embedded", o, j)
	err := s.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.Bucket(bucketQueues).CreateBucketIfNotExists(j.name)
		if err != nil {
			return err
		}
		for _, sub := range [][]byte{bucketItems, bucketStates, bucketKeys} {
			if _, err := b.CreateBucketIfNotExists(sub); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open queue %s: %w", name, err)
	}
	damaged := 0
	err = s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketQueues).Bucket(j.name)
		states := b.Bucket(bucketStates)
		err := b.Bucket(bucketItems).ForEach(func(k, v []byte) error {
			item, err := decodeRecord(v)
			seq := binary.BigEndian.Uint64(k)
			if err != nil {
				damaged++
				q.seq = max(q.seq, seq) // its number is taken
				return nil
			}
			var st state
			if raw := states.Get(k); raw != nil {
				if err := json.Unmarshal(raw, &st); err != nil {
					st = state{Redelivered: true} // nobody knows
				}
			}
			q.restore(seq, item, len(item.Payload), st)
			return nil
		})
		if err != nil {
			return err
		}
		return b.Bucket(bucketKeys).ForEach(func(k, v []byte) error {
			if len(k) == len(digest{}) && len(v) > 8 {
				at := time.UnixMilli(int64(binary.BigEndian.Uint64(v)))
				if now := time.Now(); at.After(now) {
					at = now // the clock was set back since
				}
				q.keys.order = append(q.keys.order, keyed{digest(k), string(v[8:]), at})
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read queue %s: %w", name, err)
	}
	q.restored()
	if damaged > 0 {
		s.log.Error("queued commands cannot be read and are left in the store", "queue", name, "count", damaged, "store", s.path)
	}
	return q, nil
}

// restored ends restoring: dead letters and keys by age.
func (q *local) restored() {
	slices.SortStableFunc(q.dead, func(a, b *entry) int { return a.state.Died.Compare(b.state.Died) })
	slices.SortFunc(q.keys.order, func(a, b keyed) int { return a.at.Compare(b.at) })
	for _, k := range q.keys.order {
		q.keys.byKey[k.key] = k
	}
}
