package poller

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestPoolRunsWhatItAccepted(t *testing.T) {
	const submitters, each = 8, 500
	p := NewPool(3, 16)
	var accepted, ran atomic.Int64
	var submitting sync.WaitGroup
	for range submitters {
		submitting.Go(func() {
			for range each {
				if p.Submit(func() { ran.Add(1) }) {
					accepted.Add(1)
				}
			}
		})
	}
	submitting.Wait()
	p.Close()
	if ran.Load() != accepted.Load() || accepted.Load() == 0 {
		t.Errorf("%d tasks ran, %d were accepted", ran.Load(), accepted.Load())
	}
}

func TestPoolIsBounded(t *testing.T) {
	const workers, queue = 2, 3
	p := NewPool(workers, queue)
	defer p.Close()
	started, release := make(chan struct{}), make(chan struct{})
	block := func() { started <- struct{}{}; <-release }
	for range workers {
		if !p.Submit(block) {
			t.Fatal("a pool with free workers refused a task")
		}
		wait(t, started, "a worker")
	}
	var queued atomic.Int64
	for range queue {
		if !p.Submit(func() { queued.Add(1) }) {
			t.Error("a queue with room refused a task")
		}
	}
	if p.Submit(func() { t.Error("a task that was refused ran") }) {
		t.Error("a full queue took a task")
	}
	if queued.Load() != 0 {
		t.Error("more tasks run at a time than there are workers")
	}
	close(release)
	p.Close()
	if queued.Load() != queue {
		t.Errorf("%d queued tasks ran, want %d", queued.Load(), queue)
	}
}

func TestPoolRefusesAfterClose(t *testing.T) {
	p := NewPool(0, 0) // one of each
	ran := make(chan struct{}, 1)
	if !p.Submit(func() { ran <- struct{}{} }) {
		t.Fatal("an idle pool refused a task")
	}
	p.Close()
	wait(t, ran, "a task accepted before Close")
	if p.Submit(func() {}) {
		t.Error("a closed pool took a task")
	}
	p.Close()
}

// TestPoolClosesWhileOthersSubmit races the two: what is accepted runs, and nobody sends on a closed channel.
func TestPoolClosesWhileOthersSubmit(t *testing.T) {
	for range 50 {
		p := NewPool(2, 4)
		var accepted, ran atomic.Int64
		var submitting sync.WaitGroup
		for range 4 {
			submitting.Go(func() {
				for range 50 {
					if p.Submit(func() { ran.Add(1) }) {
						accepted.Add(1)
					}
				}
			})
		}
		p.Close()
		submitting.Wait()
		if ran.Load() != accepted.Load() {
			t.Fatalf("%d tasks ran, %d were accepted", ran.Load(), accepted.Load())
		}
	}
}
