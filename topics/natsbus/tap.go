package natsbus

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
)

// maxTapped is how many messages may wait for who listens. What comes beyond is
// dropped: nodes that talk to each other find holes themselves.
const maxTapped = 4096

// Listen has take called for each message to one of these topics, which may be
// patterns that do not overlap, in the order of its publisher and by one goroutine,
// until the Bus is closed. Nothing of it comes to the sink, no message is told as lost,
// and what the account may not hear only shows in the log.
func (b *Bus) Listen(topics []string, take func(topic string, data []byte)) error {
	arrived := make(chan *nats.Msg, maxTapped)
	for _, topic := range topics {
		if _, err := b.pub.nc.ChanSubscribe(b.publisher.prefix+topic, arrived); err != nil {
			return fmt.Errorf("listening to %s: %w", topic, err)
		}
	}
	b.reading.Go(func() {
		for {
			select {
			case m := <-arrived:
				take(strings.TrimPrefix(m.Subject, b.publisher.prefix), m.Data)
			case <-b.reader.stop:
				return
			}
		}
	})
	return nil
}
