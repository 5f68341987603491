package wire

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const published = "../../docs/PROTOCOL.md"

func readPublished(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(published)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every line of the published examples is made by the code, byte for byte, or read by it.
func TestPublishedExamples(t *testing.T) {
	seen := map[string]bool{}
	inExample := false
	for n, line := range strings.Split(readPublished(t), "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inExample = line == "```jsonc"
		case inExample && line != "":
			example, err := withoutComment(line)
			if err != nil {
				t.Errorf("%s:%d: %v: %s", published, n+1, err, line)
				continue
			}
			kind, err := checkExample(example)
			if err != nil {
				t.Errorf("%s:%d: %v", published, n+1, err)
			}
			seen[kind] = true
		}
	}
	for _, kind := range []string{
		"subscribe", "unsubscribe", "publish", "auth", "presence command", "ping",
		"welcome", "subscribed", "message", "gap", "skipped", "unsubscribed", "published",
		"authenticated", "token_expires", "presence", "pong", "error", "reconnect",
		"publication", "result", "failure", "refusal", "history", "polled",
	} {
		if !seen[kind] {
			t.Errorf("%s shows no %s", published, kind)
		}
	}
}

// The published stream of events is what a client makes the same messages of.
func TestPublishedEvents(t *testing.T) {
	_, behind, _ := strings.Cut(readPublished(t), "```event-stream\n")
	text, _, _ := strings.Cut(behind, "```")
	seen := map[string]bool{}
	for _, e := range interpret(text) {
		kind, err := checkExample([]byte(e.data))
		if err != nil {
			t.Errorf("%s: %v", e.data, err)
		}
		if want := strings.Replace(kind, "message", "", 1); e.typ != want {
			t.Errorf("%q is an event of type %q", e.data, e.typ)
		}
		seen[kind] = true
	}
	for _, kind := range []string{"welcome", "subscribed", "message", "gap", "close"} {
		if !seen[kind] {
			t.Errorf("%s shows no event of %s", published, kind)
		}
	}
}

func withoutComment(line string) ([]byte, error) {
	var example json.RawMessage
	d := json.NewDecoder(strings.NewReader(line))
	if err := d.Decode(&example); err != nil {
		return nil, err
	}
	if rest := strings.TrimSpace(line[d.InputOffset():]); rest != "" && !strings.HasPrefix(rest, "//") {
		return nil, fmt.Errorf("%q behind the object is no comment", rest)
	}
	return example, nil
}

// checkExample says what an example is an example of, or what is wrong with it.
func checkExample(example []byte) (kind string, err error) {
	var e struct {
		Type, Client, Topic, Cursor, From, To, Reason, Message, Encoding string
		Code                                                             errorOrClose
		ID, Data                                                         json.RawMessage
		Recovered                                                        *bool
		Messages                                                         []json.RawMessage
		More                                                             bool
		Connections                                                      *int
		Heartbeat, Time, Expires, After                                  int64
		MaxMessage                                                       int `json:"max_message"`
		RetryAfter                                                       int `json:"retry_after"`
		Count                                                            int
	}
	if err := json.Unmarshal(example, &e); err != nil {
		return "", err
	}
	var r Parser
	var c Command
	if e.Type == "presence" && e.Connections == nil || slices.Contains([]string{"subscribe", "unsubscribe", "publish", "auth", "ping"}, e.Type) {
		if err := understand(&r, &c, string(example)); err != nil {
			return e.Type, fmt.Errorf("this command is refused: %v", err)
		}
		if e.Type == "presence" {
			return "presence command", nil
		}
		return e.Type, nil
	}
	if e.Type == "" && e.Data != nil {
		var pub Publication
		if err := r.ParsePublication(example, &pub); err != nil {
			return "publication", fmt.Errorf("this publication is refused: %v", err)
		}
		return "publication", nil
	}

	// What the server says: make it again from its own values.
	var id ID
	id.n = uint8(copy(id.raw[:], e.ID))
	var recovery Recovery
	if e.Recovered != nil {
		recovery = Truncated
		if *e.Recovered {
			recovery = Recovered
		}
	}
	var got []byte
	kind = e.Type
	switch e.Type {
	case "welcome":
		got = AppendWelcome(nil, e.Client, time.Duration(e.Heartbeat)*time.Millisecond, e.MaxMessage)
	case "subscribed":
		got = AppendSubscribed(nil, id, e.Topic, e.Cursor, recovery, GapReason(e.Reason))
	case "message":
		payload := []byte(e.Data)
		if e.Encoding != "" {
			payload, _ = PayloadOf(e.Data, e.Encoding)
		}
		got = AppendMessage(nil, e.Topic, e.Cursor, e.Time, payload)
	case "gap":
		got = AppendGap(nil, e.Topic, e.From, e.To, GapReason(e.Reason))
	case "skipped":
		got = AppendSkipped(nil, e.Topic, e.Count)
	case "unsubscribed":
		got = AppendUnsubscribed(nil, id, e.Topic, UnsubscribedReason(e.Reason))
	case "published":
		got = AppendPublished(nil, id, e.Topic, e.Cursor)
	case "authenticated":
		got = AppendAuthenticated(nil, id, e.Expires)
	case "token_expires":
		got = AppendTokenExpires(nil, time.Duration(e.After)*time.Millisecond, e.Expires)
	case "presence":
		got = AppendPresence(nil, id, e.Topic, *e.Connections)
	case "pong":
		got = AppendPong(nil, id)
	case "error":
		got = AppendError(nil, id, ErrorCode(e.Code), e.Message)
		if e.RetryAfter > 0 {
			got = AppendRateLimited(nil, id, e.Message, time.Duration(e.RetryAfter)*time.Millisecond)
		}
	case "close":
		code, _ := strconv.Atoi(string(e.Code))
		got = AppendClose(nil, CloseCode(code), e.Reason)
	case "reconnect":
		got = AppendReconnect(nil, time.Duration(e.After)*time.Millisecond, ReconnectReason(e.Reason))
	case "":
		switch {
		case e.Messages != nil && e.Topic == "":
			kind = "polled"
			for _, m := range e.Messages {
				if _, err := checkExample(m); err != nil {
					return kind, err
				}
				got = append(append(got, m...), ',')
			}
			got = AppendPolled(nil, got, []byte(e.Cursor))
		case e.Messages != nil:
			kind, got = "history", AppendHistoryStart(nil, e.Topic)
			got = append(got, bytes.Join(asBytes(e.Messages), []byte(","))...)
			got = AppendHistoryEnd(got, HistoryEnd{Cursor: e.Cursor, Resumed: recovery, Why: GapReason(e.Reason), More: e.More})
			for _, m := range e.Messages {
				if of, err := checkExample(m); err != nil || of != "message" {
					return kind, fmt.Errorf("it has what is no message: %v", err)
				}
			}
		case e.Code == "":
			kind, got = "result", AppendResult(nil, e.Topic, e.Cursor)
		case e.Topic != "":
			kind, got = "failure", AppendFailure(nil, e.Topic, ErrorCode(e.Code), e.Message)
		default:
			kind, got = "refusal", AppendRefusal(nil, ErrorCode(e.Code), e.Message)
		}
	default:
		return kind, fmt.Errorf("no message of type %q", e.Type)
	}
	if !bytes.Equal(got, example) {
		return kind, fmt.Errorf("the code makes\n%s\nof what the page shows as\n%s", got, example)
	}
	return kind, nil
}

// errorOrClose is the code of an error, or the number of a close.
type errorOrClose string

func (c *errorOrClose) UnmarshalJSON(text []byte) error {
	*c = errorOrClose(strings.Trim(string(text), `"`))
	return nil
}

func asBytes(messages []json.RawMessage) [][]byte {
	list := make([][]byte, len(messages))
	for i, m := range messages {
		list[i] = m
	}
	return list
}

func TestPublishedCloseCodes(t *testing.T) {
	row := regexp.MustCompile(`(?m)^\| (\d{4}(?:, \d{4})*) \| (.+) \| (.+) \|$`)
	var shown []CloseInfo
	for _, m := range row.FindAllStringSubmatch(readPublished(t), -1) {
		codes := strings.Split(m[1], ", ")
		for i, code := range codes {
			n, err := strconv.Atoi(code)
			if err != nil {
				t.Fatal(err)
			}
			shown = append(shown, CloseInfo{
				Code:    CloseCode(n),
				Meaning: cell(m[2], i, len(codes)),
				How:     cell(m[3], i, len(codes)),
			})
		}
	}
	slices.SortFunc(shown, func(a, b CloseInfo) int { return cmp.Compare(a.Code, b.Code) }) // rows group codes by what a client does
	names := map[string]bool{}
	var want []CloseInfo
	for _, c := range CloseCodes() {
		if c.Reconnect != strings.HasPrefix(c.How, "yes") {
			t.Errorf("%d: Reconnect is %v, but How is %q", c.Code, c.Reconnect, c.How)
		}
		if (c.Wait == 10*time.Second) != strings.Contains(c.How, "at least 10 s") {
			t.Errorf("%d: Wait is %v, but How is %q", c.Code, c.Wait, c.How)
		}
		if names[c.Name] || c.Name == "" {
			t.Errorf("%d: the name %q is taken or empty", c.Code, c.Name)
		}
		names[c.Name] = true
		want = append(want, CloseInfo{Code: c.Code, Meaning: c.Meaning, How: c.How})
	}
	if !slices.Equal(shown, want) {
		t.Errorf("%s and the code differ\npage %+v\ncode %+v", published, shown, want)
	}
}

// cell returns what a cell of a row with several codes says of code i: its
// parts are parted by semicolons, or by commas, or it says the same of all.
func cell(text string, i, codes int) string {
	for _, sep := range []string{"; ", ", "} {
		if parts := strings.Split(text, sep); codes > 1 && len(parts) == codes {
			return parts[i]
		}
	}
	return text
}

func TestPublishedErrorCodes(t *testing.T) {
	page := readPublished(t)
	_, after, _ := strings.Cut(page, "\nError codes: ")
	sentence, _, _ := strings.Cut(after, ".")
	var shown []ErrorCode
	for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(sentence, -1) {
		shown = append(shown, ErrorCode(m[1]))
	}
	want := []ErrorCode{BadRequest, UnknownType, InvalidTopic, Unauthorized, Forbidden, TooManyTopics,
		MessageTooLarge, RateLimited, NoHistory, Unavailable, Internal}
	if !slices.Equal(shown, want) {
		t.Errorf("%s and the code differ\npage %v\ncode %v", published, shown, want)
	}
}

func TestPublishedLimits(t *testing.T) {
	page := readPublished(t)
	for _, want := range []string{
		fmt.Sprintf("at most %d deep", maxDepth),
		fmt.Sprintf("nests deeper than %d", maxDepth),
		fmt.Sprintf("at most %d bytes as it stands in the JSON", maxIDLength),
		fmt.Sprintf("1 to %d visible ASCII", MaxKeyLength),
		SubprotocolJSON, SubprotocolRaw,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%s does not say %q", published, want)
		}
	}
}
