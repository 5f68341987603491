package tracing

import (
	"regexp"
	"strings"
	"testing"
)

// What is valid, of the version that there is (W3C Trace Context, 3.2.2), but for
// IDs of zeros. OpenTelemetry's parser minds no dash at the end.
var version00 = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]-?$`)

// FuzzTraceparent compares what is read with the rules, and has it come back as it was.
func FuzzTraceparent(f *testing.F) {
	for _, s := range []string{theirs, theirsIgnored, "01" + theirs[2:] + "-x", "ff" + theirs[2:], strings.ToUpper(theirs), theirs + "-", "00-", "", theirs[:54] + "4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		parent := traceparent(s).parse()
		valid := version00.MatchString(s) && strings.Trim(s[3:35], "0") != "" && strings.Trim(s[36:52], "0") != ""
		if strings.HasPrefix(s, "00") && parent.IsValid() != valid {
			t.Errorf("%q is valid: %v", s, parent.IsValid())
		}
		if !parent.IsValid() {
			return
		}
		if back := formatTraceparent(parent); valid && back != strings.TrimSuffix(s, "-") || len(back) != len(theirs) || !version00.MatchString(back) {
			t.Errorf("%q comes back as %q", s, back)
		}
	})
}
