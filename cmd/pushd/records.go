package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// row is one record of the input.
type row struct {
	data []byte                             // what to publish: JSON on one line
	end  int64                              // bytes of input up to its end
	text func(field string) (string, error) // of the field; an error where there is none
}

// rowReader reads one input from start to end, where it returns io.EOF.
type rowReader interface{ read() (row, error) }

// The formats of an input.
const (
	formatAuto  = "auto"
	formatCSV   = "csv"
	formatJSON  = "ndjson"
	formatLines = "lines"
)

// newRowReader reads input in the format given. formatAuto goes by the file's
// name, then by its first byte, and for the rest takes it for a CSV where the
// topic needs fields, which lines do not have.
func newRowReader(input io.Reader, name, format string, needFields bool) (rowReader, error) {
	in := bufio.NewReaderSize(input, 64<<10)
	const mark = "\uFEFF" // some editors start UTF-8 with it, and it belongs to no value
	var skipped int64
	if start, err := in.Peek(len(mark)); err == nil && string(start) == mark {
		n, _ := in.Discard(len(mark)) // what was peeked at is there
		skipped = int64(n)
	}
	if format == formatAuto {
		format = guessFormat(in, name, needFields)
	}
	switch format {
	case formatCSV:
		return newCSVReader(in, skipped)
	case formatJSON:
		return &jsonReader{lines: lineReader{in: in, end: skipped}}, nil
	}
	if needFields {
		return nil, errors.New("plain lines have no fields that --topic could name: is the --format right?")
	}
	return &textReader{lines: lineReader{in: in, end: skipped}}, nil
}

func guessFormat(in *bufio.Reader, name string, needFields bool) string {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".csv":
		return formatCSV
	case ".ndjson", ".jsonl":
		return formatJSON
	case ".txt", ".log":
		return formatLines
	}
	if first, err := in.Peek(1); err == nil && first[0] == '{' {
		return formatJSON
	}
	if needFields {
		return formatCSV
	}
	return formatLines
}

func noField(field string, has []string) error {
	if len(has) == 0 {
		return fmt.Errorf("it has no field %q", field)
	}
	return fmt.Errorf("it has no field %q, but %s", field, strings.Join(has, ", "))
}

// csvReader makes an object of each record (RFC 4180), with the names of the
// header.
type csvReader struct {
	in      *csv.Reader
	skipped int64
	header  []string
	labels  [][]byte // each name as JSON, with its colon
	column  map[string]int
}

func newCSVReader(in io.Reader, skipped int64) (*csvReader, error) {
	r := &csvReader{in: csv.NewReader(in), skipped: skipped, column: make(map[string]int)}
	header, err := r.in.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("has no header, which a CSV must start with")
	}
	if err != nil {
		return nil, err
	}
	r.header = header
	for i, name := range header {
		if _, twice := r.column[name]; twice {
			return nil, fmt.Errorf("has two columns named %q", name)
		}
		r.column[name] = i
		label, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		r.labels = append(r.labels, append(label, ':'))
	}
	return r, nil
}

func (r *csvReader) read() (row, error) {
	cells, err := r.in.Read()
	if err != nil {
		return row{}, err
	}
	object := []byte{'{'}
	for i, cell := range cells {
		if i > 0 {
			object = append(object, ',')
		}
		object = append(object, r.labels[i]...)
		if object, err = appendCell(object, cell); err != nil {
			return row{}, err
		}
	}
	return row{
		data: append(object, '}'),
		end:  r.skipped + r.in.InputOffset(),
		text: func(field string) (string, error) {
			i, ok := r.column[field]
			if !ok {
				return "", noField(field, r.header)
			}
			return cells[i], nil
		},
	}, nil
}

// appendCell appends a number where the cell is one as JSON has it, written the
// same way, else a string: 007 is an article's number and no 7.
func appendCell(object []byte, cell string) ([]byte, error) {
	if cell != "" && (cell[0] == '-' || '0' <= cell[0] && cell[0] <= '9') && json.Valid([]byte(cell)) {
		return append(object, cell...), nil
	}
	text, err := json.Marshal(cell)
	return append(object, text...), err
}

// jsonReader takes each line for a JSON value, as it is.
type jsonReader struct{ lines lineReader }

func (r *jsonReader) read() (row, error) {
	line, err := r.lines.next()
	if err != nil {
		return row{}, err
	}
	if !json.Valid(line) {
		return row{}, errors.New("it is no JSON")
	}
	var fields map[string]json.RawMessage // nil until one is asked for
	return row{data: line, end: r.lines.end, text: func(field string) (string, error) {
		if fields == nil && json.Unmarshal(line, &fields) != nil {
			return "", fmt.Errorf("it is no JSON object, which alone could have a field %q", field)
		}
		value, ok := fields[field]
		if !ok {
			return "", noField(field, nil)
		}
		return scalarText(field, value)
	}}, nil
}

// scalarText returns what stands for a JSON value in a topic.
func scalarText(field string, value json.RawMessage) (string, error) {
	switch value[0] {
	case '"':
		var text string
		err := json.Unmarshal(value, &text)
		return text, err
	case '{', '[', 'n':
		return "", fmt.Errorf("its field %q is %s, which cannot be a token of a topic", field, value)
	}
	return string(value), nil // a number as it is written, true or false
}

// textReader publishes each line: as it is where it is JSON, else as a JSON string.
type textReader struct{ lines lineReader }

func (r *textReader) read() (row, error) {
	line, err := r.lines.next()
	if err != nil {
		return row{}, err
	}
	if !json.Valid(line) {
		if !utf8.Valid(line) {
			return row{}, errors.New("it is no UTF-8")
		}
		if line, err = json.Marshal(string(line)); err != nil {
			return row{}, err
		}
	}
	return row{data: line, end: r.lines.end, text: func(field string) (string, error) {
		return "", noField(field, nil)
	}}, nil
}

// lineReader returns the lines that hold anything, without their ends.
type lineReader struct {
	in  *bufio.Reader
	end int64
}

// maxLine, in bytes, is beyond the largest message of any server: a longer
// line is no record, and shall not fill the memory.
const maxLine = 128 << 20

func (r *lineReader) next() ([]byte, error) {
	for {
		var line []byte
		for {
			piece, err := r.in.ReadSlice('\n')
			r.end += int64(len(piece))
			line = append(line, piece...)
			if err == nil || errors.Is(err, io.EOF) && len(line) > 0 {
				break
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				return nil, err
			}
			if len(line) > maxLine {
				return nil, fmt.Errorf("it has more than %d bytes on one line", maxLine)
			}
		}
		if len(bytes.TrimSpace(line)) > 0 {
			return bytes.TrimRight(line, "\r\n"), nil
		}
	}
}
