package publish

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
)

type tcpPublisher struct {
	conn   net.Conn
	out    *bufio.Writer
	topics []string
	header [5]byte
}

func openTCP(ctx context.Context, address string, topics []string) (Publisher, error) {
	for _, topic := range topics {
		if len(topic) > 255 {
			return nil, fmt.Errorf("topic %q has more than the 255 bytes of its length field", topic)
		}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &tcpPublisher{conn: conn, out: bufio.NewWriterSize(conn, 64<<10), topics: topics}, nil
}

func (p *tcpPublisher) Publish(topic int, payload []byte) error {
	name := p.topics[topic]
	binary.BigEndian.PutUint32(p.header[:], uint32(1+len(name)+len(payload)))
	p.header[4] = byte(len(name))
	// A bufio.Writer keeps its first error for Flush.
	_, _ = p.out.Write(p.header[:])
	_, _ = p.out.WriteString(name)
	_, err := p.out.Write(payload)
	return err
}

func (p *tcpPublisher) Flush() error { return p.out.Flush() }
func (p *tcpPublisher) Close() error { return p.conn.Close() }
