package natsbus

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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

// history is a namespace's stream, as far as it is known here.
type history struct {
	// Static after Open.
	namespace string
	config    StreamConfig        // with its defaults
	own       jetstream.RePublish // what a stream of pushd's own has
	live      *republish
	lives     []string // all that the stream republishes, as patterns
	maxData   int      // of a message, in bytes; 0: no limit
	lane      *lane

	newest uint64 // number that came live; only the reader touches it

	// Atomic.
	epoch    atomic.Uint32
	last     atomic.Uint64 // newest number that is known here
	perTopic atomic.Int64  // messages kept of each; 0: no limit
	raised   atomic.Uint64 // before this number, topics may have lost more than their bound tells
	renewed  atomic.Int64  // when renew last began, in ms since the epoch
}

// newHistories checks what namespaces keep, before anything is started.
func newHistories(cfg Config) (map[string]*history, error) {
	histories := make(map[string]*history, len(cfg.Streams))
	for _, namespace := range slices.Sorted(maps.Keys(cfg.Streams)) {
		h, err := newHistory(cfg, namespace)
		if err != nil {
			return nil, err
		}
		histories[namespace] = h
	}
	if len(cfg.URLs) == 0 && cfg.Store == storeMemory {
		keepInMemory(histories)
	}
	return histories, nil
}

// keepInMemory is for an embedded server without a folder. Streams without a
// bound of bytes share half of its memory that others leave: without it they
// would refuse what is new when all is full, rather than drop what is old.
func keepInMemory(histories map[string]*history) {
	left, unbounded := int64(maxStreamMemory), int64(0)
	for _, h := range histories {
		h.config.InMemory = true
		left -= h.config.Bytes
		if h.config.Bytes == 0 {
			unbounded++
		}
	}
	for _, h := range histories {
		if h.config.Bytes == 0 {
			h.config.Bytes = max(left/2/unbounded, 1)
		}
	}
}

// newHistory checks a configuration, as far as that needs no server.
func newHistory(cfg Config, namespace string) (*history, error) {
	c := cfg.Streams[namespace]
	fail := func(format string, args ...any) (*history, error) {
		return nil, fmt.Errorf("namespace %s: history: "+format, append([]any{namespace}, args...)...)
	}
	if err := topics.CheckTopic(namespace); err != nil || topics.Namespace(namespace) != namespace {
		return nil, fmt.Errorf("history of %q: a namespace is one token of A-Z a-z 0-9 _ -: correct its name", namespace)
	}
	if c.Name == "" {
		c.Name = strings.ReplaceAll(cfg.Prefix, ".", "_") + "_" + namespace
	}
	if c.Subject == "" {
		c.Subject = cfg.Prefix + "." + namespace
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	switch {
	case strings.ContainsAny(c.Name, " \t\r\n.*>/\\"):
		return fail("stream name %q holds a blank or one of . * > / \\: correct it", c.Name)
	case !validSubject(c.Subject):
		return fail("subject %q is no subject without wildcards: correct it", c.Subject)
	case c.Age < 0 || c.Bytes < 0 || c.Messages < 0 || c.Replicas < 0:
		return fail("age, bytes, messages and replicas cannot be negative: correct them")
	case c.Replicas > 5:
		return fail("%d replicas: NATS keeps 5 at most", c.Replicas)
	case c.Age > 0 && c.Age < 100*time.Millisecond:
		return fail("age %v: NATS takes 100ms or more", c.Age)
	case !c.Existing && c.Age == 0 && c.Bytes == 0 && c.Messages == 0:
		return fail("stream %s would grow for ever: set age, bytes or messages", c.Name)
	}
	return &history{
		namespace: namespace,
		config:    c,
		own:       ownRepublish(cfg.Prefix, namespace, c.Subject),
		maxData:   cfg.MaxMessage,
	}, nil
}

func validSubject(s string) bool {
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || strings.ContainsAny(token, " \t\r\n*>") {
			return false
		}
	}
	return true
}

// subject of a topic or pattern of the namespace, in the stream.
func (h *history) subject(topic string) string {
	return h.config.Subject + topic[len(h.namespace):]
}

// subjects of all topics of the namespace that match pattern; "": all.
func (h *history) subjects(pattern string) []string {
	if pattern == "" {
		return []string{h.config.Subject, h.config.Subject + ".>"}
	}
	return []string{h.subject(pattern)}
}

// errNotStored means that a message lacks what its stream says of it.
var errNotStored = errors.New("not from the stream")

// decode reads a message as its stream sends it: republished, or as the reply
// to a direct get. prev is of the same topic in the first case, and of the same
// reply in the second. A topic that is none of the namespace is a NameError.
func (h *history) decode(m *nats.Msg) (msg topics.Message, prev uint64, err error) {
	seq, errSeq := strconv.ParseUint(header(m, nats.JSSequence), 10, 64)
	at, errTime := time.Parse(time.RFC3339Nano, header(m, nats.JSTimeStamp))
	if errSeq != nil || errTime != nil {
		return msg, 0, errNotStored
	}
	prev, _ = strconv.ParseUint(header(m, nats.JSLastSequence), 10, 64) // not in the reply to a get of one
	msg = topics.Message{
		Data:   m.Data,
		Time:   at.UnixMilli(),
		Cursor: topics.Cursor{Epoch: h.epoch.Load(), Seq: seq, Stamp: stamp(at)},
	}
	subject := header(m, nats.JSSubject)
	rest, below := strings.CutPrefix(subject, h.config.Subject)
	if !below || rest != "" && rest[0] != '.' {
		return msg, prev, &topics.NameError{Kind: "topic", Name: subject, Problem: "is not below " + h.config.Subject}
	}
	msg.Topic = h.namespace + rest // of its own: subject is a piece of all headers together
	return msg, prev, topics.CheckTopic(msg.Topic)
}

// header returns the last value of a header: the server appends its own behind
// those of the publisher, who may have sent the same names.
func header(m *nats.Msg, name string) string {
	values := m.Header[name]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// stamp is of topics.Cursor, from a stream's time of a message.
func stamp(at time.Time) uint32 { return max(uint32(at.UnixMicro()), 1) }

// note keeps what the stream's information says.
func (h *history) note(info *jetstream.StreamInfo) {
	hash := fnv.New32a()
	fmt.Fprintf(hash, "%s\n%d", info.Config.Name, info.Created.UnixNano())
	h.epoch.Store(max(hash.Sum32(), 1))
	h.last.Store(info.State.LastSeq)
	h.perTopic.Store(max(info.Config.MaxMsgsPerSubject, 0))
	raised, _ := strconv.ParseUint(info.Config.Metadata[raisedKey], 10, 64)
	h.raised.Store(raised)
}
