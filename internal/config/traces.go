package config

import (
	"errors"
	"math"
	"net/url"
)

// traces checks who is sent traces, and how many.
func (v *validator) traces(c *Config) {
	if c.TraceEndpoint != "" {
		if err := checkCollector(c.TraceEndpoint); err != nil {
			v.addf("trace-endpoint", "--trace-endpoint: %v", err)
		}
	}
	between(v, "trace-ratio", c.TraceRatio, 0, 1)
	if math.IsNaN(c.TraceRatio) {
		v.addf("trace-ratio", "--trace-ratio is no number, but must be 0 to 1")
	}
	between(v, "trace-limit", c.TraceLimit, 0, 1_000_000)
}

// checkCollector does not repeat the URL: it may have a secret in it.
func checkCollector(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return errors.New("it must be an http:// or https:// URL, for instance http://127.0.0.1:4318")
	case u.User != nil:
		return errors.New("the URL has a user in it: put what the collector wants to see into OTEL_EXPORTER_OTLP_HEADERS")
	}
	return nil
}
