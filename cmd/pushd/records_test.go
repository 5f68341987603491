package main

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestRecords(t *testing.T) {
	type want []string // each record's data, and after a space the field s
	f := func(name, format, input string, want want, wantErr string) {
		t.Helper()
		var got []string
		rows, err := newRowReader(strings.NewReader(input), name, format, true)
		for err == nil {
			var r row
			if r, err = rows.read(); err != nil {
				break
			}
			value, fieldErr := r.text("s")
			if fieldErr != nil {
				value = fieldErr.Error()
			}
			got = append(got, string(r.data)+" "+value)
			if r.end > int64(len(input)) {
				t.Errorf("%q: a record ends at byte %d of %d", input, r.end, len(input))
			}
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%q\ngot  %q\nwant %q", input, got, want)
		}
		gotErr := ""
		if !errors.Is(err, io.EOF) {
			gotErr = err.Error()
		}
		if gotErr != wantErr {
			t.Errorf("%q ended with %q, want %q", input, gotErr, wantErr)
		}
	}

	// CSV: numbers stay numbers where JSON has them, written as they were.
	f("x.csv", formatAuto, "s,price\nAAPL,187.20\nB,-1e5\n", want{`{"s":"AAPL","price":187.20} AAPL`, `{"s":"B","price":-1e5} B`}, "")
	f("", formatCSV, "s,n\nx,007\ny,\nz,+1\nz, 1\nz,true\nz,0x1\nz,NaN\nz,-\n", want{
		`{"s":"x","n":"007"} x`, `{"s":"y","n":""} y`, `{"s":"z","n":"+1"} z`, `{"s":"z","n":" 1"} z`,
		`{"s":"z","n":"true"} z`, `{"s":"z","n":"0x1"} z`, `{"s":"z","n":"NaN"} z`, `{"s":"z","n":"-"} z`}, "")
	f("", formatCSV, "s,\"odd \"\"name\"\"\"\r\n\"a,b\",\"two\nlines\"\r\n", want{`{"s":"a,b","odd \"name\"":"two\nlines"} a,b`}, "")
	f("", formatCSV, "\uFEFFs\nx", want{`{"s":"x"} x`}, "")
	f("", formatCSV, "n\n1\n", want{`{"n":1} it has no field "s", but n`}, "")
	f("", formatCSV, "s,n\nx,1\ny\n", want{`{"s":"x","n":1} x`}, "record on line 3: wrong number of fields")
	f("", formatCSV, "s,s\n", nil, `has two columns named "s"`)
	f("", formatCSV, "", nil, "has no header, which a CSV must start with")

	// NDJSON: lines as they are.
	f("x.ndjson", formatAuto, "{\"s\": \"a\" }\n\n{\"s\":1.50}\r\n{\"s\":true}", want{`{"s": "a" } a`, `{"s":1.50} 1.50`, `{"s":true} true`}, "")
	f("", formatAuto, `{"s":"\u0041"}`, want{`{"s":"\u0041"} A`}, "")
	f("", formatAuto, "\uFEFF{\"s\":\"a\"}", want{`{"s":"a"} a`}, "")
	f("", formatJSON, `{"s":null}`+"\n"+`{"s":{"s":1}}`+"\n"+`{"t":1}`+"\n"+`[1]`+"\n"+`null`, want{
		`{"s":null} its field "s" is null, which cannot be a token of a topic`,
		`{"s":{"s":1}} its field "s" is {"s":1}, which cannot be a token of a topic`,
		`{"t":1} it has no field "s"`,
		`[1] it is no JSON object, which alone could have a field "s"`,
		`null it has no field "s"`}, "")
	f("", formatJSON, "{\"s\":1}\n{s:1}\n", want{`{"s":1} 1`}, "it is no JSON")

	// Fields need a format that has some.
	f("", formatAuto, "s\nx\n", want{`{"s":"x"} x`}, "")
	f("x.txt", formatAuto, "s\n", nil, "plain lines have no fields that --topic could name: is the --format right?")
}

func TestRecordsOfLines(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	rows, err := newRowReader(strings.NewReader("plain \"text\"\n\n  indented\n{\"a\": 1}\n[1,2]\n42\n"+long), "-", formatAuto, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"plain \"text\""`, `"  indented"`, `{"a": 1}`, `[1,2]`, `42`, `"` + long + `"`} {
		if r, err := rows.read(); err != nil || string(r.data) != want {
			t.Errorf("got %.50q, %v; want %.50q", r.data, err, want)
		}
	}
	if _, err := rows.read(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}

	rows, err = newRowReader(strings.NewReader("a\xffb\n"), "-", formatLines, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rows.read(); err == nil || err.Error() != "it is no UTF-8" {
		t.Errorf("got %v", err)
	}
}
