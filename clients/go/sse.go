package pushd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"time"
)

// stream reads one stream of Server-Sent Events.
func (p *pull) stream(ctx context.Context) error {
	response, _, err := p.get(ctx, "/sse", "")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	kind := response.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(kind); err != nil || media != "text/event-stream" {
		return fmt.Errorf("the answer is %q and no stream of events: is it a pushd?", kind)
	}
	quiet := time.Duration(0) // until the welcome
	events := newEventReader(response.Body)
	events.heard = func() {
		if quiet > 0 {
			p.expect(quiet)
		}
	}
	for {
		text, err := events.next()
		if err != nil {
			return err
		}
		if quiet == 0 {
			m := &envelope{}
			if err := decode(text, m); err != nil {
				return err
			}
			if m.Type == "welcome" {
				heartbeat := defaultHeartbeat
				if m.Heartbeat > 0 {
					heartbeat = milliseconds(m.Heartbeat)
				}
				quiet = heartbeat + p.client.options.Timeout
				p.expect(quiet)
				p.link.welcomed(m.Client, p)
				continue
			}
		}
		if err := p.handle(text); err != nil {
			return err
		}
	}
}

// eventReader reads the data of events, as section 9.2.6 of the HTML standard
// has it, but for the ends of lines: a pushd ends them with LF.
type eventReader struct {
	in    *bufio.Reader
	heard func() // is called for each line; nil: for none
}

func newEventReader(r io.Reader) *eventReader {
	return &eventReader{in: bufio.NewReaderSize(r, 64<<10)}
}

var errLongEvent = errors.New("the server sent an event of more than 256 MiB")

// next returns the data of an event that has some. Its bytes are the caller's to keep.
func (r *eventReader) next() ([]byte, error) {
	var data []byte
	for begun := false; ; {
		line, err := r.line()
		if err != nil {
			return nil, err
		}
		if r.heard != nil {
			r.heard()
		}
		switch value, has := bytes.CutPrefix(line, []byte("data:")); {
		case has && len(data)+len(value) > maxIncoming:
			return nil, errLongEvent
		case has:
			if begun {
				data = append(data, '\n')
			}
			data, begun = append(data, bytes.TrimPrefix(value, []byte(" "))...), true
		case len(line) == 0 && begun:
			return data, nil
		}
	}
}

// line returns a line without its end, good until the next.
func (r *eventReader) line() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		long := bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			if len(long) > maxIncoming {
				return nil, errLongEvent
			}
			line, err = r.in.ReadSlice('\n')
			long = append(long, line...)
		}
		line = long
	}
	if err != nil {
		return nil, err // what is not ended by a line is no event
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}
