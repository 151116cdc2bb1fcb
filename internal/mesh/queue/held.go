package queue

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterr "go.etcd.io/bbolt/errors"
)

// Held counts what each queue in the file has, dead letters among it, also of queues that are not open. Those that
// have nothing are not in it.
func (s *Embedded) Held() (counts map[string]int, err error) {
	err = guard(func() (err error) {
		counts, err = held(s.db)
		return err
	})
	return counts, err
}

// Path is the store's file.
func (s *Embedded) Path() string { return s.path }

// HeldIn is Embedded.Held of a data directory that is not to be used, and leaves it as it is. It fails with
// ErrLocked while somebody uses it, and gives nothing where there is no store.
func HeldIn(dir string) (map[string]int, error) {
	path := filepath.Join(dir, storeFile)
	if st, err := os.Stat(path); err != nil || st.Size() == 0 {
		return nil, nil
	}
	var counts map[string]int
	err := guard(func() error {
		db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Millisecond})
		if errors.Is(err, bolterr.ErrTimeout) {
			return ErrLocked
		}
		if err != nil {
			return err
		}
		defer db.Close()
		counts, err = held(db)
		return err
	})
	return counts, err
}

func held(db *bolt.DB) (map[string]int, error) {
	counts := make(map[string]int)
	err := db.View(func(tx *bolt.Tx) error {
		queues := tx.Bucket(bucketQueues)
		if queues == nil {
			return nil
		}
		return queues.ForEachBucket(func(name []byte) error {
			if items := queues.Bucket(name).Bucket(bucketItems); items != nil {
				if n := items.Stats().KeyN; n > 0 {
					counts[string(name)] = n
				}
			}
			return nil
		})
	})
	return counts, err
}
