package wire

// The answer of GET /history/{topic} is made in pieces, so that nobody need
// hold it whole: AppendHistoryStart, messages as AppendMessage makes them with
// commas in between, AppendHistoryEnd.
//
//	{"topic":"chat.lobby","messages":[{"type":"message",…},{"type":"message",…}],"cursor":"k3:58"}

// AppendHistoryStart opens an answer.
func AppendHistoryStart(dst []byte, topic string) []byte {
	dst = appendText(dst, `{"topic":`, topic)
	return append(dst, `,"messages":[`...)
}

// HistoryEnd is what an answer says of itself.
type HistoryEnd struct {
	Cursor  string    // from which to go on
	Resumed Recovery  // what became of the cursor that was given
	Why     GapReason // of Truncated
	More    bool      // messages of the topic behind Cursor
}

// AppendHistoryEnd closes it.
func AppendHistoryEnd(dst []byte, e HistoryEnd) []byte {
	dst = append(dst, ']')
	dst = appendOptional(dst, `,"cursor":`, e.Cursor)
	dst = appendRecovery(dst, e.Resumed, e.Why)
	if e.More {
		dst = append(dst, `,"more":true`...)
	}
	return append(dst, '}')
}
