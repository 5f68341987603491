package natsbus

import (
	"errors"
	"time"

	"github.com/pushd/pushd/topics"
)

// ErrNoHistory means that a namespace keeps none.
var ErrNoHistory = errors.New("namespace keeps no history")

// StreamConfig says how a namespace's history is kept. At least one of the
// bounds is set, or Existing.
type StreamConfig struct {
	// Name of the stream. Default: the prefix and the namespace, with "_" between all tokens.
	Name string

	// Subject below which the namespace's topics lie: topic "scores.a.b" is
	// SUBJECT.a.b there. Default: PREFIX.NAMESPACE.
	Subject string

	// Existing means that the stream is its owner's: it is never created nor
	// changed, and bounds and replicas are what it has.
	Existing bool

	Age      time.Duration // 0: no bound
	Bytes    int64         // 0: no bound
	Messages int           // for each topic; 0: no bound
	Replicas int           // 0: 1
	InMemory bool          // not on disk, whatever the server has
}

var _ topics.History = (*Bus)(nil)

// Stream is of topics.History.
func (b *Bus) Stream(namespace string, done func(topics.Stream, error)) {
	go done(topics.Stream{}, ErrNoHistory)
}

// Read is of topics.History.
func (b *Bus) Read(q topics.Query, done func(topics.Page, error)) {
	go done(topics.Page{}, ErrNoHistory)
}

// Intact is of topics.History.
func (b *Bus) Intact(namespace, pattern string, after uint64, done func(bool, error)) {
	go done(false, ErrNoHistory)
}
