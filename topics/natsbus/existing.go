package natsbus

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// checkExisting says in one line what a stream of somebody else's lacks, and
// what cures it.
func checkExisting(h *history, c jetstream.StreamConfig) error {
	fail := func(problem, cure string) error {
		return fmt.Errorf("namespace %s: stream %s %s: %s", h.namespace, c.Name, problem, cure)
	}
	edit := func(flags string) string { return "nats stream edit " + c.Name + " " + flags }
	republish := edit(fmt.Sprintf("--republish-source='%s' --republish-destination='%s'", h.own.Source, h.own.Destination))

	switch {
	case c.Mirror != nil || len(c.Sources) > 0:
		return fail("takes its messages from other streams, so that what pushd publishes gets other numbers", "name the stream that stores "+h.config.Subject+" itself")
	case c.SubjectTransform != nil:
		return fail("stores under other subjects than were published to", "name a stream without a subject transform")
	}
	for _, subject := range c.Subjects {
		if !h.covers(subject) {
			return fail("stores "+subject+", which is not "+h.config.Subject+" nor below it, so that its numbers would leave gaps", "correct the namespace's subject, or move the rest to another stream")
		}
	}
	switch {
	case c.Retention == jetstream.WorkQueuePolicy:
		return fail("has workqueue retention, so that consumers remove messages", "name a stream with limits retention")
	case c.Retention != jetstream.LimitsPolicy:
		return fail("has interest retention, so that what nobody consumes is not kept", edit("--retention=limits"))
	case c.NoAck:
		return fail("does not acknowledge", edit("--ack"))
	case !c.AllowDirect:
		return fail("allows no direct gets", edit("--allow-direct"))
	case c.RePublish == nil:
		return fail("does not republish", republish)
	case c.RePublish.HeadersOnly:
		return fail("republishes headers alone", edit("--no-republish-headers"))
	}
	live, err := newRepublish(*c.RePublish)
	if err != nil {
		return fail("republishes in a way that cannot be followed: "+err.Error(), republish)
	}
	for _, subject := range c.Subjects {
		if _, all := live.apply(subject); !all {
			return fail(fmt.Sprintf("republishes %s alone, not all of %s", strings.Join(live.source, "."), subject), republish)
		}
	}
	return nil
}
