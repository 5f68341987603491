package natsbus

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// duplicateWindow is how long a publication's ID is remembered.
const duplicateWindow = 2 * time.Minute

// raisedKey is where a stream's metadata say at which number its bound for
// each topic was last raised: what a topic had lost by then cannot be told from
// how many of its messages are kept. raisedNow is the number until it is known.
const (
	raisedKey = "pushd-raised"
	raisedNow = "18446744073709551615"
)

// wanted is the configuration of a stream of pushd's own.
func (h *history) wanted() jetstream.StreamConfig {
	c, republish := h.config, h.own
	wanted := jetstream.StreamConfig{
		Name:              c.Name,
		Description:       "history of pushd's namespace " + h.namespace,
		Subjects:          []string{c.Subject, c.Subject + ".>"},
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		MaxMsgs:           -1,
		MaxConsumers:      -1,
		MaxAge:            c.Age,
		MaxBytes:          orUnlimited(c.Bytes),
		MaxMsgsPerSubject: orUnlimited(int64(c.Messages)),
		Replicas:          c.Replicas,
		Duplicates:        duplicateWindow,
		AllowDirect:       true,
		RePublish:         &republish,
		Storage:           jetstream.FileStorage,
	}
	if c.Age > 0 {
		wanted.Duplicates = min(duplicateWindow, c.Age)
	}
	if c.InMemory {
		wanted.Storage = jetstream.MemoryStorage
	}
	return wanted
}

// orUnlimited is how JetStream writes bounds.
func orUnlimited(n int64) int64 {
	if n <= 0 {
		return -1
	}
	return n
}

// difference is a setting that differs from what is wanted.
type difference struct {
	setting, from, to string
	shrinks           bool // messages may be dropped by it
}

// differences brings a stream's configuration in line, and leaves alone what pushd
// has no wish for, as placement and compression.
func differences(is *jetstream.StreamConfig, wanted jetstream.StreamConfig) (all []difference) {
	note := func(setting string, from, to any, shrinks bool) {
		all = append(all, difference{setting, fmt.Sprint(from), fmt.Sprint(to), shrinks})
	}
	bound := func(setting string, is *int64, wanted int64) {
		if orUnlimited(*is) != wanted {
			note(setting, orUnlimited(*is), wanted, wanted > 0 && (*is <= 0 || wanted < *is))
			*is = wanted
		}
	}
	if !sameSubjects(is.Subjects, wanted.Subjects) {
		note("subjects", strings.Join(is.Subjects, ","), strings.Join(wanted.Subjects, ","), false)
		is.Subjects = wanted.Subjects
	}
	if is.MaxAge != wanted.MaxAge {
		note("max_age", is.MaxAge, wanted.MaxAge, wanted.MaxAge > 0 && (is.MaxAge == 0 || wanted.MaxAge < is.MaxAge))
		is.MaxAge = wanted.MaxAge
	}
	bound("max_bytes", &is.MaxBytes, wanted.MaxBytes)
	if is.MaxMsgsPerSubject > 0 && (wanted.MaxMsgsPerSubject < 0 || wanted.MaxMsgsPerSubject > is.MaxMsgsPerSubject) {
		is.Metadata = maps.Clone(is.Metadata)
		if is.Metadata == nil {
			is.Metadata = make(map[string]string)
		}
		is.Metadata[raisedKey] = raisedNow
	}
	bound("max_msgs_per_subject", &is.MaxMsgsPerSubject, wanted.MaxMsgsPerSubject)
	if is.Replicas != wanted.Replicas {
		note("num_replicas", is.Replicas, wanted.Replicas, false)
		is.Replicas = wanted.Replicas
	}
	if is.Duplicates != wanted.Duplicates {
		note("duplicate_window", is.Duplicates, wanted.Duplicates, false)
		is.Duplicates = wanted.Duplicates
	}
	if is.Discard != wanted.Discard || is.DiscardNewPerSubject {
		note("discard", is.Discard, wanted.Discard, false)
		is.Discard, is.DiscardNewPerSubject = wanted.Discard, false
	}
	if !is.AllowDirect {
		note("allow_direct", false, true, false)
		is.AllowDirect = true
	}
	if is.NoAck {
		note("no_ack", true, false, false)
		is.NoAck = false
	}
	if is.RePublish == nil || *is.RePublish != *wanted.RePublish {
		from := "none"
		if is.RePublish != nil {
			from = is.RePublish.Source + " to " + is.RePublish.Destination
		}
		note("republish", from, wanted.RePublish.Source+" to "+wanted.RePublish.Destination, false)
		is.RePublish = wanted.RePublish
	}
	return all
}

func sameSubjects(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// command is what makes a stream as wanted.
func command(verb string, c jetstream.StreamConfig) string {
	name := map[string]string{"create": "add", "update": "edit"}[verb]
	parts := []string{"nats stream " + name, c.Name, "--subjects='" + strings.Join(c.Subjects, ",") + "'"}
	if verb == "create" {
		parts = append(parts, "--storage="+storageName(c.Storage), "--retention=limits")
	}
	parts = append(parts, "--discard=old", "--replicas="+strconv.Itoa(c.Replicas), "--max-age="+c.MaxAge.String(),
		fmt.Sprintf("--max-bytes=%d --max-msgs-per-subject=%d", c.MaxBytes, c.MaxMsgsPerSubject),
		"--dupe-window="+c.Duplicates.String(), "--allow-direct",
		"--republish-source='"+c.RePublish.Source+"'", "--republish-destination='"+c.RePublish.Destination+"'")
	return strings.Join(parts, " ")
}

func storageName(s jetstream.StorageType) string {
	if s == jetstream.MemoryStorage {
		return "memory"
	}
	return "file"
}

func retentionName(r jetstream.RetentionPolicy) string {
	return map[jetstream.RetentionPolicy]string{
		jetstream.LimitsPolicy: "limits", jetstream.InterestPolicy: "interest", jetstream.WorkQueuePolicy: "workqueue",
	}[r]
}
