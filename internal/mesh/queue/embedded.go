package queue

import (
	"bytes"
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

// Bounds on what one transaction takes, so that nobody waits long for the others.
const (
	maxBatch      = 1024
	maxBatchBytes = 16 << 20
	maxUnwritten  = 4 * maxBatch
)

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
	keyRoom      = []byte("room") // only while room is looked for
)

const version = "1"

// maxRoom is how much room is looked for, in bytes, where some was missing.
const maxRoom = 1 << 20

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

// write is something that waits to be written.
type write struct {
	apply func(*bolt.Tx) error
	bytes int
	adds  bool // it takes room
	done  func(error)
}

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

// commit writes what is submitted, as much as there is in one transaction, until closing.
func (s *Embedded) commit() {
	defer close(s.closed)
	for {
		var again <-chan time.Time
		if s.Err() != nil {
			again = time.After(storeRetry)
		}
		select {
		case w := <-s.changes:
			s.write(s.gather(w))
		case <-again:
			s.tryRoom()
		case <-s.closing:
			for {
				select {
				case w := <-s.changes:
					s.write(s.gather(w))
				default:
					return
				}
			}
		}
	}
}

func (s *Embedded) gather(first *write) []*write {
	batch, size := []*write{first}, first.bytes
	for len(batch) < maxBatch && size < maxBatchBytes {
		select {
		case w := <-s.changes:
			batch = append(batch, w)
			size += w.bytes
		default:
			return batch
		}
	}
	return batch
}

// write commits a batch. When that fails, what takes no room is tried by itself: so that
// on a full disk items can still leave.
func (s *Embedded) write(batch []*write) {
	err := s.update(batch)
	s.note(err, sizeOf(batch))
	if err == nil || len(batch) == 1 {
		settle(batch, err)
		return
	}
	var adds, rest []*write
	for _, w := range batch {
		if w.adds {
			adds = append(adds, w)
		} else {
			rest = append(rest, w)
		}
	}
	if len(rest) > 0 && len(adds) > 0 {
		settle(rest, s.update(rest))
		settle(adds, err)
		return
	}
	settle(batch, err)
}

// tryRoom finds out whether there is room again for what could not be written, so that Err tells of it before
// somebody has to try.
func (s *Embedded) tryRoom() {
	s.mu.Lock()
	room := s.room
	s.mu.Unlock()
	put := func(tx *bolt.Tx) error { return tx.Bucket(bucketStore).Put(keyRoom, make([]byte, room)) }
	drop := func(tx *bolt.Tx) error { return tx.Bucket(bucketStore).Delete(keyRoom) }
	err := s.update([]*write{{apply: put}})
	if err == nil {
		err = s.update([]*write{{apply: drop}})
	}
	s.note(err, room)
}

func settle(batch []*write, err error) {
	for _, w := range batch {
		w.done(err)
	}
}

func sizeOf(batch []*write) (bytes int) {
	for _, w := range batch {
		bytes += w.bytes
	}
	return bytes
}

func (s *Embedded) update(batch []*write) error {
	err := guard(func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			for _, w := range batch {
				if err := w.apply(tx); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("%w: write %s: %w", ErrUnavailable, s.path, err)
	}
	return nil
}

// note remembers whether the store works, and logs when that changes.
func (s *Embedded) note(err error, room int) {
	s.mu.Lock()
	was := s.err
	s.err, s.room = err, min(room, maxRoom)
	s.mu.Unlock()
	switch {
	case err != nil && was == nil:
		s.log.Error("queued commands cannot be stored; none is accepted until they can", "err", err)
	case err == nil && was != nil:
		s.log.Info("queued commands can be stored again", "store", s.path)
	}
}

// boltJournal is the journal of one queue in the file.
type boltJournal struct {
	store *Embedded
	name  []byte
}

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// write submits a change. One that adds no item blocks while very much waits to be written.
func (j *boltJournal) write(c change, done func(error)) {
	w := &write{done: done, adds: c.item != nil}
	var record, st []byte
	var err error
	if c.item != nil {
		record, err = encodeRecord(*c.item)
	}
	if err == nil && c.state != nil {
		st, err = json.Marshal(c.state)
	}
	if err != nil {
		done(err)
		return
	}
	w.bytes = len(record)
	w.apply = func(tx *bolt.Tx) error { return j.apply(tx, c, record, st) }
	select {
	case <-j.store.closing:
		done(errJournalClosed)
		return
	default:
	}
	if w.adds { // those who add must not wait for a slow disk
		select {
		case j.store.changes <- w:
		default:
			done(fmt.Errorf("%w: too much waits to be written to the disk", ErrFull))
		}
		return
	}
	select {
	case j.store.changes <- w:
	case <-j.store.closing:
		done(errJournalClosed)
	}
}

func (j *boltJournal) apply(tx *bolt.Tx, c change, record, st []byte) error {
	b := tx.Bucket(bucketQueues).Bucket(j.name)
	key := seqKey(c.seq)
	keys := b.Bucket(bucketKeys)
	for _, k := range c.expired {
		if err := keys.Delete(k[:]); err != nil {
			return err
		}
	}
	switch {
	case c.item != nil:
		if c.item.Key != "" {
			k := digestOf(c.item.Key)
			v := binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixMilli()))
			if err := keys.Put(k[:], append(v, c.item.ID...)); err != nil {
				return err
			}
		}
		items := b.Bucket(bucketItems)
		items.FillPercent = 0.9 // numbers only grow
		return items.Put(key, record)
	case c.state != nil:
		if b.Bucket(bucketItems).Get(key) == nil {
			return nil // it is gone
		}
		return b.Bucket(bucketStates).Put(key, st)
	}
	if err := b.Bucket(bucketStates).Delete(key); err != nil {
		return err
	}
	return b.Bucket(bucketItems).Delete(key)
}

func (j *boltJournal) payload(seq uint64) (payload json.RawMessage, err error) {
	err = guard(func() error {
		return j.store.db.View(func(tx *bolt.Tx) error {
			v := tx.Bucket(bucketQueues).Bucket(j.name).Bucket(bucketItems).Get(seqKey(seq))
			if v == nil {
				return errGone
			}
			item, err := decodeRecord(v)
			payload = bytes.Clone(item.Payload)
			return err
		})
	})
	return payload, err
}

// restored ends restoring: dead letters and keys by age.
func (q *local) restored() {
	slices.SortStableFunc(q.dead, func(a, b *entry) int { return a.state.Died.Compare(b.state.Died) })
	slices.SortFunc(q.keys.order, func(a, b keyed) int { return a.at.Compare(b.at) })
	for _, k := range q.keys.order {
		q.keys.byKey[k.key] = k
	}
}
