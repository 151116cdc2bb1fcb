package queue

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// This file writes to the store: what all queues submit goes through one goroutine, which puts into one transaction
// whatever is there, so that many wait for one fsync.

// Bounds on what one transaction takes, so that nobody waits long for the others.
const (
	maxBatch      = 1024
	maxBatchBytes = 16 << 20
	maxUnwritten  = 4 * maxBatch
)

// maxRoom is how much room is looked for, in bytes, where some was missing.
const maxRoom = 1 << 20

// keyRoom is in the bucket of the store only while room is looked for.
var keyRoom = []byte("room")

// write is something that waits to be written.
type write struct {
	apply func(*bolt.Tx) error
	bytes int
	adds  bool // it takes room
	done  func(error)
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
