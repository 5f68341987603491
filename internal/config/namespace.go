package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pushd/pushd/topics"
)

// Bounds of what can be kept. They keep what is surely a mistake out; NATS has
// limits of its own.
const (
	leastAge     = time.Second
	mostAge      = 10 * 365 * 24 * time.Hour
	mostBytes    = 1 << 50
	mostMessages = 1_000_000_000
	mostReplicas = 5 // of JetStream
)

// Longest names and subjects, in bytes. With a topic behind it, a subject stays
// well below what NATS takes on one line.
const (
	longestStream  = 255
	longestSubject = 255
)

// namespaces checks the settings of each namespace, and what they have in common.
func (v *validator) namespaces(c *Config) {
	v.unnamed(keyDefault, c, c.Default)
	var kept []string // that keep history and can be compared
	for _, name := range slices.Sorted(maps.Keys(c.Namespaces)) {
		key := keyNamespaces + "." + name
		if err := topics.CheckTopic(name); err != nil || topics.Namespace(name) != name {
			v.addf(key, "%q under namespaces: is no namespace: it must be one token of A-Z a-z 0-9 _ -", name)
			continue
		}
		if name == ReservedNamespace {
			v.addf(key, "%q under namespaces: is the server's own, and has no settings: choose another name", name)
			continue
		}
		before := len(v.found)
		v.namespace(key, c, c.Namespaces[name])
		if len(v.found) == before && c.Namespaces[name].KeepsHistory() {
			kept = append(kept, name)
		}
	}
	v.apart(c, kept)
}

// unnamed checks what holds for namespaces that nobody named: they cannot have
// a stream, for which there would be no end of them.
func (v *validator) unnamed(key string, c *Config, ns Namespace) {
	v.common(key, c, ns)
	const cure = "a stream is made for a namespace by its name: list those that keep history under namespaces:"
	if ns.Delivery == DeliveryLatest || ns.Delivery == DeliveryAll {
		v.addf(key+".delivery", `%s.delivery is %q, which needs history, and %s`, key, ns.Delivery, cure)
	}
	for _, setting := range []struct {
		name string
		set  bool
	}{{keyHistory, ns.History != (History{})}, {"stream", ns.Stream != ""}, {"subject", ns.Subject != ""}} {
		if setting.set {
			v.addf(key+"."+setting.name, "%s.%s is set, but %s", key, setting.name, cure)
		}
	}
}

// common checks what any namespace may have.
func (v *validator) common(key string, c *Config, ns Namespace) {
	v.enums(key+".", settings(&ns))
	if ns.BatchDelay < 0 || ns.BatchDelay > maxBatchDelay {
		v.addf(key+".batch_delay", "%s.batch_delay is %v, but must be 0s to %v", key, ns.BatchDelay, maxBatchDelay)
	}
	if !(ns.MaxRate >= 0 && ns.MaxRate <= mostRate) {
		v.addf(key+".max_rate", "%s.max_rate is %v, but must be 0 (no limit) to %v updates a second", key, ns.MaxRate, mostRate)
	}
	switch ns.Compression {
	case "", On, Off:
	default:
		v.addf(key+".compression", "%s.compression is %q, but must be %s or %s", key, ns.Compression, On, Off)
	}
	if ns.MaxMessage > c.MaxMessage {
		v.addf(key+".max_message", "%s.max_message is %v, but no message may be larger than --max-message %v", key, ns.MaxMessage, c.MaxMessage)
	}
}

// mostRate is beyond what any screen shows.
const mostRate = 1000.0

func (v *validator) namespace(key string, c *Config, ns Namespace) {
	v.common(key, c, ns)
	kept := ns.KeepsHistory()
	if (ns.Delivery == DeliveryLatest || ns.Delivery == DeliveryAll) && !kept {
		v.addf(key+".delivery", `%s.delivery is %q, which needs history: give for instance history: {age: 24h}, or stream:`, key, ns.Delivery)
	}
	if ns.History != (History{}) {
		v.history(key+"."+keyHistory, c, ns.History)
		if ns.Stream != "" {
			v.addf(key+"."+keyHistory, "%s.history is set, but stream %s is its owner's and has bounds of its own: remove one of the two", key, ns.Stream)
		}
	}
	if ns.Stream != "" {
		if problem := streamProblem(ns.Stream); problem != "" {
			v.addf(key+".stream", "%s.stream is %q, but %s", key, ns.Stream, problem)
		}
	}
	switch {
	case ns.Subject == "":
	case !kept:
		v.addf(key+".subject", "%s.subject is %q, but only a namespace that keeps history can have its topics elsewhere than below --prefix: give history: or stream:", key, ns.Subject)
	default:
		if problem := subjectProblem(ns.Subject); problem != "" {
			v.addf(key+".subject", "%s.subject is %q, but %s", key, ns.Subject, problem)
		}
	}
}

func (v *validator) history(key string, c *Config, h History) {
	if h.Age == 0 && h.Bytes == 0 && h.Messages == 0 {
		v.addf(key, "%s would keep everything for ever: give age, bytes or messages", key)
	}
	bounded(v, key+".age", h.Age, leastAge, mostAge)
	bounded(v, key+".bytes", h.Bytes, c.MaxMessage, mostBytes)
	bounded(v, key+".messages", h.Messages, 1, mostMessages)
	bounded(v, key+".replicas", h.Replicas, 1, mostReplicas)
	if h.Replicas > 1 && len(c.NATS) == 0 {
		v.addf(key+".replicas", "%s.replicas is %d, but the embedded NATS server is one alone: join a cluster with --nats, or leave it at 1", key, h.Replicas)
	}
	switch {
	case h.Storage != "" && h.Storage != StorageFile && h.Storage != StorageMemory:
		v.addf(key+".storage", "%s.storage is %q, but must be %s or %s", key, h.Storage, StorageFile, StorageMemory)
	case h.Storage == StorageFile && c.diskless():
		v.addf(key+".storage", "%s.storage is %q, but --store %s keeps nothing on disk: give --store a directory, or leave storage out", key, h.Storage, MemoryStore)
	}
}

// bounded checks a part of a mapping that may be left out.
func bounded[T int | Bytes | time.Duration](v *validator, key string, value, low, high T) {
	if value != 0 && (value < low || value > high) {
		v.addf(key, "%s is %v, but must be %v to %v", key, value, low, high)
	}
}

// apart checks that no two namespaces have the same messages: those of one
// would be delivered as the other's.
func (v *validator) apart(c *Config, kept []string) {
	for i, name := range kept {
		key := keyNamespaces + "." + name
		subject := c.SubjectOf(name)
		if subject != c.Prefix+"."+name && overlap(subject, c.Prefix) {
			v.addf(key+".subject", "%s.subject is %q, which overlaps with --prefix %s, below which the other namespaces lie", key, subject, c.Prefix)
		}
		for _, other := range kept[:i] {
			if stream := c.StreamOf(name); stream == c.StreamOf(other) {
				v.addf(key+".stream", "namespaces %s and %s have the same stream, %s: each needs its own", other, name, stream)
			}
			if theirs := c.SubjectOf(other); overlap(subject, theirs) {
				v.addf(key+".subject", "namespaces %s and %s overlap: one has the subjects below %s, the other those below %s", other, name, theirs, subject)
			}
		}
	}
}

// overlap reports whether one subject is the other, or lies below it.
func overlap(a, b string) bool {
	return strings.HasPrefix(a+".", b+".") || strings.HasPrefix(b+".", a+".")
}

// streamProblem returns what is wrong with a stream's name, or "".
func streamProblem(name string) string {
	if len(name) > longestStream {
		return fmt.Sprintf("a stream's name has at most %d bytes", longestStream)
	}
	for _, r := range name {
		if r <= ' ' || r > '~' || strings.ContainsRune(`.*>/\`, r) {
			return fmt.Sprintf("a stream's name cannot have %q", r)
		}
	}
	return ""
}

// subjectProblem returns what is wrong with a subject, or "". Unlike a topic
// it may have any printable character, as subjects of others do.
func subjectProblem(subject string) string {
	if len(subject) > longestSubject {
		return fmt.Sprintf("it may have at most %d bytes", longestSubject)
	}
	if strings.HasPrefix(subject, "$") || strings.HasPrefix(subject, "_INBOX") {
		return "what starts with $ or _INBOX belongs to NATS itself"
	}
	for token := range strings.SplitSeq(subject, ".") {
		if token == "" {
			return "it must be a NATS subject: tokens joined by dots, none of them empty"
		}
		for _, r := range token {
			if r <= ' ' || r > '~' || r == '*' || r == '>' {
				return fmt.Sprintf("it must be one NATS subject, and cannot have %q", r)
			}
		}
	}
	return ""
}
