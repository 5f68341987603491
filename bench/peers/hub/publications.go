package hub

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// A publication on the wire: u32 big-endian length of the rest, u8 length of the topic, the topic, the payload.
const maxPublication = 1<<20 - 4 // bytes of the rest

func acceptPublishers(listener net.Listener, publish Publish) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "publish port:", err)
			return
		}
		go servePublisher(conn, publish)
	}
}

func servePublisher(conn net.Conn, publish Publish) {
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 64<<10)
	for {
		topic, payload, err := readPublication(in)
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			fmt.Fprintf(os.Stderr, "publisher %s: %v\n", conn.RemoteAddr(), err)
			return
		}
		publish(topic, payload)
	}
}

// readPublication returns io.EOF where the publisher has ended between two publications.
func readPublication(in *bufio.Reader) (topic string, payload []byte, err error) {
	var header [5]byte
	if _, err := io.ReadFull(in, header[:]); err != nil {
		return "", nil, err
	}
	rest, topicLength := int(binary.BigEndian.Uint32(header[:])), int(header[4])
	if rest > maxPublication || rest < 1+topicLength {
		return "", nil, fmt.Errorf("publication of %d bytes, of which a topic of %d; at most %d in all", rest, topicLength, maxPublication)
	}
	body := make([]byte, rest-1)
	if _, err := io.ReadFull(in, body); err != nil {
		return "", nil, fmt.Errorf("publication cut short: %v", err)
	}
	return string(body[:topicLength]), body[topicLength:], nil
}
