package poller

import "sync"

// Pool runs what may block (a TLS handshake, a request to NATS, a large compression) on a fixed number of goroutines, so that
// no loop has to wait for it. A panic in a task ends the process: it is a bug, and state half changed is not to be served from.
type Pool struct {
	// Static after NewPool.
	tasks chan func()
	done  sync.WaitGroup

	// mu guards the following field, and the closing of tasks.
	mu     sync.Mutex
	closed bool
}

// NewPool starts workers goroutines behind a queue of at most queue tasks; both are at least 1.
func NewPool(workers, queue int) *Pool {
	p := &Pool{tasks: make(chan func(), max(1, queue))}
	for range max(1, workers) {
		p.done.Go(p.run)
	}
	return p
}

// Submit queues task, and reports whether it will run: false when the queue is full or the pool closed. It never blocks
// and may be called on any goroutine.
func (p *Pool) Submit(task func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	select {
	case p.tasks <- task:
		return true
	default:
		return false
	}
}

// Close refuses further tasks, runs those that were accepted, and returns when the last has. It must not be called by a task.
func (p *Pool) Close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.tasks)
	}
	p.mu.Unlock()
	p.done.Wait()
}

func (p *Pool) run() {
	for task := range p.tasks {
		task()
	}
}
