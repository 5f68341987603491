// Package cluster is what a node knows of the others: that they are there, what
// they say of themselves, and how many connections their topics have. It speaks to
// nobody: what came from other nodes is given to it, and it says what to ask them.
//
// A node is heard once a second, and forgotten when it was silent for more than
// three ticks, or says goodbye. With it go the counts that it told.
package cluster

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pushd/pushd/internal/statistics"
)

// silence is how many ticks of a second a node may miss.
const silence = 3

// askEvery is for how many ticks a node that was asked for its state is not asked again.
const askEvery = 3

// applySlice is how many counts are written before others may read.
const applySlice = 512

// Cluster is what one node knows of the others. Heard, Told and Tick are of one
// goroutine; all else may be called from any.
type Cluster struct {
	// Static.
	self string // name of the node itself
	most int    // counts that are kept, over all nodes

	// Guarded by mu; written by the one goroutine alone.
	mu     sync.RWMutex
	others map[string]*other
	kept   int // counts, over all others

	// Atomic.
	unkept atomic.Uint64 // counts that there was no room for
}

// other is another node.
type other struct {
	started int64            // of which run of it this is: ms since 1970 by its clock
	last    *statistics.Node // nil: only its counts have been heard
	missed  int              // ticks since it was heard

	sequence uint64 // of its last message of counts
	whole    bool   // counts has all that it told up to there
	filling  bool   // pieces of its state are coming, none is missing yet
	asked    int    // ticks until it may be asked for its state again
	state    uint32 // number of the state that counts are of
	counts   map[string]count
	peak     int // most counts since the map was made
}

// count is how many connections a topic has on another node.
type count struct {
	connections uint32
	state       uint32 // the state, or the change after it, that said so
}

// New makes an empty cluster around a node. It keeps at most so many counts of
// topics of others, over all of them.
func New(self string, most int) *Cluster {
	return &Cluster{self: self, most: most, others: make(map[string]*other)}
}

// find returns the node that speaks, nil where that is the node itself or a run of
// it that has ended. mu must be held.
func (c *Cluster) find(name string, started int64) *other {
	if name == c.self {
		return nil
	}
	o := c.others[name]
	switch {
	case o != nil && started < o.started:
		return nil
	case o == nil || started > o.started:
		c.forget(name)
		o = &other{started: started, whole: true} // before its first message there is nothing to know
		c.others[name] = o
	}
	o.missed = 0
	return o
}

// forget drops a node with its counts. mu must be held.
func (c *Cluster) forget(name string) {
	if o := c.others[name]; o != nil {
		c.kept -= len(o.counts)
		delete(c.others, name)
	}
}

// Heard takes what a node says of itself.
func (c *Cluster) Heard(n *statistics.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.find(n.Node, n.Started)
	if o == nil {
		return
	}
	if n.State == statistics.StateGone {
		c.forget(n.Node)
		return
	}
	o.last = n
	if n.Occupancy > o.sequence {
		o.whole, o.filling = false, false
	}
}

// Told takes a message of counts.
func (c *Cluster) Told(p *Piece) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.find(p.Node, p.Started)
	if o == nil || p.Sequence <= o.sequence { // or it was overtaken, and what is missing is known
		return
	}
	if p.Sequence != o.sequence+1 {
		o.whole, o.filling = false, false
	}
	o.sequence = p.Sequence
	if p.Kind == State && p.First {
		o.filling = true
		o.state++
	}
	n := 0
	for topic, connections := range p.Topics {
		if n++; n%applySlice == 0 {
			c.mu.Unlock()
			c.mu.Lock()
		}
		c.put(o, topic, connections)
	}
	if p.Kind == State && p.Last && o.filling {
		c.endState(o)
	}
}

// put keeps a count. mu must be held.
func (c *Cluster) put(o *other, topic string, connections uint32) {
	_, known := o.counts[topic]
	switch {
	case connections == 0:
		if known {
			delete(o.counts, topic)
			c.kept--
		}
		return
	case !known && c.kept >= c.most:
		c.unkept.Add(1)
		return
	case !known:
		c.kept++
	}
	if o.counts == nil {
		o.counts = make(map[string]count)
	}
	o.counts[topic] = count{connections, o.state}
	o.peak = max(o.peak, len(o.counts))
}

// endState drops what the whole state did not have. mu must be held.
func (c *Cluster) endState(o *other) {
	o.whole, o.filling, o.asked = true, false, 0
	for topic, n := range o.counts {
		if n.state != o.state {
			delete(o.counts, topic)
			c.kept--
		}
	}
	if len(o.counts) < o.peak/4 { // a map keeps the room of its largest size
		counts := make(map[string]count, len(o.counts))
		for topic, n := range o.counts {
			counts[topic] = n
		}
		o.counts, o.peak = counts, len(counts)
	}
}

// Tick is called once a second. It returns the nodes that are to be asked for their
// state, since something of it is missing, and those that are gone.
func (c *Cluster) Tick() (ask, gone []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, o := range c.others {
		if o.missed++; o.missed > silence {
			gone = append(gone, name)
			c.forget(name)
			continue
		}
		if o.asked > 0 {
			o.asked--
		}
		if !o.whole && !o.filling && o.asked == 0 && c.most > 0 {
			o.asked = askEvery
			ask = append(ask, name)
		}
	}
	return ask, gone
}

// Connections is how many connections a topic has on the other nodes, as they told last.
func (c *Cluster) Connections(topic string) int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	n := 0
	for _, o := range c.others {
		n += int(o.counts[topic].connections)
	}
	return n
}

// ByNode is Connections, node by node; those with none are left out.
func (c *Cluster) ByNode(topic string) map[string]int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	by := make(map[string]int)
	for name, o := range c.others {
		if n := o.counts[topic].connections; n > 0 {
			by[name] = int(n)
		}
	}
	return by
}

// Knows reports whether all that these nodes told last is known.
func (c *Cluster) Knows(names []string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return !slices.ContainsFunc(names, func(name string) bool {
		o := c.others[name]
		return o == nil || o.last == nil || !o.whole
	})
}

// Counts is how many counts are kept, and how many there was no room for since the start.
func (c *Cluster) Counts() (kept int, unkept uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.kept, c.unkept.Load()
}

// Nodes are the others that have said something of themselves, by name. They are
// shared, and nobody changes them.
func (c *Cluster) Nodes() []*statistics.Node {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var nodes []*statistics.Node
	for _, o := range c.others {
		if o.last != nil {
			nodes = append(nodes, o.last)
		}
	}
	slices.SortFunc(nodes, func(a, b *statistics.Node) int { return strings.Compare(a.Node, b.Node) })
	return nodes
}
