package publish

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// httpTimeout is how long one request may take.
const httpTimeout = 30 * time.Second

type httpPublisher struct {
	client *http.Client
	urls   []string
	bodies []body
	header http.Header
	buffer bytes.Buffer
}

func openHTTP(c Config, topics []string) (Publisher, error) {
	p := &httpPublisher{
		// One connection of its own: requests are sent one after the other, in order.
		client: &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}, Timeout: httpTimeout},
		bodies: newBodies(c.Body, topics), header: http.Header{},
	}
	for _, line := range c.Header {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("header %q has no colon", line)
		}
		p.header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	for _, topic := range topics {
		p.urls = append(p.urls, fill(c.URL, topic))
	}
	return p, nil
}

// Publish returns when the server has answered.
func (p *httpPublisher) Publish(topic int, payload []byte) error {
	request, err := http.NewRequest(http.MethodPost, p.urls[topic], bytes.NewReader(p.bodies[topic].with(&p.buffer, payload)))
	if err != nil {
		return err
	}
	request.Header = p.header
	answer, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode >= 300 {
		return fmt.Errorf("%s: %s: %s", p.urls[topic], answer.Status, bytes.TrimSpace(text))
	}
	return nil
}

func (p *httpPublisher) Flush() error { return nil }

func (p *httpPublisher) Close() error {
	p.client.CloseIdleConnections()
	return nil
}
