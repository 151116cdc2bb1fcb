package queue

// Memory keeps items in this process. What is left when a queue's Run ends is lost,
// which is logged and told to those who wait.
type Memory struct{}

var _ Store = Memory{}

// Queue makes an empty queue.
func (Memory) Queue(_ string, o Options) (Queue, error) { return newLocal("memory", o, nil), nil }

// Err is always nil.
func (Memory) Err() error { return nil }

// Durable is false.
func (Memory) Durable() bool { return false }

// Close does nothing.
func (Memory) Close() error { return nil }
