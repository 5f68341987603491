package topics

import "time"

// A feed may trade latency for CPU: its shards are not told of each batch, but
// of all that has come since the first message that found the feed at rest.
// They are cursors over its ring, so to tell them later is all that it takes;
// one that is at work reads on all the same, and what it sends then is early.

// delay has the feeds that are to be told of after the same time. It has one
// timer for them all, which runs while some wait.
type delay struct {
	// Static.
	hub  *Hub
	wait time.Duration

	// Guarded by Hub.mu.
	waiting []delayed   // in the order of time, each feed once
	timer   *time.Timer // nil: none has waited yet
}

// delayed is a feed that gathers messages up to a time.
type delayed struct {
	feed  *feed
	until time.Time
}

// delayOf returns the delay of feeds that wait so long, nil if they do not. mu must be held.
func (h *Hub) delayOf(wait time.Duration) *delay {
	if wait <= 0 {
		return nil
	}
	for _, d := range h.delays {
		if d.wait == wait {
			return d
		}
	}
	d := &delay{hub: h, wait: wait}
	h.delays = append(h.delays, d)
	return d
}

// begin has a feed gather, unless it does so already.
func (d *delay) begin(f *feed) {
	if f.delayed {
		return // it was told of early, and is so again at the end
	}
	f.delayed = true
	d.waiting = append(d.waiting, delayed{f, time.Now().Add(d.wait)})
	if len(d.waiting) == 1 {
		d.rest(d.wait)
	}
}

// rest sets the timer. Close waits for those who are at work then.
func (d *delay) rest(wait time.Duration) {
	d.hub.timers.Add(1)
	if d.timer == nil {
		d.timer = time.AfterFunc(wait, d.end)
	} else {
		d.timer.Reset(wait)
	}
}

// end tells of the feeds whose time has come.
func (d *delay) end() {
	h := d.hub
	defer h.timers.Done()
	h.mu.Lock()
	defer h.mu.Unlock()
	now, ended := time.Now(), 0
	for ended < len(d.waiting) && !d.waiting[ended].until.After(now) {
		ended++
	}
	d.tell(ended)
	if len(d.waiting) > 0 {
		d.rest(d.waiting[0].until.Sub(now))
	}
}

// tell tells of the first n feeds, which are at rest then.
func (d *delay) tell(n int) {
	for i := range n {
		f := d.waiting[i].feed
		f.delayed = false
		d.hub.tell(f)
	}
	clear(d.waiting[:n])
	if d.waiting = d.waiting[n:]; len(d.waiting) == 0 {
		d.waiting = nil // a crowd may have waited, and its room would stay
	}
}

// hasten tells of feeds before their time, so that a delay by itself never
// costs a message: of one that has gathered half of what its ring takes, and of
// all when half of what all rings take has come since this was done last.
func (h *Hub) hasten(f *feed, e *entry) {
	f.gathered++
	if f.delay != nil && int(f.gathered) >= h.cfg.RingMessages/2 {
		h.tell(f)
	}
	if h.gathered += e.weight(); h.gathered < h.cfg.RingMemory/2 {
		return
	}
	h.gathered = 0
	for _, d := range h.delays {
		for _, w := range d.waiting {
			h.tell(w.feed)
		}
	}
}

// Close tells the shards of what is gathered, and stops the timers. What is
// delivered afterwards is not delayed.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	for _, d := range h.delays {
		d.tell(len(d.waiting))
		if d.timer != nil && d.timer.Stop() {
			h.timers.Done()
		}
	}
	h.mu.Unlock()
	h.timers.Wait()
}
