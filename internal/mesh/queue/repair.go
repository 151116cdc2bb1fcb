package queue

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterr "go.etcd.io/bbolt/errors"
)

// errDamaged says that a store's file cannot be read through.
var errDamaged = errors.New("the file is damaged")

// errRecovered is the error of dead letters that were found in a damaged file.
const errRecovered = "found in a damaged store; it may have been worked on already"

// maxGap is how many numbers in a row may be unreadable before the rest is given up.
const maxGap = 100_000

// guard makes an error of the panics and memory faults that reading a damaged file causes.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v", errDamaged, v)
		}
	}()
	return f()
}

// openOrRepair opens a store's file, made if it is missing, mended if it is damaged. What is saved of it
// goes into a file beside it, which takes its place at the end: a repair that was cut short is done again.
func openOrRepair(path string, wait time.Duration, log *slog.Logger) (*bolt.DB, error) {
	saved := path + ".saved"
	aside := cutShort(path, saved)
	if aside == "" {
		if st, err := os.Stat(path); err == nil && st.Size() == 0 {
			log.Error("the queues' store is an empty file; queued commands that it may have had are lost", "store", path)
		}
		db, err := openFile(path, wait)
		if !errors.Is(err, errDamaged) {
			return db, err
		}
		aside = fmt.Sprintf("%s.damaged-%s", path, time.Now().UTC().Format("20060102T150405.000"))
		log.Error("the queues' store is damaged; it is put aside, and what can be read goes into a new one", "err", err, "store", path, "damaged", aside)
		if err := os.WriteFile(saved, nil, 0o600); err != nil {
			return nil, fmt.Errorf("make a file for what can be saved of the damaged store: %w", err)
		}
		if err := os.Rename(path, aside); err != nil {
			return nil, fmt.Errorf("put the damaged store %s aside: %w", path, err)
		}
	}
	s := salvage{seen: make(map[string]bool)}
	if err := s.into(saved, aside, wait); err != nil {
		return nil, err
	}
	if err := os.Rename(saved, path); err != nil {
		return nil, fmt.Errorf("put what was saved of the damaged store in its place: %w", err)
	}
	log.Error("saved what could be read of the damaged store", "queued", s.queued, "dead_letters", s.dead, "left_there", s.left, "store", path, "damaged", aside)
	return openFile(path, wait)
}

// cutShort gives the damaged file whose repair was cut short; "" if there is none.
func cutShort(path, saved string) (aside string) {
	_, begun := os.Stat(saved)
	if _, err := os.Stat(path); begun != nil || !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	all, _ := os.ReadDir(filepath.Dir(path)) // in the order of their names
	for _, e := range slices.Backward(all) {
		if strings.HasPrefix(e.Name(), filepath.Base(path)+".damaged-") {
			return filepath.Join(filepath.Dir(path), e.Name())
		}
	}
	return ""
}

// openFile opens and reads through the file. It fails with ErrLocked, errDamaged, or as the
// operating system does.
func openFile(path string, wait time.Duration) (*bolt.DB, error) {
	var file *os.File
	var db *bolt.DB
	err := guard(func() (err error) {
		db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: wait, FreelistType: bolt.FreelistMapType,
			OpenFile: func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
				file, err = os.OpenFile(name, flag, mode)
				return file, err
			}})
		if err != nil {
			return err
		}
		if err := checkMeta(file, db.Info().PageSize); err != nil {
			return err
		}
		return db.View(func(tx *bolt.Tx) error {
			if st, err := file.Stat(); err != nil {
				return err
			} else if st.Size() < tx.Size() {
				return fmt.Errorf("%w: it has %d of %d bytes", errDamaged, st.Size(), tx.Size())
			}
			return tx.ForEach(func(name []byte, b *bolt.Bucket) error { return readThrough(name, b) })
		})
	})
	if err == nil {
		return db, nil
	}
	switch {
	case db != nil && !errors.Is(err, errDamaged):
		db.Close()
	case file != nil:
		unlock(file) // what a panic left mapped stays so
		file.Close()
	}
	var osErr *fs.PathError
	var errno syscall.Errno
	switch {
	case errors.Is(err, bolterr.ErrTimeout):
		return nil, fmt.Errorf("%w: another process has %s open; is this variant running already?", ErrLocked, path)
	case errors.As(err, &osErr), errors.As(err, &errno), errors.Is(err, bolterr.ErrVersionMismatch):
		return nil, fmt.Errorf("open the queues' store %s: %w", path, err)
	case errors.Is(err, errDamaged):
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", errDamaged, err)
}

// checkMeta fails where one of the two pages is damaged that take turns in saying what the file has. bbolt itself goes by
// the other then, which lacks the last transaction.
func checkMeta(file *os.File, pageSize int) error {
	const header, sum, magic = 16, 56, 0xED0CDAED
	for n := range 2 {
		p := make([]byte, header+sum+8)
		if _, err := file.ReadAt(p, int64(n*pageSize)); err != nil {
			return err
		}
		meta := p[header:]
		h := fnv.New64a()
		h.Write(meta[:sum])
		if binary.NativeEndian.Uint32(meta) != magic || binary.NativeEndian.Uint64(meta[sum:]) != h.Sum64() {
			return fmt.Errorf("%w: its page %d cannot be read, and the other may be older", errDamaged, n)
		}
	}
	return nil
}

// readThrough reads every byte of a bucket, and finds every key of it as one does who asks for that key: nothing in
// the file tells of a key that was overwritten but its place among the others.
func readThrough(name []byte, b *bolt.Bucket) error {
	var last []byte
	numbers := bytes.Equal(name, bucketItems)
	return b.ForEach(func(k, v []byte) error {
		switch {
		case last != nil && bytes.Compare(last, k) >= 0, v != nil && b.Get(k) == nil:
			return fmt.Errorf("%w: the key %x is not in its place", errDamaged, k)
		case numbers && v != nil && (len(k) != 8 || k[0] != 0): // they count from 1
			return fmt.Errorf("%w: %x is no number of an item", errDamaged, k)
		}
		last = k
		if v == nil {
			if sub := b.Bucket(k); sub != nil {
				return readThrough(k, sub)
			}
		}
		_, _ = bytes.Count(k, []byte{0}), bytes.Count(v, []byte{0})
		return nil
	})
}

// salvage copies what can be read of a damaged file.
type salvage struct {
	to           *bolt.DB
	seen         map[string]bool // items by id
	queued, dead int
	left         int // that would have been too many dead letters
}

// into writes a file with what can be read of a damaged one, and nothing else.
func (s *salvage) into(saved, damaged string, wait time.Duration) error {
	db, err := openFile(saved, wait)
	if errors.Is(err, errDamaged) { // what an earlier try has left
		if err = os.Truncate(saved, 0); err == nil {
			db, err = openFile(saved, wait)
		}
	}
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error { return tx.DeleteBucket(bucketQueues) })
	if errors.Is(err, bolterr.ErrBucketNotFound) {
		err = nil
	}
	if s.to = db; err == nil {
		err = s.run(damaged)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("write what was saved of the damaged store %s: %w", damaged, err)
	}
	return nil
}

func (s *salvage) run(path string) error {
	s.to.NoSync = true // until the end
	defer func() { s.to.NoSync = false }()
	var out error
	_ = guard(func() error {
		db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
		if err != nil {
			return err
		}
		return db.View(func(tx *bolt.Tx) error {
			return tx.Bucket(bucketQueues).ForEachBucket(func(name []byte) error {
				out = s.queue(name, tx.Bucket(bucketQueues).Bucket(name))
				return out
			})
		})
		// It stays open: closing could fault, and happens once in a process' life.
	})
	if out == nil {
		out = s.scan(path)
	}
	if out != nil {
		return out
	}
	return s.to.Sync()
}

// queue copies a queue that can be reached, in its order.
func (s *salvage) queue(name []byte, from *bolt.Bucket) error {
	name = bytes.Clone(name)
	var out error
	for seq, gap := uint64(0), 0; gap < maxGap; seq, gap = seq+1, gap+1 {
		if guard(func() error {
			c := from.Bucket(bucketItems).Cursor()
			k, v := c.Seek(seqKey(seq))
			if k != nil && bytes.Compare(k, seqKey(seq)) < 0 {
				return errDamaged // it has led back to where we were
			}
			for ; k != nil; k, v = c.Next() {
				if len(k) == 8 {
					seq = max(seq, binary.BigEndian.Uint64(k))
				}
				item, err := decodeRecord(bytes.Clone(v))
				if err != nil || s.seen[item.ID] {
					continue
				}
				gap = 0
				if out = s.put(name, item, salvageState(from, k)); out != nil {
					return nil
				}
			}
			return nil
		}) == nil {
			break
		}
	}
	return out
}

// salvageState reads what became of an item. That may be older than the damage, so that nobody knows whether the item
// was worked on since.
func salvageState(from *bolt.Bucket, key []byte) state {
	var st state
	if err := guard(func() error {
		if raw := from.Bucket(bucketStates).Get(key); raw != nil {
			return json.Unmarshal(raw, &st)
		}
		return nil
	}); err != nil {
		st = state{}
	}
	st.Redelivered = true
	return st
}

// scan looks through the pages of the file for items that could not be reached. Whether they
// were done is not known, so that they become dead letters.
func (s *salvage) scan(path string) error {
	file, err := os.ReadFile(path)
	if err != nil {
		return nil // nothing more can be read
	}
	const header, element, leaf = 16, 16, 0x02
	page := os.Getpagesize()
	for at := 0; at+header <= len(file); at += page {
		p := file[at:]
		if binary.NativeEndian.Uint16(p[8:]) != leaf {
			continue
		}
		for i := range int(binary.NativeEndian.Uint16(p[10:])) {
			e := header + i*element
			if e+element > len(p) {
				break
			}
			pos, klen, vlen := uint64(binary.NativeEndian.Uint32(p[e+4:])), uint64(binary.NativeEndian.Uint32(p[e+8:])), uint64(binary.NativeEndian.Uint32(p[e+12:]))
			begin := uint64(e) + pos + klen
			if klen != 8 || begin+vlen > uint64(len(p)) {
				continue
			}
			item, err := decodeRecord(p[begin : begin+vlen])
			if err != nil || item.Command == "" || s.seen[item.ID] {
				continue
			}
			if s.dead >= maxDead {
				s.seen[item.ID] = true
				s.left++
				continue
			}
			if err := s.put([]byte(item.Command), item, state{Redelivered: true, Error: errRecovered, Died: time.Now()}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *salvage) put(name []byte, item Item, st state) error {
	if s.seen[item.ID] {
		return nil
	}
	s.seen[item.ID] = true
	if st.Died.IsZero() {
		s.queued++
	} else {
		s.dead++
	}
	record, err := encodeRecord(item)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return s.to.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketQueues)
		if err == nil {
			b, err = b.CreateBucketIfNotExists(name)
		}
		if err != nil {
			return err
		}
		items, err := b.CreateBucketIfNotExists(bucketItems)
		if err != nil {
			return err
		}
		states, err := b.CreateBucketIfNotExists(bucketStates)
		if err != nil {
			return err
		}
		n, err := items.NextSequence()
		if err != nil {
			return err
		}
		if err := items.Put(seqKey(n), record); err != nil {
			return err
		}
		return states.Put(seqKey(n), raw)
	})
}
