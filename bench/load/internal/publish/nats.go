package publish

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"
)

// defaultSubject is where pushd listens.
const defaultSubject = "push.{topic}"

type natsPublisher struct {
	conn     *nats.Conn
	subjects []string
}

func openNATS(u *url.URL, topics []string) (Publisher, error) {
	template, err := url.PathUnescape(strings.TrimPrefix(u.Path, "/"))
	if err != nil {
		return nil, err
	}
	if template == "" {
		template = defaultSubject
	}
	if len(topics) > 1 && !strings.Contains(template, "{topic}") {
		return nil, fmt.Errorf("subject %q has no {topic}", template)
	}
	server := *u
	server.Path, server.RawPath = "", ""
	// A publisher that reconnects would have lost messages of which it does not know.
	p := &natsPublisher{}
	if p.conn, err = nats.Connect(server.String(), nats.NoReconnect(), nats.Name("pushbench")); err != nil {
		return nil, err
	}
	for _, topic := range topics {
		p.subjects = append(p.subjects, fill(template, topic))
	}
	return p, nil
}

func (p *natsPublisher) Publish(topic int, payload []byte) error {
	return p.conn.Publish(p.subjects[topic], payload)
}

// Flush does nothing: the client flushes by itself as soon as it is free to.
func (p *natsPublisher) Flush() error { return p.conn.LastError() }

func (p *natsPublisher) Close() error {
	err := p.conn.Flush()
	p.conn.Close()
	return err
}
